"""An S3 service for tests: moto's, behind a door that checks every signature with botocore's signer.

    python s3_service.py PORT ACCESS_KEY SECRET_KEY

Refuses with 403 a request whose signature, in its Authorization header or as URL, is not the one that
botocore computes over it, and one with fields of S3's that are not signed; with 400 one whose body is not
the signed one, or has not the checksum that it names, which moto believes. Ends with its standard input.
"""

import base64
import hashlib
import io
import sys
import threading
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qsl, quote, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

TIME_FORMAT = "%Y%m%dT%H%M%SZ"


class Refusal(Exception):
    """Why a request is not let in."""


class WrongBody(Refusal):
    """The body is not what the request says."""


def fields(header: str) -> dict[str, str]:
    """Return the parts of an Authorization header."""
    scheme, _, rest = header.partition(" ")
    if scheme != "AWS4-HMAC-SHA256":
        raise Refusal(f"the scheme is {scheme!r}")
    return dict(part.strip().split("=", 1) for part in rest.split(","))


def check(request: Request, target: str, credentials: Credentials) -> None:
    """Raise Refusal unless the request is signed with the key, now, over what it is."""
    url = urlsplit(f"http://{request.host}{target}")
    query = parse_qsl(url.query, keep_blank_values=True)
    named = dict(query)
    presigned = "X-Amz-Signature" in named
    if presigned:
        signature, names = named["X-Amz-Signature"], named["X-Amz-SignedHeaders"]
        scope, time, body_hash = named["X-Amz-Credential"], named["X-Amz-Date"], None
        query = [pair for pair in query if pair[0] != "X-Amz-Signature"]
        lifetime = timedelta(seconds=int(named["X-Amz-Expires"]))
    else:
        parts = fields(request.headers.get("Authorization", ""))
        signature, names, scope = parts["Signature"], parts["SignedHeaders"], parts["Credential"]
        time, body_hash = request.headers["x-amz-date"], request.headers["x-amz-content-sha256"]
        lifetime = timedelta(minutes=15)
        if body_hash != hashlib.sha256(request.get_data()).hexdigest():
            raise WrongBody("the body is not the signed one")
    unsigned = {name.lower() for name in request.headers.keys()} - set(names.split(";"))
    if any(name.startswith("x-amz-") for name in unsigned):
        raise Refusal(f"not all fields are signed: {sorted(unsigned)}")
    checksum = request.headers.get("x-amz-checksum-sha256")
    if checksum not in (None, base64.b64encode(hashlib.sha256(request.get_data()).digest()).decode()):
        raise WrongBody("the body has another checksum")
    access_key, _, region, service, _ = scope.split("/")
    if access_key != credentials.access_key or service != "s3":
        raise Refusal("the key is unknown")
    age = datetime.now(timezone.utc) - datetime.strptime(time, TIME_FORMAT).replace(tzinfo=timezone.utc)
    if not timedelta(minutes=-15) < age < lifetime:
        raise Refusal("the signature is not for now")

    encoded = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query)
    headers = {name: request.headers[name] for name in names.split(";")}
    message = AWSRequest(request.method, url._replace(query=encoded).geturl(), headers)
    message.context["timestamp"] = time
    signer = (S3SigV4QueryAuth if presigned else S3SigV4Auth)(credentials, service, region)
    expected = signer.signature(signer.string_to_sign(message, signer.canonical_request(message)), message)
    if signature != expected:
        raise Refusal("the signature is another one")


def main() -> None:
    port, access_key, secret_key = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    credentials = Credentials(access_key, secret_key)
    service = DomainDispatcherApplication(create_backend_app)

    def application(environ, start_response):
        request = Request(environ)
        environ["wsgi.input"] = io.BytesIO(request.get_data())
        try:
            check(request, environ["REQUEST_URI"], credentials)
        except (Refusal, KeyError, ValueError) as reason:
            print(f"{request.method} {environ['REQUEST_URI']}: {reason!r}", file=sys.stderr)
            status, code = (400, "BadDigest") if isinstance(reason, WrongBody) else (403, "SignatureDoesNotMatch")
            body = f"<Error><Code>{code}</Code><Message>{reason}</Message></Error>"
            return Response(body, status, mimetype="application/xml")(environ, start_response)
        return service(environ, start_response)

    server = make_server("127.0.0.1", port, application, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()

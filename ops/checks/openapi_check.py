"""Asks a coordinator what its OpenAPI document promises; by ops/checks/openapi only.

    python openapi_check.py DOCUMENT

sends every GET of the document and checks each answer against its schema. As the hooks of Schemathesis this
module puts things that exist in place of every other name that it draws, so that its requests do not all end
at "there is no such job". The environment says where: FLOWPACK_URL, FLOWPACK_TOKEN, FLOWPACK_FOLDER.
"""

import copy
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import requests
import schemathesis
import yaml
from openapi_schema_validator import OAS31Validator

MODEL = b"model"
MODEL_ID = hashlib.sha256(MODEL).hexdigest()


class Coordinator:
    """A user and a worker of the coordinator, who do as they should."""

    def __init__(self) -> None:
        self.url = os.environ["FLOWPACK_URL"]
        self.folder = Path(os.environ["FLOWPACK_FOLDER"])
        self.session = requests.Session()
        self.session.headers["Authorization"] = f"Bearer {os.environ['FLOWPACK_TOKEN']}"
        self.run = f"{os.getpid()}-{time.monotonic_ns()}"
        self.protocol_version = self.session.get(f"{self.url}/version", timeout=60).json()["protocolVersion"]
        self.sources = 0
        self.jobs: list[int] = []
        self.workers: list[str] = []

    def call(self, path: str, body: Any) -> Any:
        """Send a request that has to succeed."""
        response = self.session.post(self.url + path, json=body, timeout=60)
        if response.status_code != 200:
            sys.exit(f"POST {path}: {response.status_code} {response.text}")
        return response.json()

    def folders(self, files: int) -> dict[str, Any]:
        """Make a source, and a destination with a model; return what to submit."""
        self.sources += 1
        name = f"{self.run}-{self.sources}"
        source, destination = self.folder / f"in-{name}", self.folder / f"out-{name}"
        source.mkdir()
        destination.mkdir()
        (destination / f"model-{MODEL_ID[:16]}.safetensors").write_bytes(MODEL)
        for number in range(files):
            (source / f"{number}.png").write_text(f"image {number}")
        return {"source": str(source), "destination": str(destination), "modelID": MODEL_ID}

    def submit(self, files: int) -> int:
        """Make a job with a shard for each file, and wait until it is planned."""
        options = {"shardBytes": 1, "priority": 100, "maxWorkers": 1000}
        job = self.call("/v1/jobs", self.folders(files) | options)["job"]
        self.jobs.append(job)
        self.wait(job, "isScanFinished", True)
        return job

    def register(self) -> str:
        """Make a worker known."""
        worker = f"worker-{self.run}-{len(self.workers)}"
        about = {"version": "1", "host": "host", "device": "cpu", "instructionSet": "reference", "slots": 2}
        self.call("/v1/workers", about | {"worker": worker, "protocolVersion": self.protocol_version})
        self.workers.append(worker)
        return worker

    def lease(self) -> dict[str, Any]:
        """Take a lease; with another worker and another job, if these have been dealt with badly."""
        for _ in range(3):
            worker = self.workers[-1] if self.workers else self.register()
            wish = {"worker": worker, "shards": 1, "waitSeconds": 0}
            response = self.session.post(f"{self.url}/v1/leases", json=wish, timeout=60)
            reply = response.json()
            if response.status_code != 200 or reply["directive"] != "continue":
                self.register()
            elif reply["leases"]:
                return reply["leases"][0]
            else:
                self.submit(files=32)
        sys.exit("There is a job and a worker, and no lease.")

    def complete(self, lease: dict[str, Any], problems: list[dict[str, str]]) -> None:
        """Put the output of a lease in its place, and report it."""
        output = lease["lease"].encode()
        digest = hashlib.sha256(output).hexdigest()
        shards = Path(lease["destination"]) / "shards"
        shards.mkdir(exist_ok=True)
        (shards / f"{lease['ordinal']:05}-{digest}.fpk").write_bytes(output)
        counts = {"samples": len(lease["samples"]), "storedSamples": len(lease["samples"])}
        counts |= {"flowSamples": 0, "sourceBytes": 7, "flowDimensions": 0, "flowBytes": 0}
        report = {"lease": lease["lease"], "sha256": digest, "bytes": len(output), "seconds": 0.5}
        totals = counts | {"storedReasons": {"not an image": 1}}
        self.call(f"/v1/leases/{lease['lease']}/complete", report | {"totals": totals, "problems": problems})

    def fail(self, lease: dict[str, Any], kind: str) -> None:
        """Report that an attempt failed."""
        report = {"lease": lease["lease"], "failureClass": kind, "message": "out of memory"}
        self.call(f"/v1/leases/{lease['lease']}/fail", report)

    def wait(self, job: int, key: str, value: Any) -> None:
        """Wait until a job's status says what it should."""
        for _ in range(1200):
            status = self.session.get(f"{self.url}/v1/jobs/{job}", timeout=60).json()
            if status[key] == value:
                return
            time.sleep(0.02)
        sys.exit(f"Of job {job} {key} is {status[key]}, not {value}.")

    def prepare(self) -> dict[str, Any]:
        """Make jobs that went well, wrong and part of the way; return a lease that is held."""
        complete = self.submit(files=1)
        self.complete(self.lease(), [{"name": "0.png", "reason": "not an image"}])
        self.wait(complete, "state", "completed_with_fallbacks")
        failed = self.submit(files=2)
        self.fail(self.lease(), "config")
        self.wait(failed, "state", "failed")
        self.submit(files=4)
        self.fail(self.lease(), "transient")
        self.complete(self.lease(), [])
        return self.lease()


def read(document: dict[str, Any]) -> None:
    """Send every GET and check each answer against its schema."""
    coordinator = Coordinator()
    version = document["info"]["version"]
    if version != str(coordinator.protocol_version):
        sys.exit(f"The document is of version {version}, the protocol of {coordinator.protocol_version}.")
    lease = coordinator.prepare()
    count = 0
    for template, path in document["paths"].items():
        if "get" not in path:
            continue
        documented = path["get"]["responses"]["200"]
        if "$ref" in documented:
            documented = document["components"]["responses"][documented["$ref"].split("/")[-1]]
        (media_type, media), = documented["content"].items()
        for job in coordinator.jobs if "{job}" in template else [0]:
            count += 1
            url = template.format(job=job, lease=lease["lease"], sha256=MODEL_ID)
            query = {"lease": lease["lease"]} if "{sha256}" in template else {}
            response = coordinator.session.get(coordinator.url + url, params=query, timeout=60)
            found = response.headers.get("Content-Type", "").split(";")[0]
            if (response.status_code, found) != (200, media_type):
                sys.exit(f"GET {url}: {response.status_code} {found}, not 200 {media_type}: {response.text}")
            body = response.json() if media_type == "application/json" else response.text
            schema = media.get("schema", {}) | {"components": document["components"]}
            for error in OAS31Validator(schema).iter_errors(body):
                sys.exit(f"GET {url}: {error.json_path}: {error.message}")
    print(f"{count} answers are as the document says")


class Names:
    """What stands in for names that Schemathesis draws."""

    def __init__(self) -> None:
        self.calls = 0
        self.coordinator: Coordinator | None = None

    def replace(self, case: Any) -> None:
        """Put things that exist into every other request."""
        self.calls += 1
        if self.calls % 2 == 0:
            return
        if self.coordinator is None:
            self.coordinator = Coordinator()
            self.coordinator.prepare()
        # Cases share what they are made of.
        path, query, body = map(copy.deepcopy, (case.path_parameters, case.query, case.body))
        operation = case.operation.definition.raw["operationId"]
        if "job" in path:
            path["job"] = self.coordinator.jobs[self.calls // 2 % len(self.coordinator.jobs)]
        if "worker" in path:
            # A worker that leaves does not come back.
            steers = operation.endswith("Worker")
            path["worker"] = self.coordinator.register() if steers else self.coordinator.workers[-1]
        if "lease" in path:
            path["lease"] = self.coordinator.lease()["lease"]
        if "lease" in query:
            query["lease"] = self.coordinator.lease()["lease"]
        if operation == "blob":
            path["sha256"] = MODEL_ID
        if operation == "upload":
            body = repr(body).encode()
            path["sha256"] = hashlib.sha256(body).hexdigest()
            case.headers["Content-Range"] = f"bytes 0-{len(body) - 1}/{len(body)}"
        if isinstance(body, dict):
            self.replace_in_body(operation, path, body)
        case.path_parameters, case.query, case.body = path, query, body

    def replace_in_body(self, operation: str, path: dict[str, Any], body: dict[str, Any]) -> None:
        """Put things that exist into a body of JSON."""
        for name in ["worker", "lease"]:
            if name in path and name in body:
                body[name] = path[name]
        if operation == "lease" and "worker" in body:
            body["worker"] = self.coordinator.workers[-1]
        if operation == "submit" and "source" in body:
            body |= self.coordinator.folders(files=1)
        if operation == "heartbeat" and isinstance(body.get("leases"), list):
            for progress in body["leases"][:1]:
                if isinstance(progress, dict):
                    progress["lease"] = self.coordinator.lease()["lease"]


names = Names()


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: Any) -> None:
    """Change a request before it is sent."""
    names.replace(case)
    wait = case.body.get("waitSeconds") if isinstance(case.body, dict) else None
    if type(wait) is int and 0 < wait <= 25:
        case.body = case.body | {"waitSeconds": 0}


if __name__ == "__main__":
    read(yaml.safe_load(Path(sys.argv[1]).read_text()))

"""Copies folders to and from a bucket, for tests.

    python s3_objects.py put FOLDER BUCKET PREFIX
    python s3_objects.py get FOLDER BUCKET PREFIX     fails if an upload in parts was left open
"""

import pathlib
import sys

import boto3
from botocore.config import Config


def main() -> None:
    verb, folder, bucket, prefix = sys.argv[1:]
    config = Config(request_checksum_calculation="when_required", s3={"addressing_style": "path"})
    service = boto3.client("s3", region_name="us-east-1", config=config)
    root = pathlib.Path(folder)
    if verb == "put":
        service.create_bucket(Bucket=bucket)
        for path in root.rglob("*"):
            if path.is_file():
                service.put_object(Bucket=bucket, Key=f"{prefix}/{path.relative_to(root)}", Body=path.read_bytes())
        return
    for page in service.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/"):
        for found in page["Contents"]:
            path = root / found["Key"].removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(service.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())
    left = service.list_multipart_uploads(Bucket=bucket, Prefix=f"{prefix}/").get("Uploads", [])
    if left:
        sys.exit(f"Uploads were left open: {[upload['Key'] for upload in left]}")


if __name__ == "__main__":
    main()

"""Make a bucket in the S3 store that the environment names, if it is not there: python make_bucket.py NAME."""

import os
import sys
import time

import boto3
from botocore.exceptions import BotoCoreError, ClientError

LIMIT = 60.0  # seconds; a store takes a while from answering to storing


def make_bucket(name: str) -> None:
    """Make it. RuntimeError: the store cannot be written to for a minute."""
    client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    deadline = time.monotonic() + LIMIT
    while True:
        try:
            if name not in {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=name)
            client.put_object(Bucket=name, Key="is-writable", Body=b"yes")
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"cannot write to bucket {name}: {error}") from error
            time.sleep(1)


if __name__ == "__main__":
    make_bucket(sys.argv[1])

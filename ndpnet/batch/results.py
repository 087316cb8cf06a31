"""Where the results of a batch inspection lie on S3, and what they are called."""

from collections.abc import Mapping
from pathlib import Path

from ndpnet.inference import OVERLAY_SUFFIX
from ndpnet.storage.bucket import Bucket
from ndpnet.storage.urls import parse_url

PLAN, TABLE, SUMMARY, TIMING = "plan.json", "predictions.csv", "summary.json", "timing.json"


class Results:
    """Objects below s3://BUCKET/KEY."""

    def __init__(self, out: str, endpoint_url: str = "") -> None:
        """Those under `out`; nothing is asked of the server yet."""
        name, key = parse_url(out)
        self.bucket, self.key = Bucket(name, endpoint_url=endpoint_url), key.rstrip("/")

    def key_of(self, name: str) -> str:
        """Of a result in its bucket."""
        return f"{self.key}/{name}".lstrip("/")

    def url_of(self, name: str) -> str:
        """Of a result."""
        return self.bucket.url_of(self.key_of(name))

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """A small result. ValueError: it is not there."""
        return self.bucket.read(self.key_of(name), max_bytes=max_bytes)

    def put(self, files: Mapping[str, Path]) -> None:
        """Store files by their names, several at once."""
        self.bucket.put_files({self.key_of(name): path for name, path in files.items()})


def overlay_name(path: str) -> str:
    """Of a picture's overlay."""
    return f"overlays/{path}{OVERLAY_SUFFIX}"


def part_name(plan_id: str, shard: int, num_shards: int) -> str:
    """Of the rows of one shard."""
    return f"shards/{plan_id}/{shard:04d}-of-{num_shards:04d}.jsonl"

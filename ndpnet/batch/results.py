"""Where the results of a batch inspection lie on S3, and what they are called."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ndpnet.inference import OVERLAY_SUFFIX
from ndpnet.storage.bucket import Bucket
from ndpnet.storage.s3 import open_bucket, parse_url, read_small
from ndpnet.storage.uploads import put_files

NUM_CONNECTIONS = 8
PLAN, TABLE, SUMMARY, TIMING = "plan.json", "predictions.csv", "summary.json", "timing.json"


@dataclass(frozen=True)
class Results:
    """Objects of one bucket below s3://BUCKET/KEY."""

    bucket: Bucket
    key: str
    endpoint_url: str | None

    @classmethod
    def open(cls, out: str, endpoint_url: str | None) -> "Results":
        """Those under `out`; nothing is asked of the server yet."""
        name, key = parse_url(out)
        bucket = open_bucket(name, endpoint_url=endpoint_url, num_connections=NUM_CONNECTIONS)
        return cls(bucket, key.rstrip("/"), endpoint_url)

    def bucket_named(self, name: str) -> Bucket:
        """A bucket of the same server, such as that of the pictures."""
        if name == self.bucket.name:
            return self.bucket
        return open_bucket(name, endpoint_url=self.endpoint_url, num_connections=NUM_CONNECTIONS)

    def key_of(self, name: str) -> str:
        """Of a result in its bucket."""
        return f"{self.key}/{name}".lstrip("/")

    def url_of(self, name: str) -> str:
        """Of a result."""
        return self.bucket.url_of(self.key_of(name))

    def read(self, name: str, *, max_bytes: int) -> bytes:
        """A small result. ValueError: it is not there."""
        return read_small(self.bucket, self.key_of(name), max_bytes=max_bytes)

    def put(self, files: Mapping[str, Path]) -> None:
        """Store files by their names, several at once."""
        put_files(self.bucket, {self.key_of(name): path for name, path in files.items()}, num_threads=NUM_CONNECTIONS)


def overlay_name(path: str) -> str:
    """Of a picture's overlay."""
    return f"overlays/{path}{OVERLAY_SUFFIX}"


def part_name(plan_id: str, shard: int, num_shards: int) -> str:
    """Of the rows of one shard."""
    return f"shards/{plan_id}/{shard:04d}-of-{num_shards:04d}.jsonl"

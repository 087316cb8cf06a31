"""A prefix of pictures on a real S3 server, and where the results of its inspection go."""

from dataclasses import dataclass
from typing import Any

from servers import S3Server

# in the order of their keys
NAMES = ("A/b#1.png", "A/c%20d.PNG", "a-b/x y.png", "a/x.png", "a/ü/z.png", "b.png", "c.png")
NO_PICTURES = ("a/notes.txt", ".thumbs/x.png", "a/.hidden.png")


@dataclass(frozen=True)
class Place:
    """A prefix of pictures that only one test uses, and where its results go."""

    server: S3Server
    bucket: str
    key: str

    @property
    def prefix(self) -> str:
        return f"s3://{self.bucket}/{self.key}/in"

    def out(self, name: str = "out") -> str:
        return f"s3://{self.bucket}/{self.key}/{name}"

    def put(self, name: str, content: bytes) -> None:
        self.server.put(self.bucket, f"{self.key}/in/{name}", content)

    def remove(self, key: str) -> None:
        self.server.client().delete_object(Bucket=self.bucket, Key=f"{self.key}/{key}")

    def listed(self, name: str = "out") -> dict[str, Any]:
        """What lies below, by name: the entries of S3's listing."""
        page = self.server.client().list_objects_v2(Bucket=self.bucket, Prefix=f"{self.key}/{name}/")
        return {entry["Key"].removeprefix(f"{self.key}/{name}/"): entry for entry in page.get("Contents", ())}

    def results(self, name: str = "out") -> dict[str, bytes]:
        """All that is a function of pictures and model."""
        names = [each for each in self.listed(name) if not each.startswith(("shards/", "plan.json"))]
        return {each: self.read(f"{name}/{each}") for each in names}

    def read(self, key: str) -> bytes:
        return self.server.client().get_object(Bucket=self.bucket, Key=f"{self.key}/{key}")["Body"].read()

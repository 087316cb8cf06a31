"""Which objects a url names, and the path of each below a folder."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from ndpnet.storage.bucket import Bucket, StoredObject
from ndpnet.storage.keys import ClashCheck, relative_path


@dataclass(frozen=True)
class Source:
    """The objects that a url names: the one with this key, or all whose keys begin so."""

    bucket: Bucket
    key: str
    only: StoredObject | None

    @classmethod
    def find(cls, bucket: Bucket, key: str) -> "Source":
        """Ask which of the two a key is. An empty object with others below it marks a folder."""
        if not key or key.endswith("/"):
            return cls(bucket, key, None)
        only = bucket.find(key)
        if only is None or (only.size == 0 and next(bucket.list(key + "/"), None)):
            return cls(bucket, key + "/", None)
        return cls(bucket, key, only)

    def objects(self, *, is_case_sensitive: bool = True) -> Iterator[tuple[StoredObject, PurePosixPath]]:
        """Yield each object with its path below the folder; ValueError names a key that cannot have one."""
        if self.only is not None:
            yield self.only, relative_path(self.key, self.key.rpartition("/")[0] + "/" if "/" in self.key else "")
            return
        clashes = ClashCheck(is_case_sensitive=is_case_sensitive)
        for stored in self.bucket.list(self.key):
            if stored.key.endswith("/") and stored.size == 0:
                continue  # how some tools write down a folder
            path = relative_path(stored.key, self.key)
            clashes.check(str(path))
            yield stored, path

    def measure(self) -> tuple[int, int]:
        """Return number and bytes of the objects; all keys are checked before the first byte is fetched."""
        num_objects = num_bytes = 0
        for stored, _ in self.objects():
            num_objects, num_bytes = num_objects + 1, num_bytes + stored.size
        if num_objects == 0:
            raise ValueError(f"there is no object under {self.bucket.url_of(self.key)} (check bucket and prefix)")
        return num_objects, num_bytes

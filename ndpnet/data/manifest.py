"""The identity of one category's data: every file with its hash, group, split and defect type."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ndpnet.files import hash_of, write_json

SPLITS = ("train", "validation", "calibration", "test")
LEARNT_SPLITS = ("train", "validation")  # what a network learns from, and is chosen by
GOOD = "good"


@dataclass(frozen=True)
class FileRecord:
    """One picture; `path` and `mask_path` are posix paths relative to the category's folder, sizes in pixels.

    pixels_sha256: of what is seen, whatever the file; bit_depth: of its set. What is not read yet has no hashes.
    `tiles`: (left, top) of its training tiles, in pixels of the scaled scan; none where whole pictures are trained on.
    """

    path: str
    group: str
    split: str
    defect_type: str
    bit_depth: int
    sha256: str = ""
    width: int = 0
    height: int = 0
    mask_path: str | None = None
    mask_sha256: str | None = None
    pixels_sha256: str = ""
    tiles: tuple[tuple[int, int], ...] = ()

    @property
    def known_by(self) -> set[str]:
        """The hashes by which the same picture is found again: of its file, and of its pixels."""
        return {self.sha256, self.pixels_sha256}


@dataclass(frozen=True)
class Manifest:
    """All pictures of one category, in the order of their paths."""

    category: str
    files: tuple[FileRecord, ...]

    def records(self, split: str) -> list[FileRecord]:
        """Return one split's files, in the order of its prepared pictures."""
        return [record for record in self.files if record.split == split]

    @property
    def bit_depth(self) -> int:
        """Bits that the levels of its pictures use."""
        return max(record.bit_depth for record in self.files)

    @property
    def data_hash(self) -> str:
        """As `data_hash_of`."""
        return data_hash_of(self.files)

    def save(self, path: Path) -> None:
        """Write it as JSON; equal manifests give equal bytes."""
        write_json(path, {"category": self.category, "files": [asdict(record) for record in self.files]})

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Read what `save` wrote; ValueError names the file and what is wrong with it."""
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(content["category"], tuple(_record(**fields) for fields in content["files"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            detail = " ".join(str(error).split())
            raise ValueError(f"cannot read the manifest {path}: {detail} (run `ndpnet prepare` again)") from error


def data_hash_of(pictures: Iterable[Any]) -> str:
    """The sha256 over the sorted paths with the content hashes of pictures and masks. pictures: as FileRecord."""
    return hash_of(sorted([p.path, p.sha256, p.mask_path or "", p.mask_sha256 or ""] for p in pictures))


def content_hash(records: Iterable[FileRecord]) -> str:
    """What pictures show, whatever they are called: the sha256 over their sorted content hashes."""
    return hash_of(sorted(record.sha256 for record in records))


def _record(*, tiles: list[list[int]], **fields: Any) -> FileRecord:
    return FileRecord(**fields, tiles=tuple((left, top) for left, top in tiles))

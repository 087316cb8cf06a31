"""Keys of objects as paths below a folder: what may become a file, and what may not."""

from pathlib import Path, PurePosixPath

STATE_NAME = ".ndpnet-download"  # folder of a running or broken download, below its target
MAX_NAME_BYTES = 255  # of one file or folder name, on the usual file systems


def relative_path(key: str, prefix: str) -> PurePosixPath:
    """Return the path of an object below the target folder; ValueError names a key that cannot become one."""
    parts = key[len(prefix) :].split("/")
    mend = "(rename the object, or download a longer prefix)"
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"the key {key!r} is no path below a folder: it has an empty part, `.` or `..` {mend}")
    if any("\0" in part or len(part.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for part in parts):
        raise ValueError(f"the key {key!r} has a part that no file name can be {mend}")
    if parts[0] == STATE_NAME:
        raise ValueError(f"the key {key!r} has the name that downloads keep for themselves {mend}")
    return PurePosixPath(*parts)


class ClashCheck:
    """Finds a key that is a file and a folder at once, in a listing of any length.

    S3 lists keys with a common beginning together: only keys that the present one begins with are kept.
    """

    def __init__(self, *, is_case_sensitive: bool = True) -> None:
        self._beginnings: list[str] = []
        self._folded: set[int] | None = None if is_case_sensitive else set()

    def check(self, name: str) -> None:
        """Take the next name of the listing; ValueError names the two that clash."""
        while self._beginnings and not name.startswith(self._beginnings[-1]):
            self._beginnings.pop()
        for earlier in self._beginnings:
            if name.startswith(earlier + "/"):
                raise ValueError(f"{earlier!r} is an object and {name!r} lies below it: one name cannot be both")
        self._beginnings.append(name)
        if self._folded is not None:
            folded = hash(name.casefold())  # 8 bytes instead of the name
            if folded in self._folded:
                raise ValueError(f"{name!r} differs from another object by case alone, and this disk ignores case")
            self._folded.add(folded)


def is_case_sensitive(folder: Path) -> bool:
    """Whether a folder, which has an upper-case or lower-case letter in its name, is missing under the other case."""
    return not folder.with_name(folder.name.swapcase()).exists()

"""Addresses on S3, and which keys of objects may become files."""

import re
from pathlib import Path, PurePosixPath

BUCKET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
MAX_NAME_BYTES = 255  # of one file or folder name, on the usual file systems


def is_on_s3(place: str | Path) -> bool:
    """Whether a place is one on S3: s3://BUCKET/PREFIX."""
    return str(place).startswith("s3://")


def parse_url(url: str) -> tuple[str, str]:
    """Split s3://bucket/key into bucket and key (or prefix, "" for all); taken as it is, nothing is decoded."""
    scheme, _, rest = str(url).partition("://")
    name, _, key = rest.partition("/")
    if scheme != "s3" or not BUCKET_NAME.fullmatch(name):
        raise ValueError(f"{url!r} is no address on S3 (give s3://BUCKET/PREFIX)")
    return name, key


def relative_path(name: str) -> PurePosixPath:
    """Return the path of an object below the target folder; ValueError names one that cannot have any."""
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts):
        reason = "is no path below a folder: it has an empty part, `.` or `..`"
    elif any("\0" in part or len(part.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES for part in parts):
        reason = "has a part that no file name can be"
    else:
        return PurePosixPath(*parts)
    raise ValueError(f"the key {name!r} {reason} (rename the object, or download a longer prefix)")

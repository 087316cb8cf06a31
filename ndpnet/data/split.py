"""Which group a picture belongs to, and which split a group belongs to: a function of the group's name alone."""

import hashlib
import re
from pathlib import PurePosixPath


def group_of(path: str, pattern: str) -> str:
    """Return the first capture group (or the whole match) of `pattern` in the file's stem; "" = the path itself."""
    if not pattern:
        return path
    try:
        match = re.search(pattern, PurePosixPath(path).stem)
    except re.error as error:
        raise ValueError(f"group pattern {pattern!r} is no regular expression: {error} (correct it)") from error
    group = match and (match.group(1) if match.re.groups else match.group())
    if not group:
        raise ValueError(
            f"group pattern {pattern!r} finds no group in {path} (another pattern, '' for none, or rename the file)"
        )
    return group


def assign_split(group: str, *, calibration_fraction: float, validation_fraction: float) -> str:
    """Return "calibration", "validation" or "train" by the hash of the group: adding pictures moves none."""
    if not (calibration_fraction >= 0 and validation_fraction >= 0 and calibration_fraction + validation_fraction < 1):
        fractions = f"calibration_fraction {calibration_fraction} and validation_fraction {validation_fraction}"
        raise ValueError(f"{fractions} leave no share to train on (both at least 0, their sum below 1)")
    digest = hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()
    share = int.from_bytes(digest[:8], "big") / 2**64
    if share < calibration_fraction:
        return "calibration"
    return "validation" if share < calibration_fraction + validation_fraction else "train"

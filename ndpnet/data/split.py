"""Which group a picture belongs to, and which split a group belongs to: a function of the group's name alone."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import PurePosixPath


def group_of(path: str, pattern: str) -> str:
    """Return the first capture group (or the whole match) of `pattern` in the file's stem; "" = the path itself."""
    if not pattern:
        return path
    try:
        match = re.search(pattern, PurePosixPath(path).stem)
    except re.error as error:
        raise ValueError(f"group pattern '{pattern}' is no regular expression: {error} (correct it)") from error
    group = match and (match.group(1) if match.re.groups else match.group())
    if not group:
        raise ValueError(
            f"group pattern '{pattern}' finds no group in {path} (another pattern, '' for none, or rename the file)"
        )
    return group


def assign_splits(groups: Iterable[str], *, calibration_fraction: float, validation_fraction: float) -> dict[str, str]:
    """Put each group to "calibration", "validation" or "train" by the hash of its name: adding groups moves none.

    Except that three groups and more leave no share that is asked for without one: the nearest to it stands in.
    """
    if not (calibration_fraction >= 0 and validation_fraction >= 0 and calibration_fraction + validation_fraction < 1):
        fractions = f"calibration_fraction {calibration_fraction} and validation_fraction {validation_fraction}"
        raise ValueError(f"{fractions} leave no share to train on (both at least 0, their sum below 1)")
    positions = {group: _position(group) for group in groups}
    splits, ordered, below = dict[str, str](), sorted(positions, key=positions.__getitem__), 0.0
    shares = {"calibration": calibration_fraction, "validation": validation_fraction}
    asked = {split: fraction for split, fraction in shares.items() if fraction > 0}
    for num_others, (split, fraction) in zip(range(len(asked), 0, -1), asked.items(), strict=True):
        below += fraction
        count = sum(positions[group] < below for group in ordered)
        if len(positions) > 2:
            count = min(max(count, 1), len(ordered) - num_others)  # one for each share after it, training's the last
        splits |= dict.fromkeys(ordered[:count], split)
        ordered = ordered[count:]
    return splits | dict.fromkeys(ordered, "train")


def _position(group: str) -> float:
    """The hash of a name. -> [0, 1)"""
    digest = hashlib.sha256(group.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64

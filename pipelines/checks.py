"""Checks as `ndpnet doctor` has them; this module imports the library only when one is made."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ndpnet.doctor import Check, Verdict


def make_check(name: str, verdict: "Verdict", found: str, mend: str = "") -> "Check":
    """One thing that was looked at; `mend` says what to do about it."""
    from ndpnet.doctor import Check

    return Check(name, verdict, found, mend)


def attempt(name: str, check: "Callable[[], Check]") -> "Check":
    """The check's result; what cannot be found out is not checked, and never passes."""
    from ndpnet.doctor import attempt

    return attempt(name, check)

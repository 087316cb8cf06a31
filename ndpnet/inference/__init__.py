"""From a model package to verdicts."""

from typing import Any


def __getattr__(name: str) -> Any:
    """Import `Inspector` and `Verdict` on first use: torch takes a second, and overlays do not need it."""
    if name in ("Inspector", "Verdict"):
        from ndpnet.inference import inspector

        return getattr(inspector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

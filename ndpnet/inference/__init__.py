"""From a model package to verdicts."""

from typing import Any

OVERLAY_SUFFIX = ".jpg"  # of a folder's overlays: a twentieth of PNG's time and a quarter of its bytes


def __getattr__(name: str) -> Any:
    """Import `Inspector` and `Verdict` on first use: torch takes a second, and overlays do not need it."""
    if name in ("Inspector", "Verdict"):
        from ndpnet.inference import inspector

        return getattr(inspector, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

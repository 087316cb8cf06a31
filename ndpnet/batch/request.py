"""What somebody asks of a batch inspection, checked before anything is asked of a server."""

import re
from dataclasses import dataclass

from ndpnet.storage.urls import parse_url

MAX_SHARDS = 500  # a pod each; the summary reads the rows of all of them side by side
MODEL = re.compile(r"(?P<name>[^@]+)(@(?P<ref>[^@]+))?")
DEFAULT_REF = "champion"


@dataclass(frozen=True)
class Request:
    """A prefix of pictures, NAME[@ALIAS or @VERSION] of a registered model, and the prefix for the results."""

    prefix: str
    model: str
    out: str
    num_shards: int = 1
    has_overlays: bool = True
    endpoint_url: str | None = None

    def __post_init__(self) -> None:
        """ValueError says what cannot be meant."""
        object.__setattr__(self, "out", self.out.rstrip("/"))
        (name, key), (out_name, out_key) = parse_url(self.prefix), parse_url(self.out)
        if not MODEL.fullmatch(self.model):
            raise ValueError(f"{self.model!r} is no model (give ndpnet-NAME, ndpnet-NAME@champion or ndpnet-NAME@3)")
        if not 1 <= self.num_shards <= MAX_SHARDS:
            raise ValueError(f"{self.num_shards} shards cannot be (ask for 1 to {MAX_SHARDS})")
        if name == out_name and f"{key.rstrip('/')}/".startswith(f"{out_key}/" if out_key else ""):
            raise ValueError(f"the pictures of {self.prefix} would lie among the results (choose another --out)")

    @property
    def model_and_ref(self) -> tuple[str, str]:
        """Name in the registry, and alias or number."""
        found = MODEL.fullmatch(self.model)
        assert found is not None  # checked when it was made
        return found["name"], found["ref"] or DEFAULT_REF

    def is_result(self, bucket: str, key: str) -> bool:
        """Whether an object lies under `out`."""
        out_name, out_key = parse_url(self.out)
        return bucket == out_name and key.startswith(f"{out_key}/")

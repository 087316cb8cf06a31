"""What a batch inspection is: which pictures, by their etags, and which version of a model.

It is decided once, for all shards, and lies beside the results, as OUT/plan.json: shards and summary read it there, and
refuse one with another id.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from io import BytesIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from ndpnet.data.listing import READ_SUFFIXES, has_picture_name, is_litter, say_left_out, say_others
from ndpnet.data.names import without_own
from ndpnet.files import hash_of
from ndpnet.storage.bucket import MAX_OBJECT_BYTES, Bucket, StoredObject
from ndpnet.storage.urls import parse_url

PLAN = "plan.json"  # its name, below the prefix of the results
MAX_SHARDS = 500  # a pod each; the summary reads the rows of all of them side by side
MODEL = re.compile(r"(?P<name>[^@]+)(@(?P<ref>[^@]+))?")


@dataclass(frozen=True)
class InspectionRequest:
    """A prefix of pictures, NAME[@ALIAS or @VERSION] of a registered model, and the prefix for the results."""

    prefix: str
    model: str
    out: str
    num_shards: int = 1
    has_overlays: bool = True

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


@dataclass(frozen=True)
class PlannedModel:
    """One version of a registered model, and the threshold of its package."""

    name: str
    version: int
    package_hash: str
    threshold: float


@dataclass(frozen=True)
class Plan:
    """Pictures below a prefix, s3://BUCKET/..., in the order of their names. started_at: UTC, ISO 8601."""

    prefix: str
    pictures: tuple[StoredObject, ...]
    model: PlannedModel
    has_overlays: bool
    num_shards: int
    started_at: str

    @cached_property
    def content_hash(self) -> str:
        """Hash of what is inspected, and by what: not of when, or by how many."""
        return hash_of([self.prefix, self._listed(), asdict(self.model), self.has_overlays])

    @cached_property
    def id(self) -> str:
        """Names this plan among all that were ever made for one place."""
        return hash_of([self.content_hash, self.num_shards, self.started_at])[:16]

    def pictures_of(self, shard: int) -> tuple[StoredObject, ...]:
        """Every num_shards-th picture: neighbours are often alike in size. ValueError: there is no such shard."""
        if not 0 <= shard < self.num_shards:
            raise ValueError(f"there is no shard {shard} (the plan has 0 to {self.num_shards - 1})")
        return self.pictures[shard :: self.num_shards]

    def part_name(self, shard: int) -> str:
        """Of the rows of one shard, below the prefix of the results."""
        return f"shards/{self.id}/{shard:04d}-of-{self.num_shards:04d}.jsonl"

    def _listed(self) -> list[list[Any]]:
        return [[picture.name, picture.size, picture.etag] for picture in self.pictures]

    def to_json(self) -> str:
        """As it is stored."""
        known = asdict(replace(self, pictures=())) | {"id": self.id, "pictures": self._listed()}
        return json.dumps(known, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, *, name: str) -> "Plan":
        """Read one. ValueError: it is none."""
        try:
            stored = json.loads(text)
            del stored["id"]  # for people: it follows from the rest
            pictures = tuple(StoredObject(name, size, etag) for name, size, etag in stored["pictures"])
            return cls(**stored | {"pictures": pictures, "model": PlannedModel(**stored["model"])})
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{name} is no plan of an inspection (choose another --out, or remove it)") from error


def make_plan(request: InspectionRequest) -> Plan:
    """List the pictures, resolve the model, and store the plan under `request.out`.

    The same pictures, model and shards as those of the plan that is there give that plan again: what its shards have
    finished counts. ValueError: no pictures, no such model or threshold, or a place that cannot be written.
    """
    source, objects = Bucket.below(request.prefix)
    pictures = tuple(sorted(_pictures(source, objects, request), key=lambda picture: picture.name))
    plan = Plan(
        prefix=source.url_of(""),
        pictures=pictures,
        model=_resolve(request),
        has_overlays=request.has_overlays,
        num_shards=min(request.num_shards, len(pictures)),
        started_at=datetime.now(UTC).isoformat(timespec="microseconds"),
    )
    return _stored(plan, Bucket(request.out))


def load_plan(results: Bucket, plan_id: str) -> Plan:
    """The plan with this id. ValueError: there is none, or another one by now."""
    plan = _read(results)
    if plan.id != plan_id:
        url = results.url_of(PLAN)
        raise ValueError(f"{url} is another plan by now (two inspections write there: give each its own --out)")
    return plan


def _pictures(source: Bucket, objects: Sequence[StoredObject], request: InspectionRequest) -> list[StoredObject]:
    """The pictures to judge; what else is listed is named in the log, as of a folder. ValueError: there is none."""
    paths = {stored.name: PurePosixPath(stored.name) for stored in objects}
    results = f"{request.out}/"
    pictures = [name for name in paths if _is_picture(name) and not source.url_of(name).startswith(results)]
    known, names = set(paths.values()), set(pictures)
    judged, left_out = without_own(PurePosixPath(), [paths[name] for name in pictures], is_file=known.__contains__)
    say_left_out({source.url_of(str(folder)): content for folder, content in left_out.items()})
    say_others(source.url_of(name) for name in paths if name not in names and not name.endswith("/"))
    if not judged:
        endings = ", ".join(READ_SUFFIXES)
        raise ValueError(f"no pictures under {request.prefix} (check bucket and prefix; known endings: {endings})")
    chosen = set(judged)
    return [stored for stored in objects if stored.name in names and paths[stored.name] in chosen]


def _is_picture(path: str) -> bool:
    return has_picture_name(path) and not any(map(is_litter, path.split("/")))


def _resolve(request: InspectionRequest) -> PlannedModel:
    """Which version an alias means now; its package is fetched, so that one without a threshold shows here."""
    from ndpnet.inference.package import read_package
    from ndpnet.tracking.models import download_package
    from ndpnet.tracking.versions import resolve_version

    match = MODEL.fullmatch(request.model)
    assert match is not None  # checked when the request was made
    name = match["name"]
    version, package_hash, _ = resolve_version(name, match["ref"] or "champion")
    with TemporaryDirectory(prefix="ndpnet-") as scratch:
        threshold = read_package(download_package(name, version, Path(scratch) / "model")).threshold
    if threshold is None:
        raise ValueError(f"{name} version {version} has no threshold (run `ndpnet calibrate`, and register the result)")
    return PlannedModel(name, version, package_hash, threshold["value"])


def _stored(plan: Plan, results: Bucket) -> Plan:
    if results.find(PLAN) is not None:
        stored = _read(results)
        if (stored.content_hash, stored.num_shards) == (plan.content_hash, plan.num_shards):
            plan = stored
    content = plan.to_json().encode("ascii")
    if len(content) > MAX_OBJECT_BYTES:  # each shard reads all of it
        raise ValueError(f"{len(plan.pictures)} pictures are too many at once (inspect the folders below one by one)")
    results.put(PLAN, BytesIO(content))  # one that is there, too: whether it can be written shows now
    return plan


def _read(results: Bucket) -> Plan:
    return Plan.from_json(results.read(PLAN), name=results.url_of(PLAN))

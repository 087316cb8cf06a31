"""What a batch inspection is: which pictures, by their etags, and which version of a model.

It is decided once, for all shards, and lies beside the results, as OUT/plan.json: shards and summary read it there, and
refuse one with another id.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from ndpnet.data.listing import READ_SUFFIXES, has_picture_name, is_litter, say_left_out, say_others
from ndpnet.data.names import without_own
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
    """Pictures below a prefix, s3://BUCKET/..., in the order of their names. id: as no other plan has it."""

    prefix: str
    pictures: tuple[StoredObject, ...]
    model: PlannedModel
    has_overlays: bool
    num_shards: int
    id: str = field(default_factory=lambda: uuid4().hex[:16])

    def pictures_of(self, shard: int) -> tuple[StoredObject, ...]:
        """Every num_shards-th picture: neighbours are often alike in size. ValueError: there is no such shard."""
        if not 0 <= shard < self.num_shards:
            raise ValueError(f"there is no shard {shard} (the plan has 0 to {self.num_shards - 1})")
        return self.pictures[shard :: self.num_shards]

    def part_name(self, shard: int) -> str:
        """Of the rows of one shard, below the prefix of the results."""
        return f"shards/{self.id}/{shard:04d}-of-{self.num_shards:04d}.jsonl"


PLANS = TypeAdapter(Plan)  # as JSON, and back


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
        if stored == replace(plan, id=stored.id):
            plan = stored
    content = PLANS.dump_json(plan)
    if len(content) > MAX_OBJECT_BYTES:  # each shard reads all of it
        raise ValueError(f"{len(plan.pictures)} pictures are too many at once (inspect the folders below one by one)")
    results.put(PLAN, BytesIO(content))  # one that is there, too: whether it can be written shows now
    return plan


def _read(results: Bucket) -> Plan:
    try:
        return PLANS.validate_json(results.read(PLAN))
    except ValidationError as error:
        url = results.url_of(PLAN)
        raise ValueError(f"{url} is no plan of an inspection (choose another --out, or remove it)") from error

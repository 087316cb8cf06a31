"""One shard: its pictures come in blocks, are inspected as any folder is, and their overlays and rows go to S3."""

import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.batch.plan import Plan, load_plan
from ndpnet.batch.results import Results, overlay_name, part_name
from ndpnet.files import naming_full_disk
from ndpnet.folders import scratch_folder
from ndpnet.inference import OVERLAY_SUFFIX
from ndpnet.storage.bucket import Bucket, StoredObject

if TYPE_CHECKING:
    from ndpnet.inference.inspector import Inspector

MAX_BLOCK, MAX_BLOCK_BYTES = 64, 1 << 30  # pictures and bytes that are on the disk at once

Row = dict[str, Any]


@dataclass(frozen=True)
class Shard:
    """What all blocks of a shard share."""

    plan: Plan
    inspector: "Inspector"
    source: Bucket
    results: Results


def inspect_shard(out: str, plan_id: str, shard: int, *, device: str = "cpu", endpoint_url: str = "") -> float:
    """Inspect the pictures of one shard of the plan under `out`; store overlays, and last the rows. -> seconds

    A picture that cannot be read, or is another one than was listed, is a row with an error. Run again it stores the
    same objects again. ValueError: S3, the registry or the disk fails.
    """
    start = time.perf_counter()
    results = Results(out, endpoint_url)
    plan = load_plan(results, plan_id)
    pictures = plan.pictures_of(shard)
    with scratch_folder(Path(tempfile.gettempdir()) / "ndpnet-shard") as scratch:
        inspector = _load_model(plan, scratch / "model", device)
        work = Shard(plan, inspector, Bucket(plan.bucket, endpoint_url=endpoint_url), results)
        rows_path = scratch / "rows.jsonl"
        with rows_path.open("w", encoding="utf-8", newline="\n") as lines:
            for block in _blocks(pictures):
                for row in _inspect_block(work, block, scratch / "block"):
                    lines.write(json.dumps(row, sort_keys=True) + "\n")
        results.put({part_name(plan.id, shard, plan.num_shards): rows_path})
    return time.perf_counter() - start


def _load_model(plan: Plan, folder: Path, device: str) -> "Inspector":
    from ndpnet.inference.identity import package_hash
    from ndpnet.inference.inspector import Inspector
    from ndpnet.tracking.models import download_package

    model = plan.model
    if package_hash(download_package(model.name, model.version, folder)) != model.package_hash:
        raise ValueError(f"{model.name} version {model.version} is another package by now (run the inspection again)")
    return Inspector.load(folder, device=device)


def _blocks(pictures: Sequence[StoredObject]) -> Iterator[list[StoredObject]]:
    block: list[StoredObject] = []
    num_bytes = 0
    for picture in pictures:
        if block and (len(block) == MAX_BLOCK or num_bytes + picture.size > MAX_BLOCK_BYTES):
            yield block
            block, num_bytes = [], 0
        block.append(picture)
        num_bytes += picture.size
    if block:
        yield block


def _inspect_block(work: Shard, block: list[StoredObject], folder: Path) -> Iterator[Row]:
    """Fetch, inspect, store the overlays. Yields a row per picture, in their order."""
    from ndpnet.inference.folder import LINES, inspect_folder

    pictures_dir, results_dir = folder / "pictures", folder / "results"
    shutil.rmtree(folder, ignore_errors=True)
    pictures_dir.mkdir(parents=True)
    # by number: a key may be what no file name can be
    local = {
        pictures_dir / f"{number:06d}{Path(picture.key).suffix.lower()}": picture
        for number, picture in enumerate(block)
    }
    with naming_full_disk(folder, folder):
        listed = ((picture, path) for path, picture in local.items())
        changed = {path: problem for path, problem in work.source.fetch(listed) if problem}
    rows: dict[str, Row] = {}
    if len(changed) < len(local):
        inspect_folder(work.inspector, pictures_dir, results_dir, with_overlays=work.plan.has_overlays)
        lines = (results_dir / LINES).read_text(encoding="utf-8").splitlines()
        rows = {row["path"]: row for row in map(json.loads, lines)}
    drawn = {
        overlay_name(work.plan.path_of(picture)): results_dir / "overlays" / f"{path.name}{OVERLAY_SUFFIX}"
        for path, picture in local.items()
    }
    work.results.put({name: file for name, file in drawn.items() if file.is_file()})
    for path, picture in local.items():
        url = work.source.url_of(picture.key)
        row = rows.get(path.name) or {"verdict": "error", "error": f"{url} {changed[path]}"}
        error = row["error"].replace(str(path), url)
        yield row | {"path": work.plan.path_of(picture), "error": error}

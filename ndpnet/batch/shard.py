"""One shard: its pictures come in blocks, are inspected as any folder is, and their overlays and rows go to S3."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndpnet.batch.plan import Plan, load_plan
from ndpnet.files import naming_full_disk, read_json_lines
from ndpnet.folders import scratch_folder
from ndpnet.inference import OVERLAY_SUFFIX
from ndpnet.storage.bucket import Bucket, StoredObject

if TYPE_CHECKING:
    from ndpnet.inference.inspector import Inspector

MAX_BLOCK, MAX_BLOCK_BYTES = 64, 1 << 30  # pictures and bytes that are on the disk at once

Row = dict[str, Any]


def inspect_shard(out: str, plan_id: str, shard: int, *, device: str = "cpu") -> str:
    """Inspect the pictures of one shard of the plan under `out`; store overlays, and last the rows. -> name of these

    A picture that cannot be read, or is another one than was listed, is a row with an error. Run again it stores the
    same objects again. ValueError: S3, the registry or the disk fails.
    """
    results = Bucket(out)
    plan = load_plan(results, plan_id)
    pictures, source = plan.pictures_of(shard), Bucket(plan.prefix)
    with scratch_folder(Path(tempfile.gettempdir()) / "ndpnet-shard") as scratch:
        inspector = _load_model(plan, scratch / "model", device)
        rows_path = scratch / "rows.jsonl"
        with rows_path.open("w", encoding="utf-8", newline="\n") as lines:
            for block in _blocks(pictures):
                rows, overlays = _inspect_block(inspector, source, block, scratch / "block", plan.has_overlays)
                results.put_files(overlays)
                lines.writelines(json.dumps(row, sort_keys=True) + "\n" for row in rows)
        results.put_files({plan.part_name(shard): rows_path})
    return plan.part_name(shard)


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


def _inspect_block(
    inspector: "Inspector", source: Bucket, block: list[StoredObject], folder: Path, has_overlays: bool
) -> tuple[list[Row], dict[str, Path]]:
    """Fetch and inspect. -> a row per picture, in their order, and the overlays by the names of their objects"""
    from ndpnet.inference.folder import LINES, inspect_folder

    pictures_dir, results_dir = folder / "pictures", folder / "results"
    shutil.rmtree(folder, ignore_errors=True)
    pictures_dir.mkdir(parents=True)
    # by number: a key may be what no file name can be
    local = {
        pictures_dir / f"{number:06d}{Path(picture.name).suffix.lower()}": picture
        for number, picture in enumerate(block)
    }
    with naming_full_disk(folder, folder):
        listed = ((picture, path) for path, picture in local.items())
        changed = {path: problem for path, problem in source.fetch(listed) if problem}
    judged: dict[str, Row] = {}
    if len(changed) < len(local):
        inspect_folder(inspector, pictures_dir, results_dir, with_overlays=has_overlays)
        judged = {row["path"]: row for row in read_json_lines(results_dir / LINES)}
    rows, overlays = [], {}
    for path, picture in local.items():
        url = source.url_of(picture.name)
        row = judged.get(path.name) or {"verdict": "error", "error": f"{url} {changed[path]}"}
        rows.append(row | {"path": picture.name, "error": row["error"].replace(str(path), url)})
        if (overlay := results_dir / "overlays" / f"{path.name}{OVERLAY_SUFFIX}").is_file():
            overlays[f"overlays/{picture.name}{OVERLAY_SUFFIX}"] = overlay
    return rows, overlays

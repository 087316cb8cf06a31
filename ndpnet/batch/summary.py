"""The shards' rows as one table in the order of the keys, and what they come to."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ndpnet.batch.plan import PLAN, Plan, load_plan
from ndpnet.files import write_json
from ndpnet.inference.folder import LINES, start_table, table_row
from ndpnet.storage.bucket import Bucket

TABLE, SUMMARY = "predictions.csv", "summary.json"


def summarise(out: str, plan_id: str) -> dict[str, Any]:
    """Store predictions.jsonl, predictions.csv and, last, summary.json under `out`. -> the summary

    All are a function of pictures and model: the number of shards changes no byte. ValueError: a shard has not
    finished, or S3 fails.
    """
    results = Bucket(out)
    plan = load_plan(results, plan_id)
    with TemporaryDirectory(prefix="ndpnet-") as scratch:
        folder = Path(scratch)
        summary = _merge(plan, _fetch_parts(plan, results, folder), folder)
        write_json(folder / SUMMARY, summary)
        for names in ((TABLE, LINES), (SUMMARY,)):
            results.put_files({name: folder / name for name in names})
    return summary


def read_summary(out: str) -> dict[str, Any]:
    """What `summarise` has stored."""
    return json.loads(Bucket(out).read(SUMMARY))


def _fetch_parts(plan: Plan, results: Bucket, folder: Path) -> list[Path]:
    """The rows of each shard. ValueError names one that has left none."""
    parts = []
    for shard in range(plan.num_shards):
        name = plan.part_name(shard)
        stored = results.find(name)
        if stored is None:
            fix = f"run the inspection again; if it thinks that all is done, remove {results.url_of(PLAN)} first"
            raise ValueError(f"shard {shard} of {plan.num_shards} has left no rows at {results.url_of(name)} ({fix})")
        parts.append((stored, folder / f"{shard}.jsonl"))
    for (stored, _), (_, problem) in zip(parts, results.fetch(parts), strict=True):
        if problem:
            raise ValueError(f"{results.url_of(stored.name)} {problem} (run the same command again)")
    return [path for _, path in parts]


def _merge(plan: Plan, parts: list[Path], folder: Path) -> dict[str, Any]:
    """Write all rows as lines and as a table, one at a time. -> the summary"""
    counts: Counter[str] = Counter()
    failed = []
    with (
        (folder / LINES).open("w", encoding="utf-8", newline="\n") as lines,
        (folder / TABLE).open("w", encoding="utf-8", newline="\n") as table,
    ):
        writer = start_table(table)
        for line in _in_order(plan, parts):
            row = json.loads(line)
            lines.write(line)
            writer.writerow(table_row(row))
            counts[row["verdict"]] += 1
            if row["verdict"] == "error":
                failed.append({"path": row["path"], "error": row["error"]})
    return {
        "prefix": plan.prefix,
        "model": asdict(plan.model),
        "num_pictures": len(plan.pictures),
        "num_good": counts["good"],
        "num_defective": counts["defective"],
        "num_review": counts["review"],
        "num_failed": counts["error"],
        "failed": failed,
    }


def _in_order(plan: Plan, parts: list[Path]) -> Iterator[str]:
    """Yield the rows' lines in the order of the pictures. ValueError: a part has other pictures than its shard."""
    with ExitStack() as stack:
        streams = [stack.enter_context(path.open(encoding="utf-8", newline="\n")) for path in parts]
        for number, picture in enumerate(plan.pictures):
            shard = number % plan.num_shards
            line = streams[shard].readline()
            if not line.endswith("\n") or json.loads(line)["path"] != picture.name:
                raise ValueError(f"the rows of shard {shard} do not fit the plan (run the inspection again)")
            yield line
        for shard, stream in enumerate(streams):
            if stream.readline():
                raise ValueError(f"the rows of shard {shard} do not fit the plan (run the inspection again)")

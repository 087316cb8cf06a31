"""What an import says about itself: import.json, and the lines for the terminal."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ndpnet.data.importing.placing import Placed, Rejected
from ndpnet.data.importing.published import licence_of
from ndpnet.data.importing.sources.plan import CategoryPlan
from ndpnet.data.listing import IMPORTED
from ndpnet.data.manifest import GOOD, data_hash_of
from ndpnet.files import NUM_NAMES
from ndpnet.table import one_line

MIN_SPREAD = 1.0  # grey levels of 256: below, a picture is nearly constant


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """A report in short, for the terminal."""
    counts = report["counts"]
    test = ", ".join(f"{count} {kind}" for kind, count in counts["test"].items()) or "none"
    lines = [f"{one_line(report['category'])}: train {counts['train'].get(GOOD, 0)} good; test {test}"]
    if report["licence"]:
        lines.append(f"  licence: {report['licence']}")
    if report["bit_depth"] > 8:
        lines.append(f"  levels of {report['bit_depth']} bits: {2 ** report['bit_depth'] - 1} is white")
    if report["num_left_out"]:
        lines.append(f"  {report['num_left_out']} good ones left out by the limit on train")
    listed = {
        "unreadable, not imported": [f"{entry['file']}: {entry['reason']}" for entry in report["rejected"]],
        "duplicates, not imported": [f"{entry['file']} = {entry['same_as']}" for entry in report["duplicates"]],
        "twice in test, imported": [f"{entry['file']} = {entry['same_as']}" for entry in report["test_duplicates"]],
        "near-empty, imported": report["near_empty"],
        "masks to look at, imported": [f"{entry['file']} {entry['note']}" for entry in report["mask_notes"]],
        "not known to the layout, ignored": report["ignored"],
    }
    for title, entries in listed.items():
        if entries:
            more = f", and {len(entries) - NUM_NAMES} more in {IMPORTED}" if len(entries) > NUM_NAMES else ""
            lines.append(f"  {len(entries)} {title}: {', '.join(map(one_line, entries[:NUM_NAMES]))}{more}")
    return lines


def build_report(
    plan: CategoryPlan,
    *,
    options: Mapping[str, Any],
    source: str,
    placed: list[Placed],
    rejected: list[Rejected],
    imported: list[Placed],
    copies: tuple[dict[str, str], dict[str, str]],
    bit_depth: int,
    ignored: list[str],
) -> dict[str, Any]:
    """The content of import.json, the same bytes for the same source and options. copies: left out, and tested on."""
    defect_types = {picture.defect_type for picture in placed if picture.defect_type != GOOD}
    has_own_split = all(image.split for image in plan.images)
    return {
        "layout": options["layout"],
        "source": source,
        "category": plan.name,
        "counts": _counts(imported),
        "data_hash": data_hash_of(imported),
        "bit_depth": bit_depth,
        "licence": licence_of(options["layout"], plan.name, defect_types),
        "test_good_share": None if has_own_split else options["test_good_share"],
        "group_pattern": None if has_own_split else options["group_pattern"],
        "train_limit": options["train_limit"],
        "num_left_out": len(placed) - len(copies[0]) - len(imported),
        "rejected": [asdict(picture) for picture in rejected],
        "duplicates": _pairs(copies[0]),
        "test_duplicates": _pairs(copies[1]),
        "near_empty": [p.image.path for p in imported if p.facts.spread_at(bit_depth) < MIN_SPREAD],
        "mask_notes": [{"file": p.mask_path, "note": p.mask_note} for p in imported if p.mask_note],
        "ignored": sorted(ignored),
    }


def _counts(imported: list[Placed]) -> dict[str, dict[str, int]]:
    """Count by split and type, the good ones first."""
    counts = Counter((picture.split, picture.defect_type) for picture in imported)
    in_order = sorted(counts, key=lambda key: (key[1] != GOOD, key[1]))
    return {split: {kind: counts[of, kind] for of, kind in in_order if of == split} for split in ("train", "test")}


def _pairs(copies: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"file": name, "same_as": first} for name, first in copies.items()]

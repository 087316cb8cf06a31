"""What an import says about itself: import.json, and the lines for the terminal."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from ndpnet.data.importing.placing import Placed
from ndpnet.data.importing.sources.plan import CategoryPlan
from ndpnet.data.levels import depth_of_set
from ndpnet.data.manifest import GOOD, data_hash_of
from ndpnet.files import some_names
from ndpnet.table import one_line

# the terms of public data sets: a model that is trained on them carries them on
NON_COMMERCIAL = "CC BY-NC-SA 4.0: not for commercial use"
PERHAPS_MVTEC_AD = "CC BY-NC-SA 4.0, not for commercial use, if these are the pictures of MVTec AD"
MVTEC_AD = (
    *("bottle", "cable", "capsule", "carpet", "grid", "hazelnut", "leather", "metal_nut"),
    *("pill", "screw", "tile", "toothbrush", "transistor", "wood", "zipper"),
)
MIN_SPREAD = 1.0  # grey levels of 256: below, a picture is nearly constant


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """A report in short, for the terminal."""
    counts = report["counts"]
    test = ", ".join(f"{count} {kind}" for kind, count in counts["test"].items()) or "none"
    lines = [f"{one_line(report['category'])}: train {counts['train'].get(GOOD, 0)} good; test {test}"]
    if not counts["test"]:
        lines.append("  nothing to test on, so there will be no report (add good pictures, of three groups or more)")
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
            lines.append(f"  {len(entries)} {title}: {some_names([one_line(entry) for entry in entries])}")
    return lines


def build_report(
    plan: CategoryPlan,
    options: Mapping[str, Any],
    placed: list[Placed],
    rejected: dict[str, str],
    imported: list[Placed],
    copies: tuple[dict[str, str], dict[str, str]],
) -> dict[str, Any]:
    """The content of import.json, the same bytes for the same source and options. copies: left out, and tested on.

    ValueError: the pictures mix depths.
    """
    bit_depth = depth_of_set((picture.image.path, picture.facts.levels) for picture in placed)
    has_own_split = all(image.split for image in plan.images)
    not_asked = dict.fromkeys(("test_good_share", "group_pattern") if has_own_split else ())
    return {
        **options,
        **not_asked,
        "category": plan.name,
        "counts": _counts(imported),
        "data_hash": data_hash_of(imported),
        "bit_depth": bit_depth,
        "licence": licence_of(options["layout"], plan.name),
        "num_left_out": len(placed) - len(copies[0]) - len(imported),
        "rejected": _pairs(rejected, "reason"),
        "duplicates": _pairs(copies[0], "same_as"),
        "test_duplicates": _pairs(copies[1], "same_as"),
        "near_empty": [p.image.path for p in imported if p.facts.spread_at(bit_depth) < MIN_SPREAD],
        "mask_notes": [{"file": p.mask_path, "note": p.mask_note} for p in imported if p.mask_note],
        "ignored": plan.ignored,
    }


def licence_of(layout: str, category: str) -> str | None:
    """The terms that a category's publisher names, by its layout and name; None: not known."""
    if layout == "mvtec" and category in MVTEC_AD:
        return PERHAPS_MVTEC_AD
    return NON_COMMERCIAL if layout == "kolektor" else None


def _counts(imported: list[Placed]) -> dict[str, dict[str, int]]:
    """Count by split and type, the good ones first."""
    counts = Counter((picture.split, picture.defect_type) for picture in imported)
    in_order = sorted(counts, key=lambda key: (key[1] != GOOD, key[1]))
    return {split: {kind: counts[of, kind] for of, kind in in_order if of == split} for split in ("train", "test")}


def _pairs(files: Mapping[str, str], name: str) -> list[dict[str, str]]:
    return [{"file": file, name: value} for file, value in files.items()]

"""What an import says about itself: import.json, and the lines for the terminal."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ndpnet.data.importing.placing import Placed, Rejected
from ndpnet.data.importing.published import licence_of
from ndpnet.data.importing.sources.plan import CategoryPlan
from ndpnet.data.manifest import GOOD, data_hash_of
from ndpnet.table import one_line

REPORT = "import.json"
MIN_SPREAD = 1.0  # grey levels of 256: below, a picture is nearly constant
NUM_NAMES = 3  # on the terminal; the file has all


@dataclass(frozen=True)
class ImportReport:
    """The content of import.json, the same bytes for the same source and options."""

    content: dict[str, Any]

    @property
    def category(self) -> str:
        """The category's name in its source."""
        return self.content["category"]

    def lines(self) -> list[str]:
        """Return it in short, for the terminal."""
        content = self.content
        counts = content["counts"]
        test = ", ".join(f"{count} {kind}" for kind, count in counts["test"].items()) or "none"
        lines = [f"{one_line(self.category)}: train {counts['train'].get(GOOD, 0)} good; test {test}"]
        if content["licence"]:
            lines.append(f"  licence: {content['licence']}")
        if content["bit_depth"] > 8:
            lines.append(f"  levels of {content['bit_depth']} bits: {2 ** content['bit_depth'] - 1} is white")
        if content["num_left_out"]:
            lines.append(f"  {content['num_left_out']} good ones left out by the limit on train")
        lines += _listed("unreadable, not imported", [f"{e['file']}: {e['reason']}" for e in content["rejected"]])
        same = [f"{entry['file']} = {entry['same_as']}" for entry in content["duplicates"]]
        lines += _listed("duplicates, not imported", same)
        same = [f"{entry['file']} = {entry['same_as']}" for entry in content["test_duplicates"]]
        lines += _listed("twice in test, imported", same)
        lines += _listed("near-empty, imported", content["near_empty"])
        lines += _listed("masks to look at, imported", [f"{e['file']} {e['note']}" for e in content["mask_notes"]])
        return lines + _listed("not known to the layout, ignored", content["ignored"])


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
) -> ImportReport:
    """Sum up an import; no time and no absolute path are in it. copies: left out, and tested on."""
    defect_types = {picture.defect_type for picture in placed if picture.defect_type != GOOD}
    has_own_split = all(image.split for image in plan.images)
    return ImportReport(
        {
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
    )


def _counts(imported: list[Placed]) -> dict[str, dict[str, int]]:
    """Count by split and type, the good ones first."""
    counts = Counter((picture.split, picture.defect_type) for picture in imported)
    in_order = sorted(counts, key=lambda key: (key[1] != GOOD, key[1]))
    return {split: {kind: counts[of, kind] for of, kind in in_order if of == split} for split in ("train", "test")}


def _pairs(copies: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"file": name, "same_as": first} for name, first in copies.items()]


def _listed(title: str, entries: list[str]) -> list[str]:
    if not entries:
        return []
    more = f", and {len(entries) - NUM_NAMES} more in {REPORT}" if len(entries) > NUM_NAMES else ""
    return [f"  {len(entries)} {title}: {', '.join(map(one_line, entries[:NUM_NAMES]))}{more}"]

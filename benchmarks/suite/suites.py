"""The suites of `ndpnet benchmark`: which categories, what they need of the parameters, and what is judged apart."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ndpnet.data.demo import DEMO_CATEGORIES, DEMO_GROUP_PATTERN

ALL = "all"

IsIn = Callable[[str], bool]  # of a test image's group


def _item_is(parity: int) -> IsIn:
    return lambda group: int(re.sub(r"\D", "", group)) % 2 == parity


@dataclass(frozen=True)
class Suite:
    """One set of categories in MVTec's layout under a data folder."""

    name: str
    categories: tuple[str, ...] = ()  # none: every folder that has train/good
    overrides: tuple[str, ...] = ()
    subsets: dict[str, IsIn] = field(default_factory=lambda: {ALL: lambda _: True})
    paper_tables: tuple[str, ...] = ()  # of paper_tables.json, in which these categories stand

    def find_categories(self, root: Path, chosen: tuple[str, ...]) -> list[str]:
        """The categories to run: those asked for, else all of the suite. ValueError names what is not there."""
        there = sorted(path.parents[1].name for path in Path(root).glob("*/train/good"))
        known = self.categories or tuple(there)
        strange = [name for name in chosen if name not in known]
        if strange:
            raise ValueError(f"suite {self.name} has no category {strange[0]!r} (it has {', '.join(known) or 'none'})")
        missing = [name for name in chosen or known if name not in there]
        if missing or not known:
            what = missing[0] if missing else "any category"
            raise ValueError(f"no {Path(root) / what}/train/good (import it: `ndpnet import --help`, or choose --data)")
        return list(dict.fromkeys(chosen or known))


SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            "mvtec-textures",
            ("carpet", "grid", "leather", "tile", "wood"),
            ("data.group_pattern=''",),
            paper_tables=("II", "III", "IV"),
        ),
        Suite("dagm", tuple(f"Class{n}" for n in range(1, 11)), ("data.group_pattern=''",), paper_tables=("V",)),
        # choices are made on even items, odd ones are for reports: benchmarks/README.md
        Suite(
            "kolektor",
            ("kolektor",),
            (r"data.group_pattern='^(kos\d+)'",),
            {"even items": _item_is(0), "odd items": _item_is(1)},
        ),
        Suite("demo", DEMO_CATEGORIES, (f"data.group_pattern='{DEMO_GROUP_PATTERN}'",)),
        Suite("folder"),
    )
}

"""Where the pictures lie in data sets of other layouts: each reader gives a plan of one form."""

from collections.abc import Callable
from pathlib import Path

from ndpnet.data.importing.sources.labelled import find_dagm, find_kolektor
from ndpnet.data.importing.sources.mvtec import find_mvtec
from ndpnet.data.importing.sources.own import find_folder, find_scans
from ndpnet.data.importing.sources.plan import CategoryPlan

FINDERS: dict[str, Callable[[Path, str], list[CategoryPlan]]] = {
    "mvtec": find_mvtec,
    "dagm": find_dagm,
    "kolektor": find_kolektor,
    "ppts": find_scans,
    "folder": find_folder,
}


def find_categories(layout: str, root: Path, name: str) -> list[CategoryPlan]:
    """Return the categories below a folder by name; `name` is that of one that fills the folder itself.

    ValueError if there is none, or names what is wrong in one.
    """
    if layout not in FINDERS:
        raise ValueError(f"no layout {layout!r} (one of {', '.join(FINDERS)})")
    plans: dict[str, CategoryPlan] = {}
    for plan in FINDERS[layout](root, name):
        before = plans.setdefault(plan.name.casefold(), plan)
        if before is not plan:
            both = f"{before.folder} and {plan.folder}"
            raise ValueError(f"two categories have the name {plan.name!r}: {both} (import them one by one)")
    return sorted(plans.values(), key=lambda plan: plan.name)

"""Where the pictures of a data set lie: a layout gives the categories by the paths of all pictures below a folder."""

import logging
import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from ndpnet.data.importing.sources.labelled import find_dagm, find_kolektor
from ndpnet.data.importing.sources.mvtec import find_mvtec
from ndpnet.data.importing.sources.own import find_folder, find_scans
from ndpnet.data.importing.sources.plan import CategoryPlan, Found, Paths, unknown_in
from ndpnet.data.listing import is_litter, list_pictures, say_others

# with what a folder of another layout lacks, and what was photographed together where the publisher has no split
LAYOUTS: dict[str, tuple[Callable[[Path, Paths], Found], str, str]] = {
    "mvtec": (find_mvtec, "no train/good", ""),
    "dagm": (find_dagm, "neither ClassN/Train with Label/ nor ClassN beside ClassN_def", ""),
    "kolektor": (find_kolektor, "neither kosNN folders nor train with NNNNN_GT.png", r"^(kos\d+)"),
    "ppts": (find_scans, "no folder good/", ""),
    "folder": (find_folder, "no folder good/", ""),
}

logger = logging.getLogger(__name__)


def find_categories(layout: str, root: Path, name: str) -> list[CategoryPlan]:
    """Return the categories below a folder by name; `name` is that of one that fills the folder itself.

    ValueError if there is none, or names what is wrong in one.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"no layout {layout!r} (one of {', '.join(LAYOUTS)})")
    find, lacking, pattern = LAYOUTS[layout]
    paths, unread = _list(root)
    plans: dict[str, CategoryPlan] = {}
    for folder, images in find(root, paths):
        ignored = unknown_in(root, folder, images, [*paths, *unread])
        group_pattern = "" if all(image.split for image in images) else pattern
        plan = CategoryPlan(folder.name or name, root / folder, images, ignored, group_pattern)
        before = plans.setdefault(plan.name.casefold(), plan)
        if before is not plan:
            both = f"{before.folder} and {plan.folder}"
            raise ValueError(f"two categories have the name {plan.name!r}: {both} (import them one by one)")
    if not plans:
        raise ValueError(f"no pictures in {root} as {layout} has them: {lacking} (choose the folder above, or fill it)")
    return sorted(plans.values(), key=lambda plan: plan.name)


def _list(root: Path) -> tuple[Paths, Paths]:
    """The pictures, and the files that may be some and cannot be read. ValueError: a folder cannot be."""
    listing = list_pictures(root)
    for path, problem in listing.problems.items():
        if os.path.isdir(path):  # noqa: PTH112 - its parent may be closed
            raise ValueError(problem)
        logger.warning("%s", problem)
    below = [[PurePosixPath(path.relative_to(root)) for path in each] for each in (listing.pictures, listing.problems)]
    say_others(path.relative_to(root) for path in listing.others if not is_litter(path.name))
    return below[0], below[1]

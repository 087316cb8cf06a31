"""Importing a data set of any layout: every picture decoded once, judged, and laid out as MVTec AD does."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ndpnet.data.copies import CopyIndex
from ndpnet.data.importing import MAX_BYTES, TEST_GOOD_SHARE
from ndpnet.data.importing.opening import opened_source
from ndpnet.data.importing.placing import Placed, Placer
from ndpnet.data.importing.report import build_report
from ndpnet.data.importing.sources import find_categories
from ndpnet.data.importing.sources.plan import CategoryPlan, SourceImage
from ndpnet.data.listing import IMPORTED
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import check_category, name_key
from ndpnet.data.roi import ROI, find_roi
from ndpnet.data.split import assign_splits, group_of
from ndpnet.files import write_json
from ndpnet.folders import atomic_folder, check_apart, check_output


def import_source(
    layout: str,
    source: str | Path,
    out: Path,
    *,
    categories: Sequence[str] = (),
    test_good_share: float = TEST_GOOD_SHARE,
    train_limit: int | None = None,
    group_pattern: str = "",
    max_bytes: int = MAX_BYTES,
    endpoint_url: str | None = None,
) -> list[dict[str, Any]]:
    """Import a folder, an archive or s3://... into `out`, or into one folder below it for each of several categories.

    Each category appears complete or not at all. Where the publisher has no test set, `test_good_share` of the good
    groups (by the hash of their names; `group_pattern` as in data.group_pattern) goes to test/good. `train_limit`
    keeps the first pictures by name. -> the content of each import.json; ValueError names what is wrong and the fix.
    """
    if Path(source).is_dir():
        check_apart(Path(out), Path(source))
    options = {"layout": layout, "test_good_share": test_good_share, "train_limit": train_limit}
    with opened_source(str(source), Path(out), max_bytes=max_bytes, endpoint_url=endpoint_url) as (root, name):
        plans = _chosen(find_categories(layout, root, name), categories, str(source))
        outs = [Path(out)] if len(plans) == 1 else [Path(out) / plan.name for plan in plans]
        for category_out in outs:
            check_category(category_out.resolve().name)
            check_output(category_out, marker=IMPORTED)
        options |= {"source": name, "group_pattern": group_pattern}
        is_ours = root != Path(source)
        return [
            _import_category(plan, root, category_out, options, is_ours=is_ours)
            for plan, category_out in zip(plans, outs, strict=True)
        ]


def _chosen(plans: list[CategoryPlan], categories: Sequence[str], source: str) -> list[CategoryPlan]:
    names = [plan.name for plan in plans]
    for category in categories:
        if category not in names:
            raise ValueError(f"no category {category!r} in {source} (there are: {', '.join(names)})")
    return [plan for plan in plans if not categories or plan.name in categories]


def _import_category(
    plan: CategoryPlan, root: Path, out: Path, options: dict[str, Any], *, is_ours: bool
) -> dict[str, Any]:
    """options: source, layout, test_good_share, train_limit, group_pattern, as the report names them."""
    _check_names(plan.images)
    pattern, has_roi = options["group_pattern"] or plan.group_pattern, find_roi(plan.folder) is not None
    undecided = [image for image in plan.images if (image.defect_type == GOOD or image.is_label) and not image.split]
    groups = {image.path: group_of(image.name, pattern) for image in undecided}
    with atomic_folder(out, marker=IMPORTED) as folder:
        placed, rejected = Placer(root, folder, is_ours).place_all(plan.images, plan.name)
        copies = _find_copies(placed)
        kept = [picture for picture in placed if picture.image.path not in copies[0]]
        imported = _limit(_with_tested(kept, groups, options["test_good_share"]), options["train_limit"])
        _arrange(folder, placed, imported)
        if not any(picture.split == "train" for picture in imported):
            first = next((f"first {file}: {reason}" for file, reason in rejected.items()), "")
            why = f": {len(rejected)} of {len(plan.images)} cannot be used, {first}" if rejected else ""
            fix = " (add some, or lower --test-good-share)" if not rejected else ""
            raise ValueError(f"no good picture in {plan.folder} is left to train on{why}{fix}")
        if has_roi:
            shutil.copyfile(plan.folder / ROI, folder / ROI)
        report = build_report(plan, options | {"group_pattern": pattern}, placed, rejected, imported, copies)
        write_json(folder / IMPORTED, report)
    return report


def groups_to_test(groups: Iterable[str], share: float) -> set[str]:
    """Good groups that are tested on, by the hash of their names: of three and more at least one, the nearest to it.

    By other names than those that `prepare` splits, or the tested groups would be those that calibrate.
    """
    names = {f"test good\0{group}": group for group in groups}
    splits = assign_splits(names, calibration_fraction=share, validation_fraction=0)
    return {names[name] for name, split in splits.items() if split == "calibration"}


def _check_names(images: list[SourceImage]) -> None:
    """Refuse two pictures that would get one name, or that a file system which ignores case takes for one."""
    firsts: dict[str, SourceImage] = {}
    for image in images:
        path = f"{image.split}/{image.defect_type}/{image.name}"
        other = firsts.setdefault(name_key(path), image)
        if other is not image:
            both = f"{other.path} and {image.path}"
            raise ValueError(f"{both} would both become {path.lstrip('/')}, whatever the case (rename one)")


def _find_copies(placed: list[Placed]) -> tuple[dict[str, str], dict[str, str]]:
    """Return copies by their paths in the source, with their firsts: those to leave out, those that are tested on.

    ValueError for what is trained and tested on. A test set of the publisher stays as it is.
    """
    ordered = sorted(placed, key=lambda picture: (picture.split != "train", picture.path))
    left_out, tested, index = dict[str, str](), dict[str, str](), CopyIndex()
    for picture in ordered:
        is_test, is_good = picture.image.split == "test", picture.defect_type == GOOD
        first = index.add(picture.image.path, [picture.facts.pixels_sha256], is_test=is_test, is_good=is_good)
        if first is not None:
            (tested if is_test else left_out)[picture.image.path] = first
    index.refuse_leaks()
    return left_out, tested


def _with_tested(pictures: list[Placed], groups: Mapping[str, str], share: float) -> list[Placed]:
    """Have a share of the good groups tested on. groups: of the pictures that have no split yet, by path."""
    undecided = {picture.image.path for picture in pictures if picture.split == "train"} & groups.keys()
    tested = groups_to_test({groups[path] for path in undecided}, share)

    def decided(picture: Placed) -> Placed:
        path = picture.image.path
        if path not in undecided or groups[path] not in tested:
            return picture
        return replace(picture, split="test", path=f"test/{GOOD}/{picture.image.name}")

    return [decided(picture) for picture in pictures]


def _arrange(folder: Path, placed: list[Placed], imported: list[Placed]) -> None:
    """Move what is imported to its place, and remove the rest."""
    targets = {picture.image.path: picture.path for picture in imported}
    for picture in placed:
        target = targets.get(picture.image.path)
        if target is None:
            for path in filter(None, (picture.path, picture.mask_path)):
                (folder / path).unlink()
        elif target != picture.path:
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            (folder / picture.path).rename(folder / target)


def _limit(pictures: list[Placed], train_limit: int | None) -> list[Placed]:
    """Leave out all but the first pictures of train by name."""
    train = sorted(picture.path for picture in pictures if picture.split == "train")
    left_out = set(train[train_limit:] if train_limit is not None else [])
    return [picture for picture in pictures if picture.path not in left_out]

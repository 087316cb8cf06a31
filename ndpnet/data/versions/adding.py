"""A batch of new pictures joins a category: checked, without duplicates, pinned, with a report of what changed."""

import json
import os
import shutil
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ndpnet.config import load_params
from ndpnet.data.images import ImageFacts, describe_image
from ndpnet.data.importing.staging import opened_source
from ndpnet.data.levels import depth_of_set
from ndpnet.data.listing import IMPORTED
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import type_of
from ndpnet.data.split import group_of
from ndpnet.data.versions.batch import NUM_THREADS, NewPicture, md5_of, read_batch
from ndpnet.data.versions.changes import Changes, write_changes
from ndpnet.data.versions.version import compare, is_picture
from ndpnet.locks import locked
from ndpnet.storage.pins import Files, PinnedFolder

NUM_NAMES = 5  # of files, in an error
LIMITS = {"max_bytes": 200_000_000_000, "max_files": 2_000_000}  # of an archive, expanded
TRAIN = f"train/{GOOD}"


@dataclass(frozen=True)
class Placement:
    """A picture and its paths relative to the data folder."""

    picture: NewPicture
    target: str
    mask_target: str | None


@dataclass(frozen=True)
class Added:
    """What `add_batch` did; `changes` is None if nothing had to be added or pinned."""

    num_added: int
    num_duplicates: int
    renamed: dict[str, str] = field(default_factory=dict)  # name in the source -> path in the data folder
    changes: Changes | None = None
    report_path: Path | None = None


def add_batch(
    source: str,
    category: str,
    data_dir: Path,
    *,
    place: str = TRAIN,
    masks: Path | None = None,
    endpoint_url: str | None = None,
) -> Added:
    """Copy the new pictures of a folder, an archive or an s3:// prefix into a category, and pin the data.

    `place` is train/good or test/<type>. Nothing is touched before every picture was read; after a kill the same
    call finishes. ValueError names what is wrong.
    """
    data_dir = Path(os.path.abspath(data_dir))  # noqa: PTH100 - without following links
    _check_target(data_dir, category, place, masks)
    with PinnedFolder.open(data_dir) as folder, _only_adder(data_dir) as staging_dir:
        if folder is None:
            raise ValueError(f"{data_dir}/ is in no DVC repository that could pin it (run `git init && dvc init`)")
        with opened_source(source, data_dir, **LIMITS, endpoint_url=endpoint_url) as opened:
            batch = read_batch(opened.root, masks, source)
            before = _check_start(folder, f"{category}/", batch)
            files = folder.listing().files
            placements, num_duplicates = plan(files, _describe(data_dir, files, category), batch, category, place)
            _check_groups(data_dir / category, placements)
            _copy_all(placements, staging_dir)
        for placement in placements:
            _move_into_place(staging_dir, data_dir, placement)
        return _pin_and_report(folder, before, batch, placements, category, place, num_duplicates)


def plan(
    files: Files, there: dict[str, ImageFacts], batch: list[NewPicture], category: str, place: str
) -> tuple[list[Placement], int]:
    """Choose the paths of the pictures that are new. -> placements, number of duplicates; ValueError for leakage.

    there: what the category's pictures show, by path. A duplicate is one that shows the same pixels.
    """
    known: dict[bytes, list[str]] = {}
    for path, facts in there.items():
        known.setdefault(facts.pixels_sha256, []).append(path)
    _check_masks(files, batch, category, place)
    depth_of_set([(path, facts.levels) for path, facts in there.items()] + [(p.name, p.facts.levels) for p in batch])
    _check_leakage(known, batch, f"{category}/{place}/")
    taken = {_stem_key(path) for path in files if path.startswith(f"{category}/{place}/")}
    placements: list[Placement] = []
    for picture in batch:
        if picture.facts.pixels_sha256 not in known:
            known[picture.facts.pixels_sha256] = [picture.name]
            placements.append(_place(picture, files, taken, category, place))
    return placements, len(batch) - len(placements)


def _describe(data_dir: Path, files: Files, category: str) -> dict[str, ImageFacts]:
    """Decode the pictures of a category. -> their facts by path; ValueError for one that cannot be read."""
    below = (f"{category}/train/", f"{category}/test/")
    paths = [path for path in files if path.startswith(below) and is_picture(PurePosixPath(path).name)]
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return dict(zip(paths, pool.map(lambda path: describe_image(data_dir / path), paths), strict=True))


def _check_target(data_dir: Path, category: str, place: str, masks: Path | None) -> None:
    split, _, defect_type = place.partition("/")
    is_plain = bool(defect_type) and defect_type == PurePosixPath(defect_type).name and not defect_type.startswith(".")
    if not (place == TRAIN or (split == "test" and is_plain)):
        raise ValueError(f"no place {place!r} for pictures (train/good, or test/TYPE as test/scratch)")
    if defect_type != GOOD and type_of(defect_type) == GOOD:
        raise ValueError(f"{place} is a name for good pictures (add them --as test/{GOOD})")
    if masks is not None and defect_type == GOOD:
        raise ValueError(f"masks mark defects, but {place} takes good pictures (leave --masks out)")
    if not (data_dir / category / "train").is_dir() or PurePosixPath(category).name != category:
        there = sorted(path.parent.name for path in data_dir.glob("*/train"))
        raise ValueError(
            f"no category {category!r} under {data_dir} (there: {', '.join(there) or 'none'}; "
            "`ndpnet import` makes a new one, `dvc pull` gets a pinned one)"
        )


def _check_start(folder: PinnedFolder, below: str, batch: list[NewPicture]) -> Files:
    """Return what is pinned; ValueError if the data differs from it by more than an earlier try of this batch left."""
    here, pin = folder.listing().files, folder.pin()
    of_batch = {md5 for picture in batch for md5 in (picture.md5, picture.mask_md5)}
    if pin is None:
        return {path: md5 for path, md5 in here.items() if not (path.startswith(below) and md5 in of_batch)}
    pinned, name = folder.pinned_files(), folder.data_dir.name
    mend = f"run `dvc add {name}` first to pin what is here, or `dvc checkout {name}.dvc` to get back what is pinned"
    if pinned is None:
        raise ValueError(f"{name}/ is not what {pin.path.name} pins ({mend})")
    difference = compare(pinned, here)
    foreign = [path for path in difference.added if not (path.startswith(below) and here[path] in of_batch)]
    if foreign or difference.changed or difference.deleted:
        raise ValueError(f"{name}/ is not what {pin.path.name} pins: {difference} ({mend})")
    return pinned


def _check_masks(files: Files, batch: list[NewPicture], category: str, place: str) -> None:
    """Every defective picture of a category has a mask, or none has."""
    if place.endswith(f"/{GOOD}"):
        return
    has_masks = any(path.startswith(f"{category}/ground_truth/") for path in files)
    defective = [path for path in files if path.startswith(f"{category}/test/") and f"/test/{GOOD}/" not in path]
    of_batch = {picture.md5 for picture in batch}
    is_given = batch[0].mask_path is not None
    if has_masks and not is_given:
        raise ValueError(f"the defective pictures of {category} have masks, these have none (pass --masks FOLDER)")
    if is_given and not has_masks and any(files[path] not in of_batch for path in defective):
        raise ValueError(f"the defective pictures of {category} have no masks (draw theirs too, or leave --masks out)")


def _check_groups(category_dir: Path, placements: list[Placement]) -> None:
    """Refuse a name that `prepare` would refuse later: the pattern by which the category was imported finds no group.

    Demo data names none: it is prepared with that of the parameters.
    """
    if not (category_dir / IMPORTED).is_file():
        return
    about = json.loads((category_dir / IMPORTED).read_text(encoding="utf-8"))
    pattern = about["group_pattern"] if "group_pattern" in about else load_params().data.group_pattern
    for placement in placements:
        group_of(placement.target, pattern or "")


def _check_leakage(known: dict[bytes, list[str]], batch: list[NewPicture], below: str) -> None:
    """Refuse pictures that are already there, but in another split or as another type."""
    clashes = [
        f"{picture.name} is already there as {path}"
        for picture in batch
        for path in known.get(picture.facts.pixels_sha256, [])
        if not path.startswith(below)
    ]
    if clashes:
        raise ValueError(
            f"nothing was added, {len(clashes)} pictures for {below} are elsewhere: {'; '.join(clashes[:NUM_NAMES])} "
            "(a picture is trained on or tested on, as one type: remove one of the two)"
        )


def _place(picture: NewPicture, files: Files, taken: set[str], category: str, place: str) -> Placement:
    """Choose a name that is free on any file system; one that is taken gets the content's hash."""
    source = PurePosixPath(picture.name)
    for num_digits in (0, 8, 16, 32):
        stem = f"{source.stem}_{picture.md5[:num_digits]}" if num_digits else source.stem
        mask_target = _mask_target(picture, category, place, stem)
        is_mask_free = mask_target is None or files.get(mask_target, picture.mask_md5) == picture.mask_md5
        if _stem_key(stem + source.suffix) not in taken and is_mask_free:
            break
    else:
        raise ValueError(f"no free name for {picture.name} under {category}/{place} (rename it)")
    taken.add(_stem_key(stem + source.suffix))
    return Placement(picture, f"{category}/{place}/{stem}{source.suffix}", mask_target)


def _mask_target(picture: NewPicture, category: str, place: str, stem: str) -> str | None:
    if picture.mask_path is None:
        return None
    defect_type = place.partition("/")[2]
    return f"{category}/ground_truth/{defect_type}/{stem}_mask{picture.mask_path.suffix}"


def _stem_key(path: str) -> str:
    # without the ending: masks are found by it; folded: some file systems know no case and other accents
    return unicodedata.normalize("NFC", PurePosixPath(path).stem).casefold()


@contextmanager
def _only_adder(data_dir: Path) -> Iterator[Path]:
    """Yield an empty folder beside the data, on its file system, for one process at a time."""
    staging_dir = data_dir.resolve().with_name(f".{data_dir.name}.adding")
    with locked(staging_dir, f"another process adds to {data_dir} (wait until it ends)", is_folder=True):
        for path in staging_dir.iterdir():  # what a killed one left
            path.unlink()
        try:
            yield staging_dir
        finally:
            shutil.rmtree(staging_dir, ignore_errors=True)


def _copy_all(placements: list[Placement], staging_dir: Path) -> None:
    """Copy all files before any gets its name: a full disk, or a source that goes away, changes nothing."""
    for placement in placements:
        picture = placement.picture
        _copy(picture.path, staging_dir / picture.md5, picture.md5)
        if placement.mask_target:
            _copy(picture.mask_path, staging_dir / f"{picture.md5}_mask", picture.mask_md5)


def _copy(source: Path, target: Path, md5: str) -> None:
    content = source.read_bytes()
    if md5_of(content) != md5:
        raise ValueError(f"{source} changed while it was added (add it again)")
    with target.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _move_into_place(staging_dir: Path, data_dir: Path, placement: Placement) -> None:
    # the mask first: a picture that lies here is taken for added, by the next try after a kill
    md5 = placement.picture.md5
    for name, target in ((f"{md5}_mask", placement.mask_target), (md5, placement.target)):
        if target is not None:
            (data_dir / target).parent.mkdir(parents=True, exist_ok=True)
            (staging_dir / name).replace(data_dir / target)


def _pin_and_report(
    folder: PinnedFolder,
    before: Files,
    batch: list[NewPicture],
    placements: list[Placement],
    category: str,
    place: str,
    num_duplicates: int,
) -> Added:
    """Report, then pin: after a kill between the two the next try does both."""
    folder.forget()
    counts: dict[str, Any] = {"num_added": len(placements), "num_duplicates": num_duplicates}
    after, pin = folder.listing(), folder.pin()
    if pin is not None and pin.hash == after.hash:
        return Added(**counts)
    renamed = {
        each.picture.name: each.target
        for each in placements
        if PurePosixPath(each.target).name != PurePosixPath(each.picture.name).name
    }
    looks = {picture.md5: picture.look for picture in batch}
    changes = Changes.between(folder.data_dir, before, after.files, category, place, looks)
    report_path = folder.data_dir.parent / "build" / "data" / f"{category}-changes.html"
    write_changes(report_path, changes)
    folder.add()
    return Added(**counts, renamed=renamed, changes=changes, report_path=report_path)

"""An import into an existing category: new pictures join it, without copies, and the data is pinned anew."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ndpnet.data.images import ImageFacts, open_image
from ndpnet.data.importing.opening import opened_source
from ndpnet.data.importing.placing import Placed, Placer, check_length, mask_name
from ndpnet.data.importing.sources.own import find_batch, flat_name
from ndpnet.data.levels import depth_of_set
from ndpnet.data.listing import has_picture_name
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import name_key, type_of
from ndpnet.data.threads import map_in_threads, pixels_in
from ndpnet.data.versions.version import compare, count_pictures, describe
from ndpnet.files import naming_full_disk, sha256_of, some_names
from ndpnet.folders import scratch_folder
from ndpnet.locks import locked
from ndpnet.storage.pins import Files, PinnedFolder
from ndpnet.table import one_line

TRAIN = f"train/{GOOD}"
New = tuple[Placed, str | None]  # a picture to add, and where it is as a good one so far


@dataclass(frozen=True)
class Added:
    """What `add_batch` did. changes: of the numbers of pictures, none if nothing had to be added or pinned."""

    num_added: int
    num_copies: int
    renamed: dict[str, str]  # whose name was taken: name in the source -> path in the data folder
    moved: dict[str, str]  # good pictures that are called defective now: path before -> path
    changes: tuple[str, ...]


def add_batch(
    source: str,
    category: str,
    data_dir: Path,
    *,
    place: str = TRAIN,
    masks: Path | None = None,
    endpoint_url: str | None = None,
) -> Added:
    """Import the pictures of a folder, an archive or an s3:// prefix into a category that exists, and pin the data.

    `place` is train/good or test/<type>; a picture that is there as a good one moves to the type of its defect.
    Nothing is touched before every picture was read; after a kill the same call finishes. ValueError names what is
    wrong.
    """
    data_dir = Path(os.path.abspath(data_dir))  # noqa: PTH100 - without following links
    _check_target(data_dir, category, place, masks)
    busy = f"another process adds to {data_dir} (wait for it)"
    with PinnedFolder.open(data_dir) as folder:
        if folder is None:
            raise ValueError(f"{data_dir}/ is in no DVC repository that could pin it (run `git init && dvc init`)")
        with (
            locked(data_dir, busy, is_folder=True),
            opened_source(source, data_dir, endpoint_url=endpoint_url) as (root, _),
            scratch_folder(data_dir) as staging_dir,
            naming_full_disk(staging_dir, data_dir),
        ):
            batch = _read_batch(root, staging_dir, place, masks, source)
            here = folder.listing()
            there = _read_category(data_dir, here, category)
            before = _pinned_files(folder, here, there, batch, category)
            _check_masks(before, batch, category, place)
            new = _choose_names(_find_new(there, batch, f"{category}/{place}"), data_dir, f"{category}/{place}")
            for target, (picture, earlier) in new.items():
                _move(picture, earlier, staging_dir, data_dir, target)
        changes = _pin(folder, before, category)
    moved = {earlier: target for target, (_, earlier) in new.items() if earlier}
    names = {picture.image.path: target for target, (picture, earlier) in new.items() if not earlier}
    renamed = {name: path for name, path in names.items() if PurePosixPath(path).name != flat_name(name)}
    return Added(len(new), len(batch) - len(new), renamed, moved, changes)


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


def _read_batch(root: Path, staging_dir: Path, place: str, masks: Path | None, source: str) -> list[Placed]:
    """Copy all pictures before any gets its name: a full disk, or a source that goes away, changes nothing."""
    batch, rejected = Placer(root, staging_dir).place_all(find_batch(root, place, masks, source), "read")
    if rejected:
        problems = [one_line(f"{file} ({reason})") for file, reason in rejected.items()]
        raise ValueError(f"nothing was added: {some_names(problems)}")
    return batch


def _pinned_files(
    folder: PinnedFolder, here: Files, there: dict[str, ImageFacts], batch: list[Placed], category: str
) -> Files:
    """Return what is pinned; ValueError if the data differs from it by more than an earlier try of this batch left."""
    if folder.pinned_hash() is None:
        return here
    pinned, name = folder.pinned_files() or {}, folder.data_dir.name
    difference = compare(pinned, here)
    added, deleted = difference.get("added", []), difference.get("deleted", [])
    masks, pixels = {each.mask_sha256 for each in batch}, {each.facts.pixels_sha256 for each in batch}

    def is_ours(path: str) -> bool:
        if path in there:
            return there[path].pixels_sha256 in pixels
        is_mask = path.startswith(f"{category}/") and has_picture_name(PurePosixPath(path).name)
        return is_mask and sha256_of(folder.data_dir / path) in masks

    is_moved = {pinned[path] for path in deleted} <= {here[path] for path in added}  # good pictures, defective now
    if "changed" in difference or not is_moved or not all(map(is_ours, added)):
        fix = f"run `dvc add {name}` first to pin what is here, or `dvc checkout {name}.dvc` to get back what is pinned"
        raise ValueError(f"{name}/ is not what {name}.dvc pins: {describe(difference)} ({fix})")
    return pinned


def _check_masks(files: Files, batch: list[Placed], category: str, place: str) -> None:
    """Every defective picture of a category has a mask, or none has."""
    if place.endswith(f"/{GOOD}"):
        return
    has_masks = any(path.startswith(f"{category}/ground_truth/") for path in files)
    is_defective = (path.startswith(f"{category}/test/") and f"/test/{GOOD}/" not in path for path in files)
    if has_masks != (batch[0].mask_path is not None) and (has_masks or any(is_defective)):
        fix = "pass --masks FOLDER" if has_masks else "draw theirs too, or leave --masks out"
        raise ValueError(f"masks are for all defective pictures of {category}, or for none ({fix})")


def _read_category(data_dir: Path, files: Files, category: str) -> dict[str, ImageFacts]:
    """Decode the pictures of a category once, by path; ValueError for one that cannot be read."""
    below = (f"{category}/train/", f"{category}/test/")
    paths = [path for path in files if path.startswith(below) and has_picture_name(PurePosixPath(path).name)]
    facts = map_in_threads(
        lambda path: open_image(data_dir / path).facts(), paths, pixels_of=lambda path: pixels_in(data_dir / path)
    )
    return dict(zip(paths, facts, strict=True))


def _find_new(there: dict[str, ImageFacts], batch: list[Placed], place: str) -> list[New]:
    """The pictures of a batch that the place has not. ValueError: one is there in another way, or has another depth."""
    depth_of_set(
        [(path, facts.levels) for path, facts in there.items()]
        + [(picture.image.path, picture.facts.levels) for picture in batch]
    )
    paths: dict[bytes, list[str]] = {}
    for path, facts in there.items():
        paths.setdefault(facts.pixels_sha256, []).append(path)
    new: dict[bytes, New] = {}
    for picture in batch:
        known = paths.get(picture.facts.pixels_sha256, [])
        was_good = len(known) == 1 and type_of(known[0].split("/")[2]) == GOOD
        if not known or (was_good and picture.defect_type != GOOD):  # what was said last counts
            new.setdefault(picture.facts.pixels_sha256, (picture, known[0] if known else None))
        elif not all(path.startswith(f"{place}/") for path in known):
            fix = "trained on or tested on as one type: remove all but one"
            raise ValueError(f"{picture.image.path} is there as {some_names(known)} (a picture is {fix})")
    return list(new.values())


def _choose_names(new: list[New], data_dir: Path, place: str) -> dict[str, New]:
    """Choose paths that are free on any file system; a taken name gets the content's hash."""
    folder = data_dir / place
    taken = {name_key(path.stem) for path in folder.iterdir()} if folder.is_dir() else set()
    targets = {}
    for picture, earlier in new:
        source = PurePosixPath(flat_name(picture.image.path) if earlier is None else earlier)
        stem = source.stem if name_key(source.stem) not in taken else f"{source.stem}_{picture.sha256[:8]}"
        if name_key(stem) in taken:  # of a picture that was changed where it lies
            raise ValueError(f"no free name for {picture.image.path} under {place} (rename it)")
        check_length(f"{stem}{source.suffix}", picture.mask_path)
        taken.add(name_key(stem))
        targets[f"{place}/{stem}{source.suffix}"] = picture, earlier
    return targets


def _move(picture: Placed, earlier: str | None, staging_dir: Path, data_dir: Path, target: str) -> None:
    # the mask first: a picture that lies here is taken for added, by the next try after a kill
    paths: dict[Path, PurePosixPath] = {}
    if picture.mask_path:
        folder = PurePosixPath(target).parents[2] / "ground_truth" / picture.defect_type
        paths[staging_dir / picture.mask_path] = folder / mask_name(target, picture.mask_path)
    paths[data_dir / earlier if earlier else staging_dir / picture.path] = PurePosixPath(target)
    for source, path in paths.items():
        with source.open("rb") as stream:
            os.fsync(stream.fileno())
        (data_dir / path).parent.mkdir(parents=True, exist_ok=True)
        source.replace(data_dir / path)


def _pin(folder: PinnedFolder, before: Files, category: str) -> tuple[str, ...]:
    """Pin what is here now. -> the changed numbers of pictures; nothing if it is pinned already."""
    after = folder.add()  # even then: an earlier call may have found no room in DVC's cache
    old, new = (Counter(count_pictures(files).get(category, {})) for files in (before, after))
    return tuple(f"  {place}: {old[place]} -> {new[place]}" for place in sorted(old | new) if old[place] != new[place])

"""One's own pictures: good/, optional defective/ (or defective/<type>/) and masks/; scans may lie just so."""

from pathlib import Path, PurePosixPath

from ndpnet.data.importing.sources.plan import (
    CategoryPlan,
    Reader,
    SourceImage,
    check_masks,
    find_plans,
    join,
    search_folders,
)
from ndpnet.data.listing import READ_SUFFIXES, list_pictures
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import (
    DEFECTIVE_NAMES,
    GOOD_NAMES,
    MASK_NAMES,
    name_key,
    refuse_defective,
    type_of,
    without_own,
)
from ndpnet.data.roi import ROI

GOOD_FOLDERS = (*GOOD_NAMES, "scans")
DEFECTIVE = "defective"


def find_folder(root: Path, name: str) -> list[CategoryPlan]:
    """Return the categories: folders with good/, up to two levels down."""
    is_good = root.name.lower() in GOOD_FOLDERS
    hint = f"did you mean {root.parent}?" if is_good else "put the defect-free pictures there"
    return find_plans(root, name, {_has_good: _read}, f"no folder good/ in {root} ({hint})")


def find_scans(root: Path, name: str) -> list[CategoryPlan]:
    """Return the scans: as `find_folder`, or in scans/, or all good and directly in the folder."""
    reader = Reader(root)
    if search_folders(reader, _has_good, depth=2) or not reader.has_pictures(""):
        return find_folder(root, name)
    images = [SourceImage(path, path, GOOD) for path in reader.pictures("", skip=(ROI,))]
    return [CategoryPlan(name, reader.root, images, reader.ignored)]


def find_batch(root: Path, place: str, masks: Path | None, source: str) -> list[SourceImage]:
    """Return all pictures below a folder for one place, as test/scratch; masks: a folder, or the name of one in it.

    They are called by numbers. ValueError names what cannot be read, and a picture or mask without the other.
    """
    root = root.resolve()
    masks_dir = _masks_dir(root, masks)
    split, _, defect_type = place.partition("/")
    paths = [path for path in list_pictures(root).checked() if masks_dir is None or masks_dir not in path.parents]
    if not paths:
        raise ValueError(f"no pictures in {source} (known endings: {', '.join(READ_SUFFIXES)})")
    _check_folders(root, paths, is_good=defect_type == GOOD)
    in_folder = Reader(masks_dir).masks("", is_deep=True) if masks_dir else {}
    by_stem = {stem: f"{masks_dir}/{mask}" for stem, mask in in_folder.items()}
    images = []
    for number, path in enumerate(paths):
        name = path.relative_to(root)
        mask = by_stem.pop(name_key(name.with_suffix("").as_posix()), None)
        if masks_dir and mask is None:
            raise ValueError(f"{name} has no mask (add {path.stem}_mask.png)")
        images.append(SourceImage(name.as_posix(), f"{number:06d}{path.suffix}", defect_type, split, mask))
    if by_stem:
        raise ValueError(f"mask {min(by_stem.values())} has no picture (remove the mask or add the picture)")
    return images


def _check_folders(root: Path, paths: list[Path], *, is_good: bool) -> None:
    if is_good:
        refuse_defective(root, paths)
    _, left_out = without_own(root, paths, is_file=Path.is_file)
    for folder, content in left_out.items():
        raise ValueError(f"{folder} holds {content}, no pictures to add (leave it out, or pass masks as --masks)")


def _masks_dir(root: Path, masks: Path | None) -> Path | None:
    if masks is None:
        return None
    for folder in (Path(masks), root / masks):
        if folder.is_dir():
            return folder.resolve()
    raise ValueError(f"no folder {masks} with masks (check the path)")


def _has_good(reader: Reader, path: str) -> bool:
    return reader.child(path, *GOOD_FOLDERS) is not None


def _read(reader: Reader, path: str, name: str) -> CategoryPlan:
    good = reader.child(path, *GOOD_FOLDERS)
    assert good is not None
    defective = reader.child(path, *DEFECTIVE_NAMES)
    masks_dir = reader.child(path, *MASK_NAMES)
    masks = reader.masks(masks_dir, is_deep=True) if masks_dir else {}  # "stem", or "type/stem"
    images = []
    # good pictures last: where a mask fits a good and a defective one, it is the defective one's
    for kind, folder in (*_types(reader, defective).items(), (GOOD, good)):
        is_deep = folder != defective
        types_below = () if is_deep else tuple(name.casefold() for name in reader.folders(folder))
        for picture in reader.pictures(folder, is_deep=is_deep, skip=types_below):
            inner = picture.removeprefix(f"{folder}/")
            file_name = flat_name(inner)
            mask = _claim(masks, kind, inner, file_name)
            images.append(SourceImage(picture, file_name, kind, "", mask))
    check_masks(reader, images, masks)
    return CategoryPlan(name, reader.root / path, images, reader.ignored)


def flat_name(path: str) -> str:
    """A file's name with the folders it lies in as a prefix: monday/1.png is monday_1.png."""
    return path.replace("/", "_")


def _types(reader: Reader, defective: str | None) -> dict[str, str]:
    """Return the folders of defective pictures by type; those of no type are called defective."""
    if defective is None:
        return {}
    types = {name: join(defective, name) for name in reader.folders(defective)}
    for name, folder in types.items():
        if type_of(name) == GOOD or name.casefold() in (*GOOD_FOLDERS, DEFECTIVE):
            raise ValueError(f"{reader.root / folder} is no type of defect (rename the folder)")
    return {DEFECTIVE: defective} | types


def _claim(masks: dict[str, str], defect_type: str, *names: str) -> str | None:
    """Take a picture's mask out of all: of a name, its path below its folder, say, in a folder of its type first."""
    stems = [PurePosixPath(name).with_suffix("").as_posix() for name in names]
    keys = [name_key(stem) for prefix in (f"{defect_type}/", "") for stem in (prefix + stem for stem in stems)]
    return next((masks.pop(key) for key in keys if key in masks), None)

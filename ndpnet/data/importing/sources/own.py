"""One's own pictures: good/, optional defective/ (or defective/<type>/) and masks/; scans may lie just so."""

from pathlib import Path, PurePosixPath

from ndpnet.data.importing.sources.plan import Found, Masks, Paths, SourceImage, by_category, by_part
from ndpnet.data.listing import READ_SUFFIXES, list_pictures
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import (
    DEFECTIVE_NAMES,
    GOOD_NAMES,
    MASK_NAMES,
    plain,
    refuse_defective,
    refuse_masks,
    type_of,
    without_own,
)
from ndpnet.data.roi import ROI

DEFECTIVE, MASKS, SCANS = "defective", "masks", "scans"
PARTS = dict.fromkeys(DEFECTIVE_NAMES, DEFECTIVE) | dict.fromkeys(MASK_NAMES, MASKS)
PARTS |= dict.fromkeys((*GOOD_NAMES, SCANS), GOOD)


def find_folder(root: Path, paths: Paths) -> Found:
    """The categories: folders with good/."""
    for folder, inside in by_category(paths, lambda parts: PARTS.get(plain(parts[0])) == GOOD).items():
        parts, depth = by_part(inside, folder, PARTS), len(folder.parts) + 1
        masks = Masks(root, (("/".join(path.parts[depth:]), path) for path in parts[MASKS]))
        images = [_read(root, path, depth, DEFECTIVE, masks) for path in parts[DEFECTIVE]]
        # last: where a mask fits a good picture and a defective one, it is the defective one's
        images += [_read(root, path, depth, GOOD, masks) for path in parts[GOOD]]
        masks.check(images)
        yield folder, images


def _read(root: Path, path: PurePosixPath, depth: int, kind: str, masks: Masks) -> SourceImage:
    """A picture in good/ or defective/; its mask may lie in a folder of its type, and have its folders in its name."""
    for parent in path.parents[: -depth - 1]:
        refuse_masks(root / parent)
    inner = path.relative_to(path.parents[-depth - 1])
    if kind == DEFECTIVE and len(inner.parts) > 1:
        kind, inner = inner.parts[0], inner.relative_to(inner.parts[0])
        if type_of(kind) == GOOD or kind.casefold() in (DEFECTIVE, SCANS):
            raise ValueError(f"{root / path.parent} is no type of defect (rename the folder)")
    names = (str(inner), flat_name(str(inner)))
    mask = masks.take(*(f"{kind}/{name}" for name in names), *names)
    return SourceImage(str(path), names[1], kind, "", mask)


def flat_name(path: str) -> str:
    """A file's name with the folders it lies in as a prefix: monday/1.png is monday_1.png."""
    return path.replace("/", "_")


def find_scans(root: Path, paths: Paths) -> Found:
    """As `find_folder`, or all good and directly in the folder."""
    found = dict(find_folder(root, paths))
    scans = [SourceImage(str(path), str(path), GOOD) for path in paths if len(path.parts) == 1 and path.name != ROI]
    yield from found.items() if found or not scans else [(PurePosixPath(), scans)]


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
    drawn = list_pictures(masks_dir).checked() if masks_dir else []
    known = Masks(root, ((path.relative_to(masks_dir or root).as_posix(), PurePosixPath(path)) for path in drawn))
    images = []
    for number, path in enumerate(paths):
        name = path.relative_to(root).as_posix()
        mask = known.take(name)
        if masks_dir and mask is None:
            raise ValueError(f"{name} has no mask (add {path.stem}_mask.png)")
        images.append(SourceImage(name, f"{number:06d}{path.suffix}", defect_type, split, mask))
    known.check()
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

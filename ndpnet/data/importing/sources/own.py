"""One's own pictures: good/, optional defective/ (or defective/<type>/) and masks/; scans may lie just so."""

from pathlib import Path, PurePosixPath

from ndpnet.data.importing.sources.plan import (
    ROI,
    CategoryPlan,
    Reader,
    SourceImage,
    category_name,
    check_masks,
    join,
    search_folders,
)
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import GOOD_NAMES, type_of

GOOD_FOLDERS = (*GOOD_NAMES, "scans")
DEFECTIVE_NAMES = ("defective", "defect", "defects", "bad", "ko")
MASK_NAMES = ("masks", "mask", "ground_truth")
DEFECTIVE = "defective"


def find_folder(root: Path, name: str) -> list[CategoryPlan]:
    """Return the categories: folders with good/, up to two levels down."""
    found = search_folders(Reader(root), _has_good, depth=2)
    if not found:
        raise ValueError(f"no folder good/ in {root} (put the defect-free pictures there)")
    return [_read(Reader(root), path, category_name(path, name)) for path in found]


def find_scans(root: Path, name: str) -> list[CategoryPlan]:
    """Return the scans: as `find_folder`, or in scans/, or all good and directly in the folder."""
    reader = Reader(root)
    if search_folders(reader, _has_good, depth=2) or not reader.has_pictures(""):
        return find_folder(root, name)
    images = [SourceImage(path, path, GOOD) for path in reader.pictures("", skip=(ROI,))]
    return [CategoryPlan(name, reader.root, images, "", reader.optional_file("", ROI), reader.ignored)]


def _has_good(reader: Reader, path: str) -> bool:
    return reader.child(path, *GOOD_FOLDERS) is not None


def _read(reader: Reader, path: str, name: str) -> CategoryPlan:
    good = reader.child(path, *GOOD_FOLDERS)
    assert good is not None
    defective = reader.child(path, *DEFECTIVE_NAMES)
    masks = _find_masks(reader, reader.child(path, *MASK_NAMES))
    images = []
    # good pictures last: where a mask fits a good and a defective one, it is the defective one's
    for kind, folder in (*_types(reader, defective).items(), (GOOD, good)):
        is_deep = folder != defective
        for picture in reader.pictures(folder, is_deep=is_deep, skip=() if is_deep else _types_below(reader, folder)):
            file_name = _flat(picture, folder)
            mask = _claim(masks, kind, PurePosixPath(file_name).stem)
            images.append(SourceImage(picture, file_name, kind, "", mask))
    check_masks(reader, images, masks)
    return CategoryPlan(name, reader.root / path, images, "", reader.optional_file(path, ROI), reader.ignored)


def _flat(path: str, folder: str) -> str:
    """Return the file's name, with the folders between as a prefix: good/monday/1.png is monday_1.png."""
    return path.removeprefix(f"{folder}/").replace("/", "_")


def _types(reader: Reader, defective: str | None) -> dict[str, str]:
    """Return the folders of defective pictures by type; those of no type are called defective."""
    if defective is None:
        return {}
    types = {name: join(defective, name) for name in reader.folders(defective)}
    for name, folder in types.items():
        if type_of(name) == GOOD or name.casefold() in (*GOOD_FOLDERS, DEFECTIVE):
            raise ValueError(f"{reader.root / folder} is no type of defect (rename the folder)")
    return {DEFECTIVE: defective} | types


def _types_below(reader: Reader, folder: str) -> tuple[str, ...]:
    return tuple(name.casefold() for name in reader.folders(folder))


def _find_masks(reader: Reader, folder: str | None) -> dict[str, str]:
    """Return the masks by "stem", or by "type/stem" where they lie in folders of their type."""
    if folder is None:
        return {}
    kinds = reader.folders(folder)
    found = reader.masks(folder, skip=tuple(kind.casefold() for kind in kinds))
    for kind in kinds:
        found |= {f"{kind}/{stem}": mask for stem, mask in reader.masks(join(folder, kind)).items()}
    return found


def _claim(masks: dict[str, str], defect_type: str, stem: str) -> str | None:
    return masks.pop(f"{defect_type}/{stem}", None) or masks.pop(stem, None)

"""What every layout is made of: the pictures of a category, their masks, and which paths belong to which category."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ndpnet.data.manifest import GOOD
from ndpnet.data.names import name_key, plain
from ndpnet.data.roi import ROI

Ellipse = tuple[float, float, float, float, float]  # half axes, angle in radians counter-clockwise, centre x and y
Paths = list[PurePosixPath]  # of pictures, relative to the source's folder


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One picture where it is; paths are posix, relative to the source's folder."""

    path: str
    name: str  # of the file in the imported category
    defect_type: str
    split: str = ""  # the publisher's, "train" or "test"; "" if there is none
    mask_path: str | None = None
    ellipses: tuple[Ellipse, ...] = ()
    is_label: bool = False  # the mask tells whether there is a defect: an empty one means good


Found = Iterator[tuple[PurePosixPath, list[SourceImage]]]  # a category's folder, and its pictures


@dataclass(frozen=True)
class CategoryPlan:
    """One category: its pictures, and what lies beside them."""

    name: str
    folder: Path
    images: list[SourceImage]
    ignored: list[str]  # what the layout does not know, as paths below the source
    group_pattern: str  # what was photographed together, by the layout's file names


class Masks:
    """Masks by names that their pictures have, too; each is taken once."""

    def __init__(self, root: Path, masks: Iterable[tuple[str, PurePosixPath]], *, endings: str = "_mask") -> None:
        """ValueError: two for one picture. endings: what may stand behind a picture's name."""
        self.root, self._left = root, dict[str, PurePosixPath]()
        for name, mask in masks:
            key = _key(name)
            for ending in endings.split():
                key = key.removesuffix(ending)
            if (other := self._left.setdefault(key, mask)) is not mask:
                raise ValueError(f"two masks for one picture: {root / other} and {mask} (remove one)")

    def take(self, *names: str) -> str | None:
        """The mask with the first of these names that one has."""
        return next((str(self._left.pop(key)) for key in map(_key, names) if key in self._left), None)

    def check(self, images: Iterable[SourceImage] = ()) -> None:
        """Refuse a mask without picture, and a defective picture without mask where others have one."""
        if self._left:
            orphan = self.root / min(self._left.values())
            raise ValueError(f"mask {orphan} has no picture (name it as its picture, or remove it)")
        bare = [image.path for image in images if image.defect_type != GOOD and image.mask_path is None]
        if bare and any(image.mask_path for image in images):
            raise ValueError(f"picture {self.root / bare[0]} has no mask, but others have (add its mask)")


def _key(name: str) -> str:
    return name_key(PurePosixPath(name).with_suffix("").as_posix())


def by_category(paths: Paths, is_inside: Callable[[tuple[str, ...]], bool]) -> dict[PurePosixPath, Paths]:
    """Pictures by their category's folder: one in which some path is as a category has it; none within another."""
    folders = {path.parents[-1 - depth] for path in paths for depth in _depths(path) if is_inside(path.parts[depth:])}
    categories: dict[PurePosixPath, Paths] = defaultdict(list)
    for path in paths:
        folder = next((each for each in reversed(path.parents) if each in folders), None)
        if folder is not None:
            categories[folder].append(path)
    return categories


def _depths(path: PurePosixPath) -> range:
    return range(len(path.parts) - 1)


def by_part(paths: Paths, folder: PurePosixPath, names: Mapping[str, str]) -> dict[str, Paths]:
    """Pictures of a category by what its folders' names, as `plain` writes them, mean; the others are left out."""
    parts: dict[str, Paths] = defaultdict(list)
    for path in paths:
        if meaning := names.get(plain(path.parts[len(folder.parts)])):
            parts[meaning].append(path)
    return parts


def unknown_in(root: Path, folder: PurePosixPath, images: list[SourceImage], paths: Paths) -> list[str]:
    """What lies in a category's folder and is not its layout's: pictures, or the folders that have nothing else.

    ValueError: it is a folder among pictures.
    """
    used = [PurePosixPath(path) for image in images for path in (image.path, image.mask_path) if path]
    holding = {path.parent for path in used}
    known = {*used, folder / ROI, *(parent for path in holding for parent in (path, *path.parents))}
    unknown = set()
    for path in (path for path in paths if path.is_relative_to(folder) and path not in known):
        outer = next(each for each in (*reversed(path.parents), path) if each not in known)
        if outer != path and outer.parent in holding:
            raise ValueError(f"folder {root / outer} lies among the pictures (move its pictures up)")
        unknown.add(str(path) if outer == path else f"{outer}/")
    return sorted(unknown)

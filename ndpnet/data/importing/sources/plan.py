"""What a layout's reader gives: the pictures of a category, and how to look into folders."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ndpnet.data.listing import Kind, has_picture_name, is_litter, kind_of
from ndpnet.data.manifest import GOOD
from ndpnet.data.names import name_key, plain, refuse_masks
from ndpnet.data.roi import ROI

logger = logging.getLogger(__name__)

Ellipse = tuple[float, float, float, float, float]  # half axes, angle in radians counter-clockwise, centre x and y


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


@dataclass(frozen=True)
class CategoryPlan:
    """One category: its pictures, and what lies beside them."""

    name: str
    folder: Path
    images: list[SourceImage]
    ignored: list[str] = field(default_factory=list)  # files among the pictures that are none
    group_pattern: str = ""  # what was photographed together, by the layout's file names


class Reader:
    """Looks into the folders of one source; paths are posix, relative to it.

    What may be a picture and cannot be read as one is an error if it is strict, else noted as ignored.
    """

    def __init__(self, root: Path, *, is_strict: bool = False) -> None:
        self.root, self.is_strict = Path(root), is_strict
        self.ignored: list[str] = []

    def folders(self, path: str = "") -> list[str]:
        """Return the names of the folders in a folder; hidden ones are not data."""
        return [entry.name for entry in self._entries(path) if entry.is_dir()]

    def child(self, path: str, *names: str) -> str | None:
        """Return the path of the folder in `path` with one of these names, as `plain` compares them."""
        plain_names = {plain(name) for name in names}
        matches = [name for name in self.folders(path) if plain(name) in plain_names]
        if len(matches) > 1:
            raise ValueError(f"{self.root / path} has both {matches[0]}/ and {matches[1]}/ (keep one)")
        return join(path, matches[0]) if matches else None

    def pictures(self, path: str, *, is_deep: bool = False, skip: tuple[str, ...] = ()) -> Iterator[str]:
        """Yield the paths of a folder's pictures by name; other files are noted as ignored, but for those in `skip`."""
        for entry in self._entries(path):
            inner = join(path, entry.name)
            if entry.name.casefold() in skip:
                continue
            kind = self._kind(inner)
            if kind in (Kind.FOLDER, Kind.LINK) and not is_deep:
                raise ValueError(f"folder {self.root / inner} lies among the pictures (move its pictures up)")
            if kind is Kind.LINK:
                raise ValueError(f"{self.root / inner} is a link to a folder, not followed (put that folder there)")
            if kind is Kind.FOLDER:
                refuse_masks(self.root / inner)
                yield from self.pictures(inner, is_deep=True)
            elif kind is Kind.PICTURE:
                yield inner
            else:
                self.ignored.append(inner)

    def has_pictures(self, path: str) -> bool:
        """Whether a picture lies directly in a folder."""
        return any(self._kind(join(path, entry.name)) is Kind.PICTURE for entry in self._entries(path))

    def masks(
        self, path: str, *, ending: str = "_mask", skip: tuple[str, ...] = (), is_deep: bool = False
    ) -> dict[str, str]:
        """Return a folder's masks by the `name_key` of their pictures' path in it, without the ending of their names.

        ValueError for a second one.
        """
        masks: dict[str, str] = {}
        for mask in self.pictures(path, skip=skip, is_deep=is_deep):
            file = PurePosixPath(mask).relative_to(path)
            stem = name_key(file.with_suffix("").as_posix()).removesuffix(ending)
            if stem in masks:
                raise ValueError(f"two masks for one picture: {self.root / masks[stem]} and {mask} (remove one)")
            masks[stem] = mask
        return masks

    def _kind(self, path: str) -> Kind:
        try:
            return kind_of(self.root / path)
        except ValueError as error:
            if self.is_strict:
                raise
            logger.warning("%s", error)
            return Kind.OTHER  # the report names it among the ignored

    def _entries(self, path: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self.root / path) as entries:
                listed = [entry for entry in entries if not is_litter(entry.name)]
        except OSError as error:
            raise ValueError(f"cannot read folder {self.root / path}: {error.strerror} (check the path)") from error
        return sorted(listed, key=lambda entry: entry.name)


FolderTest = Callable[[Reader, str], bool]


def search_folders(reader: Reader, is_wanted: FolderTest, *, depth: int) -> list[str]:
    """Return the wanted folders at most `depth` below the source; none within another."""
    folders: list[str] = []
    level = [""]
    for _ in range(depth + 1):
        matches = [path for path in level if is_wanted(reader, path)]
        folders += matches
        level = [join(path, name) for path in level if path not in matches for name in reader.folders(path)]
    return folders


def find_plans(
    root: Path,
    name: str,
    readers: Mapping[FolderTest, Callable[[Reader, str, str], CategoryPlan]],
    none: str,
    *,
    depth: int = 2,
) -> list[CategoryPlan]:
    """Read the folders of each kind, at most `depth` below the source, by whose name one is called that fills it.

    ValueError: there is none, in the words of `none`.
    """
    folders = Reader(root)
    plans = [
        read(Reader(root), path, PurePosixPath(path).name or name)
        for is_wanted, read in readers.items()
        for path in search_folders(folders, is_wanted, depth=depth)
    ]
    if not plans:
        raise ValueError(none)
    return plans


def check_masks(reader: Reader, images: list[SourceImage], unclaimed: dict[str, str]) -> None:
    """Refuse a mask without picture, and a defective picture without mask where others have one."""
    if unclaimed:
        orphan = reader.root / min(unclaimed.values())
        raise ValueError(f"mask {orphan} has no picture (name it as its picture, or remove it)")
    if any(image.mask_path for image in images):
        for image in images:
            if image.defect_type != GOOD and image.mask_path is None:
                raise ValueError(f"picture {reader.root / image.path} has no mask, but others have (add its mask)")


def unknown_beside(images: list[SourceImage], folder: Path, root: Path) -> list[str]:
    """Return the folders and pictures in a category's folder that its layout does not know, as paths below root."""
    depth = len(folder.relative_to(root).parts)
    paths = [path for image in images for path in (image.path, image.mask_path) if path]
    known = {ROI, *(PurePosixPath(path).parts[depth] for path in paths)}
    entries = [entry for entry in sorted(folder.iterdir()) if entry.name not in known and not is_litter(entry.name)]
    others = [entry for entry in entries if _has_files(entry) or has_picture_name(entry.name)]
    return [entry.relative_to(root).as_posix() + "/" * entry.is_dir() for entry in others]


def _has_files(folder: Path) -> bool:
    return any(path.is_file() for path in folder.rglob("*"))


def join(path: str, name: str) -> str:
    """Return a path below the source; "" is the source itself."""
    return f"{path}/{name}" if path else name

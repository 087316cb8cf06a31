"""What names a model package: one hash over everything that lies in its folder."""

from pathlib import Path

from ndpnet.lineage import folder_hash


def package_files(folder: Path) -> tuple[str, ...]:
    """Names of a package's files, sorted, without hidden ones. ValueError: a folder or a link among them."""
    names = sorted(path.name for path in Path(folder).iterdir() if not path.name.startswith("."))
    for name in names:
        path = Path(folder) / name
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{path} is no plain file (a model package has nothing else: remove it)")
    return tuple(names)


def package_hash(folder: Path) -> str:
    """Hash of a package: of the sorted [name, sha256] of its files, as 64 hex digits."""
    return folder_hash(Path(folder), package_files(folder))

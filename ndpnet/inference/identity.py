"""What names a model package: one hash over everything that lies in its folder."""

import shutil
from pathlib import Path
from typing import Any

from ndpnet.files import hash_of, read_record, sha256_of
from ndpnet.inference.engines import ENGINES_DIR
from ndpnet.lineage import folder_hash

SEAL = "record_hash"


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """A record with a hash over all of it: a threshold is no number to be changed by hand."""
    record = {name: value for name, value in record.items() if name != SEAL}
    return record | {SEAL: hash_of(record)}


def read_sealed(path: Path, version: int, fix: str, *, fix_damage: str = "") -> dict[str, Any]:
    """A record as it was written, with the files beside it that it has the hashes of. ValueError in one line."""
    fix_damage = fix_damage or fix
    record = read_record(path, version, fix, fix_damage=fix_damage)
    try:
        is_sealed = record == sealed(record)
    except ValueError:  # a number that JSON does not have
        is_sealed = False
    if not is_sealed:
        raise ValueError(
            f"{path} was changed after it was written (copy the package again; `ndpnet calibrate` sets a threshold)"
        )
    for name, expected in record["files"].items():
        file = path.with_name(name)
        if not file.is_file():
            raise ValueError(f"{file} is missing ({fix_damage})")
        if sha256_of(file) != expected:
            raise ValueError(f"{file} is damaged: not the hash in {path.name} ({fix_damage})")
    return record


def package_files(folder: Path) -> tuple[str, ...]:
    """Names of a package's files, those of its engines with their folders, sorted, without hidden ones.

    ValueError: another folder or a link among them.
    """
    folder, names = Path(folder), []
    for path in folder.rglob("*"):
        parts = path.relative_to(folder).parts
        is_of_engines = parts[0] == ENGINES_DIR and len(parts) <= 2 and path.is_dir() and not path.is_symlink()
        if is_of_engines or any(part.startswith(".") for part in parts):
            continue
        if path.is_symlink() or not path.is_file():
            raise ValueError(f"{path} is no plain file (a model package has nothing else: remove it)")
        names.append("/".join(parts))
    return tuple(sorted(names))


def package_hash(folder: Path) -> str:
    """Hash of a package: of the sorted [name, sha256] of its files, as 64 hex digits."""
    return folder_hash(Path(folder), package_files(folder))


def hash_without_engines(folder: Path) -> str:
    """As `package_hash`, without the engines: of what training and calibration made."""
    names = (name for name in package_files(folder) if not name.startswith(f"{ENGINES_DIR}/"))
    return folder_hash(Path(folder), tuple(names))


def copy_package(source: Path, target: Path) -> None:
    """Copy a package's files into the folder `target`, which exists."""
    for name in package_files(source):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target / name)

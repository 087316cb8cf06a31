"""An environment in which some requirements alone are installed, as links to the packages of this one."""

import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "ndpnet"  # not linked: of a checkout, and not what a wheel holds
HEAVY = {"kfp", "dvc", "boto3", "sklearn", "lightning_fabric", "sqlalchemy"}  # they train, track, store or schedule


class Environment:
    """A folder with a Python of its own; ndpnet itself is not in it. ImportError: a requirement is not installed."""

    def __init__(self, folder: Path, requirements: list[str]) -> None:
        self.scripts = folder / "bin"
        self.site = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        for package in needed_by(requirements):
            # no scripts: they name this Python
            files = [file for file in package.files or [] if ".." not in file.parts]
            for path in {Path(file if file.parts[0] in shared() else file.parts[0]) for file in files}:
                if not (self.site / path).exists():  # MLflow and its smaller part have files in common
                    (self.site / path).parent.mkdir(parents=True, exist_ok=True)
                    (self.site / path).symlink_to(package.locate_file(path))

    def heavy(self) -> set[str]:
        """Which of HEAVY it has."""
        return {name for name in HEAVY if (self.site / name).exists()}


@cache
def shared() -> set[str]:
    """Folders that several packages have files in: they are not linked as a whole."""
    names = Counter(name for package in distributions() for name in {file.parts[0] for file in package.files or []})
    return {name for name, count in names.items() if count > 1}


def needed_by(requirements: list[str]) -> Iterator[Distribution]:
    """The packages that pip installs for them."""
    known, waiting = {PROJECT}, with_extras(requirements)
    for name, of_extra in waiting:  # grows
        package = distribution(name)
        if name not in known:
            known.add(name)
            yield package
        inner = [(line, Requirement(line).marker) for line in package.requires or []]
        more = with_extras(line for line, marker in inner if marker is None or marker.evaluate({"extra": of_extra}))
        waiting += [each for each in more if each not in waiting]


def with_extras(requirements: Iterable[str]) -> list[tuple[str, str]]:
    """Names of packages, alone and with each extra that is asked for."""
    asked = map(Requirement, requirements)
    return [(canonicalize_name(each.name), extra) for each in asked for extra in ("", *each.extras)]

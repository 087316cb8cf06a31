"""A Python in which some requirements alone can be imported, as if nothing else was installed."""

import json
import os
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ndpnet.commands import output

BLOCKING = """
import json, os, sys
from importlib.machinery import PathFinder
blocked, find = set(json.loads(os.environ["BLOCKED"])), PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, path=None, target=None: None if name.partition(".")[0] in blocked else find(name, path, target)
)
"""
# they train, track, store or schedule
HEAVY = {"kfp", "dvc", "boto3", "sklearn", "lightning_fabric", "matplotlib", "sqlalchemy"}


def _closure(requirements: list[str]) -> set[str]:
    """Names of the distributions that they install."""
    found, todo = set(), [Requirement(each) for each in requirements]
    while todo:
        requirement = todo.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in found:
            continue
        found.add(key)
        try:
            inner = [Requirement(each) for each in distribution(requirement.name).requires or []]
        except PackageNotFoundError:
            continue  # of another platform
        extras = requirement.extras | {""}
        todo += [each for each in inner if not each.marker or any(each.marker.evaluate({"extra": x}) for x in extras)]
    return {name for name, _ in found}


def blocked_by(requirements: list[str]) -> list[str]:
    """Modules that are installed here, and that these requirements do not bring along."""
    installed = _closure(requirements) | {"ndpnet"}
    modules = packages_distributions()
    return [name for name, owners in modules.items() if not {canonicalize_name(each) for each in owners} & installed]


def run_without(blocked: list[str], code: str, *arguments: object, cwd: Path, path: str = "") -> str:
    """Run Python code where these modules cannot be imported; path: PYTHONPATH. -> what it prints"""
    environment = os.environ | {"BLOCKED": json.dumps(blocked), "PYTHONPATH": path}
    return output([sys.executable, "-c", BLOCKING + code, *map(str, arguments)], cwd, environment)

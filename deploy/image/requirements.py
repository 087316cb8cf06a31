"""Print what an image installs, for pip: `train` all dependencies of pyproject.toml, `serve` its group of that name.

`station` takes what the extra of that name adds to it.
Names only: requirements.lock, as pip's constraints, pins them and what they need.
"""

import sys
import tomllib
from pathlib import Path


def requirements_of(target: str, project: dict) -> list[str]:
    """Requirements of an image's target, from the content of pyproject.toml. KeyError: no such target."""
    about = project["project"]
    extras = [each for name in ("train", "pipeline") for each in about["optional-dependencies"][name]]
    every = [each for each in about["dependencies"] + extras if not each.startswith("ndpnet[")]
    serve = project["dependency-groups"]["serve"]
    return {"train": every, "serve": serve, "station": serve + about["optional-dependencies"]["station"]}[target]


if __name__ == "__main__":
    print(*requirements_of(sys.argv[1], tomllib.loads(Path("pyproject.toml").read_text())), sep="\n")

"""dvc.yaml against the code: a stage depends on the code that its step uses, on no other, and on all it writes."""

import ast
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from documents import ROOT

from ndpnet.config import TrainConfig
from ndpnet.lineage import TRAINING_CODE

STEPS = ROOT / "ndpnet" / "steps.py"  # hands over to the code below: as a dependency, any change of it would retrain
DECIDES_NO_MODEL = {  # it finds, refuses, writes or draws
    *(f"ndpnet/{name}.py" for name in ("files", "folders", "locks", "redaction", "pretrained_weights", "storage/pins")),
    *(f"ndpnet/data/{name}.py" for name in ("copies", "listing", "names", "threads", "versions/version")),
    *(f"ndpnet/data/importing/sources/{name}.py" for name in ("__init__", "mvtec", "own", "plan")),
    *(f"ndpnet/inference/{name}.py" for name in ("identity", "overlay", "regions", "verdict")),
    *(f"ndpnet/inference/engines/{name}.py" for name in ("__init__", "runtimes", "stored")),
}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def used_by(stage: str) -> set[Path]:
    """Files that the function of a step imports, itself or by what it imports."""
    (step,) = (node for node in ast.parse(STEPS.read_text()).body if getattr(node, "name", "") == stage)
    used, waiting = set[Path](), [*imported_below(step)]
    while waiting:
        path = waiting.pop()
        if path not in used:
            used.add(path)
            waiting += imported_below(ast.parse(path.read_text()))
    return used


def imported_below(code: ast.AST) -> Iterator[Path]:
    """Files of the library that imports below a node name, inside functions too."""
    for node in ast.walk(code):
        # what is told the tracking server changes no output
        if isinstance(node, ast.ImportFrom) and re.match(r"ndpnet(?!\.tracking)", str(node.module)):
            folder = ROOT.joinpath(*str(node.module).split("."))
            for place in (folder / alias.name for alias in node.names):
                files = (
                    place.with_suffix(".py"),
                    place / "__init__.py",
                    folder.with_suffix(".py"),
                    folder / "__init__.py",
                )
                yield next(path for path in files if path.is_file())


def below(names: Iterable[str], folder: Path = ROOT) -> set[Path]:
    """Files that are named, or lie in a folder that is."""
    places = [folder / name for name in names]
    return {file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place])}


def code_of(stage: str) -> list[str]:
    return [dep for dep in STAGES[stage]["deps"] if dep.startswith("ndpnet/")]


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_depends_on_the_code_that_its_step_uses_and_on_no_other(stage: str) -> None:
    listed, used = code_of(stage), used_by(stage)
    assert listed == sorted(set(listed))
    assert sorted(used - below(listed)) == [], "add these to the deps of the stage"
    assert [dep for dep in listed if not below([dep]) & used] == [], "take these out of the deps of the stage"


def test_a_change_of_what_decides_a_model_changes_its_code_hash() -> None:
    used = {path.relative_to(ROOT).as_posix() for stage in ("prepare", "train_phase2") for path in used_by(stage)}
    covered = {path.relative_to(ROOT).as_posix() for path in below(TRAINING_CODE, ROOT / "ndpnet")}
    assert sorted(used - covered - DECIDES_NO_MODEL) == [], "add these to TRAINING_CODE, or below"


@pytest.mark.parametrize("stage", sorted(set(STAGES) - {"synthesize"}))
def test_a_shell_takes_a_category_for_one_word_whatever_it_is_called(stage: str) -> None:
    command = STAGES[stage]["cmd"]
    words = shlex.split(command.replace("${item.category}", 'Fläche 1;touch "x" $(y)'))
    assert words == [word.replace("brick", 'Fläche 1;touch "x" $(y)') for word in
                     shlex.split(command.replace("${item.category}", "brick"))]  # fmt: skip
    assert any("Fläche 1" in word for word in words)


def test_phase_1_depends_on_all_parameters_of_training_but_phase_2() -> None:
    (listed,) = STAGES["train_phase1"]["params"][0].values()
    names = {f"train.{name}" for name in TrainConfig.model_fields} - {"train.phase2"}
    assert {name for name in listed if name.startswith("train")} == names

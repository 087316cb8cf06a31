"""dvc.yaml against the code: a stage depends on the files that its step uses, on no other, and on all it writes."""

import shlex
from pathlib import Path

import pytest
import yaml
from code_graph import PACKAGE_DIR, ROOT, files_of

from ndpnet.config import TrainConfig
from ndpnet.lineage import TRAINING_CODE

STEPS = "ndpnet/steps.py"  # hands over to the code below: as a dependency of all, any change of it would retrain
DECIDES_NO_MODEL = {  # it finds, refuses, writes or draws
    *(f"ndpnet/{name}.py" for name in ("files", "folders", "locks", "redaction", "pretrained_weights", "storage/pins")),
    *(f"ndpnet/data/{name}.py" for name in ("copies", "listing", "names", "threads", "versions/version")),
    *(f"ndpnet/data/importing/sources/{name}.py" for name in ("mvtec", "plan")),
    *(f"ndpnet/inference/{name}.py" for name in ("identity", "overlay", "regions", "verdict")),
    *(f"ndpnet/inference/engines/{name}.py" for name in ("__init__", "runtimes", "stored")),
}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def files_below(path: Path) -> set[str]:
    files = path.rglob("*") if path.is_dir() else [path]
    return {file.relative_to(ROOT).as_posix() for file in files if file.is_file() and file.suffix != ".pyc"}


def code_of(stage: str) -> set[str]:
    deps = [dep for dep in STAGES[stage]["deps"] if dep.startswith("ndpnet/")]
    assert deps == sorted(set(deps))
    return {file for dep in deps for file in files_below(ROOT / dep)}


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_depends_on_the_code_that_its_step_uses_and_on_no_other(stage: str) -> None:
    used = files_of("ndpnet.steps", stage) - {STEPS}
    if stage == "train_phase2":  # the model package says which training code made it
        used |= {file for name in TRAINING_CODE for file in files_below(PACKAGE_DIR / name)}
    listed = code_of(stage)
    assert sorted(used - listed) == [], "add these to the deps of the stage"
    assert sorted(listed - used) == [], "take these out of the deps of the stage"


@pytest.mark.parametrize("stage", ["prepare", "train_phase1", "train_phase2"])
def test_a_change_of_what_decides_a_model_changes_its_code_hash(stage: str) -> None:
    covered = {file for name in TRAINING_CODE for file in files_below(PACKAGE_DIR / name)}
    assert sorted(code_of(stage) - covered - DECIDES_NO_MODEL) == [], "add these to TRAINING_CODE, or below"


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

"""dvc.yaml with real DVC: which stages a change of the code reruns, and what DVC shows of metrics and curves."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from repositories import DVC, Repository
from samples import CATEGORY, Pipeline, write_params

from ndpnet.config import load_params
from ndpnet.files import write_json
from ndpnet.metrics.summary import HEADLINE
from ndpnet.synthesis.bank import DefectBank

pytestmark = pytest.mark.slow

PHASE1, PHASE2, EVALUATE = (f"{name}@{CATEGORY}" for name in ("train_phase1", "train_phase2", "evaluate"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, pipeline: Pipeline, evaluation_dir: Path) -> Repository:
    """The project's dvc.yaml and code on a small category, every output there and up to date."""
    repository = Repository.make(tmp_path_factory.mktemp("stages") / "repository")
    folder = repository.folder
    repository.add_project()
    build_dir = folder / "build" / CATEGORY
    shutil.copytree(pipeline.bank_dir, folder / "build/bank")
    shutil.copytree(pipeline.prepared_dir, build_dir / "prepared")
    shutil.copytree(pipeline.phase1_dir, build_dir / "phase1")
    shutil.copytree(pipeline.model_dir, build_dir / "model")
    shutil.copytree(evaluation_dir, build_dir / "evaluation")
    (folder / ".gitignore").write_text("/build/\n/.work/\n/dvc_plots/\n")
    repository.run(*DVC, "commit", "--force")
    repository.commit("outputs")
    assert stages_to_run(folder) == set()
    return repository


def stages_to_run(folder: Path) -> set[str]:
    """Names of the stages that `dvc status` calls changed."""
    with Repo(str(folder)) as repo:
        return {address.rpartition("dvc.yaml:")[2] for address in repo.status()}


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"train": {"phase2": {"epochs": 5}}}, {PHASE2}),
        ({"train": {"batch_size": 5}}, {PHASE1, PHASE2}),
        ({"evaluation": {"num_cases": 3}}, {EVALUATE}),
        ({"evaluation": {"target_false_alarm_rate": 0.2}}, {PHASE2, EVALUATE}),
        ({"runtime": {"log_seconds": 9}, "promotion": {"max_type_drop": 0.2}}, set()),
    ],
)
def test_a_change_of_a_parameter_reruns_what_uses_it(
    repository: Repository, tmp_path: Path, changes: dict[str, Any], stages: set[str]
) -> None:
    folder = repository.copy(tmp_path / "repository").folder
    write_params(folder / "ndpnet/params.yaml", categories=[CATEGORY], **changes)
    assert stages_to_run(folder) == stages


def test_dvc_shows_metrics_and_curves_of_two_revisions(repository: Repository, tmp_path: Path) -> None:
    repository = repository.copy(tmp_path / "repository")
    folder = repository.folder / "build" / CATEGORY / "evaluation"
    values = json.loads((folder / "headline.json").read_text())
    write_json(folder / "headline.json", {name: 0.5 for name in values})
    for name in ("roc", "pro", "loss_phase1", "loss_phase2"):
        first, *rows = (folder / f"{name}.csv").read_text().splitlines(keepends=True)
        (folder / f"{name}.csv").write_text("".join([first, *rows[:-1]]))
    path = f"build/{CATEGORY}/evaluation/headline.json"
    diff = json.loads(repository.run(*DVC, "metrics", "diff", "--all", "--json").stdout)[path]
    assert set(diff) == set(HEADLINE)
    assert any(each["old"] != each["new"] for each in diff.values())
    plots = json.loads(repository.run(*DVC, "plots", "diff", "HEAD", "--json").stdout)["data"]
    names = sorted(Path(plot).name for plot in plots)
    assert names == ["loss_phase1.csv", "loss_phase2.csv", "pro.csv", "roc.csv"]
    for plot in map(json.dumps, plots.values()):
        assert '"rev": "HEAD"' in plot
        assert '"rev": "workspace"' in plot


def test_experiments_compute_what_they_record_wherever_they_run(repository: Repository, tmp_path: Path) -> None:
    repository = repository.copy(tmp_path / "repository")
    bank = repository.folder / "ndpnet/synthesis/bank.py"  # their own code counts, too
    bank.write_text(bank.read_text() + "\nprint('of this tree')\n")
    params_path = repository.folder / "ndpnet/params.yaml"
    write_params(params_path, categories=[CATEGORY], synthesis={"num_masks": {"demo": 64, "line": 48}})
    repository.commit("a change of the code")
    run = (*DVC, "exp", "run", "synthesize", "-S", "ndpnet/params.yaml:profile=line", "-S")
    setting = "ndpnet/params.yaml:synthesis.num_masks="
    assert "of this tree" in repository.run(*run, f"{setting}32", "--temp", "--name", "elsewhere").stdout
    repository.run(*run, f"{setting}16", "--queue", "--name", "queued")
    repository.run(*DVC, "queue", "start")
    repository.run(*DVC, "queue", "logs", "queued", "--follow")
    for name, num_masks in (("elsewhere", 32), ("queued", 16)):
        repository.run(*DVC, "exp", "apply", name)
        assert load_params(params_path).synthesis.num_masks == num_masks
        assert len(DefectBank.load(repository.folder / "build/bank").masks) == num_masks

"""`ndpnet pipeline run`: KFP's own engine, real processes, to the champion; a kill, a category that fails."""

import json
import os
import re

import pytest
from click.testing import CliRunner
from dvc.repo import Repo
from local_pipeline import RUN, kill_in_training, make_project
from mlflow import MlflowClient
from processes import TIME_LIMIT
from repositories import DVC, Repository, contents
from samples import CATEGORY, Pipeline

from ndpnet.cli import main
from ndpnet.locks import locked
from ndpnet.tracking.client import experiment_id

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # many processes one after the other

LONG = 2 * TIME_LIMIT  # a dozen processes one after the other


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The project with tiny parameters and two pinned categories, of which one cannot be trained; without docker."""
    repository = make_project(tmp_path_factory.mktemp("local") / "project")
    first = tmp_path_factory.mktemp("first")  # on the path: processes on this machine need no docker
    (first / "docker.py").write_text('raise ImportError("as if it were not installed")\n')
    repository.environment["PYTHONPATH"] += f"{os.pathsep}{first}"
    return repository


def test_killed_and_run_again_it_gives_what_a_killed_dvc_repro_gives_and_ends_with_a_champion(
    pipeline: Pipeline, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_in_training(repository, *RUN, "--category", CATEGORY, is_alone=True)  # its tasks end with it
    (run_dir,) = repository.folder.glob("build/kfp/local-*")
    monkeypatch.chdir(repository.folder)
    with locked(run_dir, "", is_folder=True):  # as another process that runs the same
        same = ["pipeline", "run", "--category", CATEGORY, "--params", "ndpnet/params.yaml"]
        refused = CliRunner().invoke(main, same)
    assert refused.exit_code == 1
    assert f"another process runs this very pipeline in {run_dir}" in refused.stderr
    finished = repository.run(*RUN, "--category", CATEGORY, time_limit=LONG)
    said = finished.stdout
    assert "Task synthesize cache hit" in finished.stderr  # it was finished before the kill
    (promotion,) = repository.folder.glob("build/kfp/local-*/*/**/promotion.json")
    assert json.loads(promotion.read_text())["decision"] == "promoted"
    places = dict(re.findall(rf"^{CATEGORY}: (report|model) (.+)$", said, re.MULTILINE))
    assert (repository.folder / places["report"]).is_file()
    assert (repository.folder / places["model"] / "config.json").is_file()
    page = (repository.folder / "build/kfp/overview.html").read_text()
    assert "1 category, 0 of them failed" in page
    links = re.findall(r'href="([^"]+)"', page)
    assert [(repository.folder / "build/kfp" / link).exists() for link in links] == [True, True]
    (evaluation,) = repository.folder.glob("build/kfp/local-*/*/**/evaluation/metrics.json")
    (phase1,) = repository.folder.glob("build/kfp/local-*/*/**/train-phase1/phase1")
    (package,) = repository.folder.glob("build/kfp/local-*/*/**/train-phase2/model")

    repro, work_dir = (*DVC, "repro", f"evaluate@{CATEGORY}"), f".work/{CATEGORY}"
    kill_in_training(repository, *repro, work_dir=work_dir, is_alone=True)  # what it leaves behind must not go on
    last = repository.run(*repro)
    assert "phase 1: resumed after step " in last.stdout + last.stderr
    assert list((repository.folder / work_dir).iterdir()) == []
    folder = repository.folder / "build" / CATEGORY
    assert evaluation.read_bytes() == (folder / "evaluation/metrics.json").read_bytes()
    assert contents(phase1) == contents(folder / "phase1")
    assert contents(package) == contents(folder / "model")
    # and what a training gives that nobody kills; its pictures are not pinned, which config.json says
    same = ("weights.safetensors", "history_phase1.jsonl", "history_phase2.jsonl", "reference.png", "manifest.json")
    assert [name for name in same if (package / name).read_bytes() != (pipeline.model_dir / name).read_bytes()] == []
    # nothing is left to do: DVC has taken the outputs for what they are
    with Repo() as repo:
        assert repo.status(targets=[repro[-1]]) == {}


def test_a_category_that_fails_gets_its_row_and_does_not_lose_the_others(repository: Repository) -> None:
    finished = repository.run(
        *RUN, "--category", "broken", "--category", CATEGORY, is_expected_to_fail=True, time_limit=LONG
    )
    assert finished.exit_code == 1
    rows = {
        line.split()[0]: line for line in finished.stdout.splitlines() if line.split()[:1] in (["broken"], [CATEGORY])
    }
    assert "failed before it was evaluated" in rows["broken"]
    assert "n/a" not in rows[CATEGORY]
    assert "Task evaluate cache hit" in finished.stderr  # of the run before, with its report and model
    assert set(re.findall(rf"^{CATEGORY}: (report|model) /", finished.stdout, re.MULTILINE)) == {"report", "model"}
    assert "broken/test" in finished.stderr  # the file that is no picture
    page = (repository.folder / "build/kfp/overview.html").read_text()
    assert "2 categories, 1 of them failed" in page


def test_the_outcome_of_both_runs_is_on_their_runs(repository: Repository) -> None:
    client = MlflowClient(repository.environment["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([experiment_id(client)], "tags.`ndpnet.step` = 'pipeline'")
    outcomes = [(run.data.tags.get("ndpnet.outcome"), run.info.status) for run in runs]
    assert sorted(each for each in outcomes if each[0]) == [("FAILED", "FAILED"), ("SUCCEEDED", "FINISHED")]

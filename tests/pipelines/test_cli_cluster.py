import itertools
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from compiled import Compiled
from kfp_server import Fault, KfpServer, Snapshot
from repositories import commit_all

from ndpnet.cli import main
from ndpnet.commands import git
from ndpnet.config import load_params
from ndpnet.pipelines.cli import _echo_inspection
from ndpnet.pipelines.request import Package

Run = Callable[..., Result]


@pytest.fixture
def repository(tmp_path: Path, plain_training: Compiled, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean commit with a compiled pipeline in build/, as working directory."""
    folder = tmp_path / "repository"
    (folder / "build").mkdir(parents=True)
    shutil.copyfile(plain_training.path, folder / "build/training.yaml")
    (folder / ".gitignore").write_text("build/\n.work/\n")
    commit_all(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def run(repository: Path, kfp_server: KfpServer, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a verb against the server."""
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kfp_server.url)

    def run(*arguments: object) -> Result:
        result = CliRunner().invoke(main, [str(each) for each in arguments])
        assert isinstance(result.exception, SystemExit | None), result.exception
        return result

    return run


DATA = ("--url", "https://git.plant/surfaces.git")
OPTIONS = ("--package", "build/training.yaml", *DATA)
SUBMIT, SCHEDULE = ("pipeline", "submit", *OPTIONS), ("pipeline", "schedule", *OPTIONS)


def test_submit_sends_resolved_parameters_as_one_string(run: Run, kfp_server: KfpServer, repository: Path) -> None:
    options = ("-P", "train.batch_size=4", "--profile", "line", "--revision", "line-2", "--category", "brick")
    result = run(*SUBMIT, *options)
    assert result.exit_code == 0, result.output
    (made,) = kfp_server.runs.values()
    assert result.stdout.splitlines() == [f"{kfp_server.url}/#/runs/details/{made.run_id}"]
    arguments = made.runtime_config.parameters
    wanted = load_params(profile="line", overrides=("train.batch_size=4",))
    assert arguments.pop("params") == wanted.training_json()
    assert arguments.pop("judging_params") == wanted.to_json()
    assert json.loads(arguments.pop("source")) == {"url": DATA[1], "revision": "line-2", "path": "data"}
    assert arguments == {"work_dir": "/work", "categories": ["brick"], "only_new_data": False}
    assert made.display_name == f"ndpnet-training {git(repository, 'rev-parse', 'HEAD')[:12]}"


@pytest.mark.parametrize(("state", "exit_code"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 3)])
def test_wait_ends_as_the_run_does(run: Run, kfp_server: KfpServer, state: str, exit_code: int) -> None:
    kfp_server.next_script = [Snapshot(state, {"prepare": "SUCCEEDED", "train": state}, error="why" * exit_code)]
    result = run(*SUBMIT, "--wait")
    assert result.exit_code == exit_code
    assert "prepare: succeeded" in result.stdout
    (run_id,) = kfp_server.runs
    assert (f"why: {kfp_server.url}/#/runs/details/{run_id}" in result.stderr) == (exit_code > 0)
    assert run("pipeline", "follow", run_id).exit_code == exit_code


def test_a_lost_connection_says_how_to_go_on(run: Run, kfp_server: KfpServer) -> None:
    kfp_server.faults.append(Fault("GET .*/runs/.*", status=401))
    result = run(*SUBMIT, "--wait")
    (run_id,) = kfp_server.runs
    assert result.exit_code == 1
    assert f"the run goes on: ndpnet pipeline follow {run_id}" in result.stderr.splitlines()[-1]


def test_ctrl_c_ends_the_following_alone(run: Run, kfp_server: KfpServer, repository: Path) -> None:
    kfp_server.next_script = [Snapshot("RUNNING", {"train": "RUNNING"})]
    command = [sys.executable, "-c", "from ndpnet.cli import main; main()", *SUBMIT, "--wait"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=repository, **pipes) as process:
        url = process.stdout.readline().strip()
        assert process.stdout.readline().startswith("train: running")
        process.send_signal(signal.SIGINT)
        stderr = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == f"the run goes on: ndpnet pipeline follow {url.rpartition('/')[2]}"
    assert [each.state for each in kfp_server.runs.values()] == ["RUNNING"]


def error_of(result: Result) -> str:
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--package", "nowhere.yaml"), "nowhere.yaml is no compiled pipeline"),
        (("-a", "workdir=/w"), "has no parameter workdir"),
        (("-a", "workdir"), "is no NAME=VALUE"),
        (("-a", "source={}"), "-a 'source={}' is no NAME=VALUE, or has an option of its own"),
        (("--url", "https://me:secret@git.plant/x"), "the git URL holds a login"),
        (("--url", "https://git.plant/x?access_token=secret"), "the git URL holds a login or a token"),
        (("--endpoint-url", "http://key:secret@minio:9000"), "the S3 endpoint holds a login"),
        (("--url", "/srv/surfaces"), "pods cannot reach /srv/surfaces"),
        (("--path", "../data"), "lies outside the repository"),
        (("--prefix", "s3://b/x"), "either a git repository or an S3 prefix"),
        (("-P", "train.batchsize=4"), "batch_size"),
        (("--host", "kubeflow"), "is no address"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_sent(
    run: Run, kfp_server: KfpServer, arguments: tuple[str, ...], error: str
) -> None:
    assert error in error_of(run(*SUBMIT, *arguments))
    assert kfp_server.calls == []


def test_changes_that_are_not_committed_are_not_submitted(run: Run, kfp_server: KfpServer, repository: Path) -> None:
    (repository / "new.py").write_text("")
    assert "git commit them" in error_of(run(*SUBMIT))
    assert kfp_server.calls == []
    assert run(*SUBMIT, "--allow-dirty", "--name", "try-1").exit_code == 0
    assert [made.display_name for made in kfp_server.runs.values()] == ["try-1"]


def test_the_training_is_compiled_where_no_package_is_named(run: Run, kfp_server: KfpServer, repository: Path) -> None:
    submit = ("pipeline", "submit", *DATA, "-P")
    assert "pass -P cluster.image=NAME@sha256:" in error_of(run(*submit[:-1]))
    assert "can be moved to other code" in error_of(run(*submit, "cluster.image=registry.example/ndpnet:latest"))
    assert kfp_server.calls == []
    tag = f"registry.example/ndpnet:{git(repository, 'rev-parse', 'HEAD')[:12]}"
    assert run(*submit, f"cluster.image={tag}").exit_code == 0
    (made,) = kfp_server.runs.values()
    executors = made.pipeline_spec["pipeline_spec"]["deploymentSpec"]["executors"]
    assert {each["container"]["image"] for each in executors.values()} == {tag}


def test_another_pipeline_takes_what_it_declares(
    run: Run, kfp_server: KfpServer, repository: Path, package: Package
) -> None:
    shutil.copyfile(package.path, repository / "build/other.yaml")  # of params, revision and only_new_data alone
    submit = ("pipeline", "submit", "--package", "build/other.yaml")
    assert run(*submit, "-a", "revision=7").exit_code == 0
    (made,) = kfp_server.runs.values()
    arguments = made.runtime_config.parameters
    assert (arguments.keys(), arguments["revision"]) == ({"params", "revision", "only_new_data"}, "7")
    for option in (("--category", "brick"), DATA):
        assert "has no parameter" in error_of(run(*submit, *option))


def test_a_schedule_takes_the_newest_data_of_its_branch(run: Run, kfp_server: KfpServer) -> None:
    nightly = (*SCHEDULE, "--name", "nightly", "--on-new-data")
    assert run(*nightly, "--cron", "0 2 * * *").stdout == "nightly: created\n"
    assert run(*nightly, "--every", "6h").stdout == "nightly: replaced\n"
    (made,) = kfp_server.recurring_runs.values()
    assert made.runtime_config.parameters["only_new_data"] is True
    assert "revision" not in json.loads(made.runtime_config.parameters["source"])  # of the default branch


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "pass either --cron"),
        (("--cron", "0 2 * * *", "--every", "6h"), "pass either --cron"),
        (("--every", "soon"), "is no age"),
        (("--every", "6h", "--revision", "0123456789abcdef"), "is a commit: every run would take the same data"),
    ],
)
def test_a_schedule_needs_a_time(run: Run, kfp_server: KfpServer, arguments: tuple[str, ...], error: str) -> None:
    assert error in error_of(run(*SCHEDULE, *arguments))
    assert kfp_server.calls == []


def test_the_data_come_from_where_this_clone_is_from(run: Run, kfp_server: KfpServer, repository: Path) -> None:
    without_url = [each for each in SUBMIT if each not in DATA]
    assert "pass --url or --prefix" in error_of(run(*without_url))
    git(repository, "remote", "add", "origin", "git@git.plant:surfaces.git")
    assert run(*without_url).exit_code == 0
    place = {
        "--prefix": "s3://pictures/x",
        "--manifest": "s3://pictures/v1.json",
        "--endpoint-url": "http://minio:9000",
    }
    assert run(*without_url, *itertools.chain(*place.items())).exit_code == 0
    first, second = (json.loads(each.runtime_config.parameters["source"]) for each in kfp_server.runs.values())
    assert first["url"] == "git@git.plant:surfaces.git"
    assert "url" not in second
    assert [second[name] for name in ("prefix", "manifest", "endpoint_url")] == list(place.values())
    unreachable = ("--prefix", "s3://pictures/x", "--manifest", "v1.json")
    assert "pods cannot read manifest v1.json" in error_of(run(*without_url, *unreachable))


@pytest.mark.parametrize(
    ("counts", "exit_code", "said"),
    [
        ((9, 0, 0, 0), 0, "9 good, 0 defective, 0 unreadable (ndpnet-x version 2, threshold 0.5000)"),
        ((8, 0, 1, 0), 4, "8 good, 0 defective, 1 for review, 0 unreadable"),
        ((7, 1, 1, 0), 3, "7 good, 1 defective, 1 for review, 0 unreadable"),
        ((6, 1, 1, 1), 1, "6 good, 1 defective, 1 for review, 1 unreadable"),
    ],
)
def test_a_batch_ends_as_inspect_does(
    counts: tuple[int, ...], exit_code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = dict(zip(("num_good", "num_defective", "num_review", "num_failed"), counts, strict=True))
    summary |= {"model": {"name": "ndpnet-x", "version": 2, "threshold": 0.5}}
    with pytest.raises(SystemExit) as ended:
        _echo_inspection(summary | {"failed": [{"error": "cannot read a.png"}] * counts[-1]}, "s3://b/out")
    assert ended.value.code == exit_code
    assert said in capsys.readouterr().out

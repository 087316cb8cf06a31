import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from conftest import compile_pipeline
from kfp_server import Fault, KfpServer, Snapshot

from ndpnet.cli import OneLineErrors
from ndpnet.config import load_params
from pipelines import cli_cluster
from pipelines.cli_cluster import doctor, follow_command, gc, schedule, submit
from pipelines.package import Package

Run = Callable[..., Result]
DONE = [Snapshot("SUCCEEDED", {"train": "SUCCEEDED"})]


@click.group(cls=OneLineErrors)
def main() -> None:
    """The verbs of this file, as `ndpnet` has them."""


for verb in (submit, follow_command, schedule, doctor, gc):
    main.add_command(verb)


@pytest.fixture
def repository(tmp_path: Path, package: Package, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clean commit with a compiled pipeline in build/, as working directory."""
    folder = tmp_path / "repository"
    (folder / "build").mkdir(parents=True)
    shutil.copyfile(package.path, folder / "build/training.yaml")
    (folder / ".gitignore").write_text("build/\n.work/\n")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "test")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "test@test")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
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


SUBMIT = ("submit", "--package", "build/training.yaml", "--skip-preflight")
SCHEDULE = ("schedule", "--package", "build/training.yaml", "--skip-preflight")


def commit_of(folder: Path) -> str:
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True).stdout[
        :40
    ]


def test_submit_sends_resolved_parameters_as_one_string(run: Run, kfp_server: KfpServer, repository: Path) -> None:
    result = run(*SUBMIT, "-P", "train.batch_size=4", "--profile", "line", "--revision", "line-2")
    assert result.exit_code == 0, result.output
    (made,) = kfp_server.runs.values()
    assert result.stdout.splitlines() == [f"{kfp_server.url}/#/runs/details/{made.run_id}"]
    wanted = load_params(profile="line", overrides=("train.batch_size=4",)).model_dump(mode="json")
    assert json.loads(made.runtime_config.parameters["params"]) == wanted
    assert made.runtime_config.parameters["revision"] == "line-2"
    (version,) = kfp_server.versions.values()
    assert version.name == commit_of(repository)


@pytest.mark.parametrize(("state", "exit_code"), [("SUCCEEDED", 0), ("FAILED", 1), ("CANCELED", 3)])
def test_wait_ends_as_the_run_does(run: Run, kfp_server: KfpServer, state: str, exit_code: int) -> None:
    kfp_server.next_script = [Snapshot(state, {"prepare": "SUCCEEDED", "train": state}, error="why" * exit_code)]
    kfp_server.logs["train-pod-node"] = "line 1\nout of memory\n"
    result = run(*SUBMIT, "--wait")
    assert result.exit_code == exit_code
    assert "prepare: succeeded 1:05" in result.stdout
    assert ("out of memory" in result.stderr) == (state == "FAILED")
    (run_id,) = kfp_server.runs
    assert run("follow", run_id).exit_code == exit_code


def test_a_lost_connection_says_how_to_go_on(run: Run, kfp_server: KfpServer) -> None:
    kfp_server.faults.append(Fault("GET .*/runs/.*", status=401))
    result = run(*SUBMIT, "--wait")
    (run_id,) = kfp_server.runs
    assert result.exit_code == 1
    assert f"the run goes on: ndpnet pipeline follow {run_id}" in result.stderr.splitlines()[-1]


def test_the_same_request_is_one_run(run: Run, kfp_server: KfpServer) -> None:
    first, second = (run(*SUBMIT, "--request-id", "ci-17") for _ in range(2))
    assert first.stdout == second.stdout
    assert "submitted before" in second.stderr
    assert run(*SUBMIT).stdout != first.stdout
    assert len(kfp_server.runs) == 2


def test_only_new_data_is_an_argument_of_the_pipeline(run: Run, kfp_server: KfpServer) -> None:
    run(*SUBMIT, "--only-new-data")
    (made,) = kfp_server.runs.values()
    assert made.runtime_config.parameters["only_new_data"] is True


def error_of(result: Result) -> str:
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    return line


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--package", "nowhere.yaml"), "cannot read nowhere.yaml"),
        (("-a", "workdir=/w"), "has no parameter workdir"),
        (("-a", "workdir"), "is no NAME=VALUE"),
        (("-a", "revision=x"), "has an option of its own"),
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
    assert run(*SUBMIT, "--version-name", "try-1").exit_code == 0
    assert [version.name for version in kfp_server.versions.values()] == ["try-1"]


def test_an_image_with_a_mutable_tag_is_refused(run: Run, kfp_server: KfpServer, repository: Path) -> None:
    compile_pipeline(repository / "build/moving.yaml", image="registry.example/ndpnet:latest")
    assert "can be moved to other code" in error_of(run(*SUBMIT, "--package", "build/moving.yaml"))
    tag = f"registry.example/ndpnet:{commit_of(repository)[:12]}"
    compile_pipeline(repository / "build/fixed.yaml", image=tag)
    assert run(*SUBMIT, "--package", "build/fixed.yaml").exit_code == 0


def test_a_failed_check_stops_it(run: Run, kfp_server: KfpServer, repository: Path) -> None:
    compile_pipeline(repository / "build/x.yaml", image=f"localhost:9/ndpnet@sha256:{'a' * 64}")
    result = run(*SUBMIT[:-1], "--package", "build/x.yaml")
    assert result.exit_code == 0, "what cannot be checked from here does not stop it"
    assert "localhost:9 does not answer from here" in result.stderr
    kfp_server.faults.append(Fault("GET .*healthz", page='{"multi_user": false, "tag_name": "1.8.22"}'))
    result = run(*SUBMIT[:-1], "--package", "build/x.yaml")
    assert result.exit_code == 1
    assert "server 1.8.22" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: the cluster cannot run it")
    assert len(kfp_server.runs) == 1


def test_schedule_from_one_command_to_its_end(run: Run, kfp_server: KfpServer) -> None:
    nightly = (*SCHEDULE, "--name", "nightly", "--on-new-data")
    assert run(*nightly, "--cron", "0 2 * * *").stdout == "nightly: created, cron 0 0 2 * * *\n"
    assert run(*nightly, "--cron", "0 2 * * *").stdout == "nightly: unchanged, cron 0 0 2 * * *\n"
    assert run(*nightly, "--every", "6h").stdout == "nightly: replaced, every 6h\n"
    (made,) = kfp_server.recurring_runs.values()
    assert made.runtime_config.parameters["only_new_data"] is True
    assert made.runtime_config.parameters["revision"] == "main"  # a branch: each run takes its newest data
    assert run("schedule", "pause", "nightly").stdout == "nightly: paused\n"
    listed = run("schedule", "list").stdout.splitlines()
    assert listed[2].split()[:4] == ["nightly", "every", "6h", "paused"]
    assert run("schedule", "resume", "nightly").stdout == "nightly: on\n"
    assert run("schedule", "delete", "nightly").stdout == "nightly: deleted\n"
    assert run("schedule", "list").stdout == "no schedule\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((), "pass either --cron"),
        (("--cron", "0 2 * * *", "--every", "6h"), "pass either --cron"),
        (("--cron", "0 25 * * *"), "'25' is no hour"),
        (("--every", "soon"), "is no interval"),
    ],
)
def test_a_schedule_needs_a_time(run: Run, kfp_server: KfpServer, arguments: tuple[str, ...], error: str) -> None:
    assert error in error_of(run(*SCHEDULE, *arguments))
    assert kfp_server.calls == []


def test_a_server_named_before_the_verb_is_asked(run: Run, kfp_server: KfpServer, monkeypatch) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
    for arguments in (("schedule", "--host", kfp_server.url, "list"), ("schedule", "list", "--host", kfp_server.url)):
        assert run(*arguments).stdout == "no schedule\n"


def test_doctor_says_what_fails(run: Run, kfp_server: KfpServer) -> None:
    result = run("doctor", "--cluster", "--package", "build/training.yaml")
    assert result.exit_code == 0
    verdicts = {line.split("  ")[0]: line for line in result.stdout.splitlines()[2:-1]}
    assert "no kubeconfig" in verdicts["nodes"]
    assert " ok " in verdicts["server"]
    kfp_server.token = "another"
    result = run("doctor", "--cluster", "--package", "build/training.yaml")
    assert result.exit_code == 1
    assert "wants a login" in result.stdout
    assert "no kubeconfig" in result.stdout  # the other checks are made all the same


def test_gc_shows_first_and_removes_then(run: Run, repository: Path) -> None:
    folder = repository / ".work/phase1-0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "state.pt").write_bytes(b"x" * 5000)
    for path in (folder / "state.pt", folder):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    shown = run("gc", "--dry-run").stdout.splitlines()
    assert shown[0].split()[:4] == ["keep", "12.3", "kB", ".work/phase1-0123456789abcdef:"]
    assert shown[1] == "0 would go (0 B), 1 stay"
    assert run("gc", "--dry-run", "--keep-last", 0).stdout.startswith("would remove")
    assert folder.exists()
    result = run("gc", "--keep-last", 0)
    assert result.stdout.splitlines()[-1] == "1 removed (of 12.3 kB), 0 kept"
    assert not folder.exists()
    assert "is no age" in error_of(run("gc", "--older-than", "long"))


def test_gc_on_the_cluster(run: Run, kfp_server: KfpServer, repository: Path) -> None:
    kfp_server.next_script = DONE
    run(*SUBMIT, "--wait")
    options = ("gc", "--cluster", "--older-than", "0d", "--keep-last", 0)
    (run_id,), (version_id,) = kfp_server.runs, kfp_server.versions
    commit = commit_of(repository)
    assert run(*options, "--dry-run").stdout.splitlines() == [
        f"would remove run training {commit[:12]} ({run_id})",
        f"would remove version ndpnet-training {commit} ({version_id})",
        "2 would go; 0 runs and 0 versions stay",
    ]
    assert len(kfp_server.runs) == 1
    assert run(*options).exit_code == 0
    assert (kfp_server.runs, kfp_server.versions) == ({}, {})


def test_nothing_heavy_is_loaded_for_help() -> None:
    code = (
        "import sys, pipelines.cli_cluster; print(sorted({'kfp', 'torch', 'mlflow', 'kubernetes'} & set(sys.modules)))"
    )
    root = Path(cli_cluster.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"

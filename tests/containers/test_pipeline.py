"""`ndpnet pipeline run --containers`: KFP's DockerRunner on the image, with the bits of processes."""

import json
from pathlib import Path
from typing import Any

import pytest
from images import BuiltImage
from local_pipeline import RUN, kill_in_training, make_project
from repositories import Repository, contents
from samples import CATEGORY

from ndpnet.folders import LIST
from ndpnet.pipelines.containers import RUN_LABEL

RUN_LIMIT = 1200  # seconds: each of a dozen containers loads torch from a layer of gigabytes
pytestmark = [pytest.mark.containers, pytest.mark.slow, pytest.mark.timeout(3 * RUN_LIMIT)]

WORK_DIR = ".work-containers"
OF_THIS_RUN = {"report.html", "timing.json"}  # they name machine, commit and how long it took


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The project with tiny parameters and two pinned categories, of which one cannot be trained."""
    return make_project(tmp_path_factory.mktemp("containers") / "project")


@pytest.fixture(scope="module")
def command(train_image: BuiltImage) -> list[str]:
    """The run in containers, of the image under test."""
    name = train_image.image.tags[0]
    return [*RUN, "--containers", "--out", "build/containers", "--work-dir", WORK_DIR, "-P", f"cluster.image={name}"]


def containers_of_runs(image: BuiltImage) -> list[Any]:
    """What runs have started and is still there."""
    return image.engine.containers.list(filters={"label": RUN_LABEL})


def files_of(folder: Path, pattern: str) -> dict[str, bytes]:
    """Content of the files under the one folder that the pattern finds."""
    (found,) = folder.glob(pattern)
    return contents(found)


def lasting(files: dict[str, bytes]) -> dict[str, Any]:
    """What two runs of one commit agree on; the list of an output's files has their sizes, too."""
    listed = json.loads(files[LIST])
    listed["files"] = {name: size for name, size in listed["files"].items() if name not in OF_THIS_RUN}
    return {name: content for name, content in files.items() if name not in OF_THIS_RUN} | {LIST: listed}


def test_killed_and_run_again_in_containers_it_gives_the_bits_of_processes(
    repository: Repository, train_image: BuiltImage, command: list[str]
) -> None:
    kill_in_training(repository, *command, "--category", CATEGORY, work_dir=WORK_DIR, time_limit=RUN_LIMIT)
    finished = repository.run(*command, "--category", CATEGORY, time_limit=RUN_LIMIT)
    assert "Task synthesize cache hit" in finished.stderr
    assert containers_of_runs(train_image) == []  # neither its own nor what the kill had left
    folder = repository.folder / "build/containers"
    (registered,) = folder.glob("local-*/*/**/registered.json")
    tags = json.loads(registered.read_text())["tags"]
    assert tags["ndpnet.git_commit"] == train_image.image.labels["org.opencontainers.image.revision"]
    assert tags["ndpnet.image_digest"] == train_image.image.id

    repository.run(*RUN, "--category", CATEGORY, time_limit=RUN_LIMIT)
    for output in ("evaluate/evaluation", "train-phase2/model"):
        pattern = f"local-*/*/**/{output}"
        in_containers, in_processes = files_of(folder, pattern), files_of(repository.folder / "build/kfp", pattern)
        assert set(in_containers) == set(in_processes)
        assert lasting(in_containers) == lasting(in_processes)


def test_a_container_that_fails_fails_the_run(repository: Repository, command: list[str]) -> None:
    finished = repository.run(*command, "--category", "broken", is_expected_to_fail=True, time_limit=RUN_LIMIT)
    assert finished.exit_code == 1
    assert "broken/test" in finished.stderr  # the file that is no picture

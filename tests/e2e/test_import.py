"""`ndpnet import` and `ndpnet data add` as a user runs them: printed commands, kills in the middle, S3."""

import os
import subprocess
import sys
from pathlib import Path

import data_sets
import pytest
from data_sets import names_in
from processes import kill_when, run_cli, start_cli
from repositories import NDPNET, Repository, contents
from samples import write_picture
from servers import S3Server

from ndpnet.data.prepared import PreparedData
from ndpnet.data.versions.version import read_status


def num_pictures(folder: Path) -> int:
    """PNG files below a folder that another process writes to and removes."""
    return sum(name.endswith(".png") for _, _, names in os.walk(folder) for name in names)


def test_the_printed_commands_work_for_a_name_with_a_space_and_an_umlaut(tmp_path: Path) -> None:
    for number in range(24):
        write_picture(tmp_path / f"my pictures/good/teil {number}.png", data_sets.picture(number, (96, 80)))
    write_picture(tmp_path / "my pictures/defective/x.png", data_sets.picture(99, (96, 80)))
    repository = tmp_path / "my repository"
    repository.mkdir()
    (repository / "run").write_text("set -e\ngit init -q\npython -m dvc init -q\n")
    out = repository / "data/Fläche 1"
    finished = run_cli(["import", "folder", tmp_path / "my pictures", "--out", out], tmp_path / "log")
    assert finished.exit_code == 0, finished.stderr
    before, _, commands = finished.stdout.partition("next:")
    assert before
    lines = [line.strip().replace("dvc add", "python -m dvc add", 1) for line in commands.strip().splitlines()]
    assert [line.split()[:1] for line in lines] == [["python"], ["ndpnet"]]
    with (repository / "run").open("a") as script:
        script.write("\n".join(lines))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(["sh", "run"], cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert PreparedData.load(repository / "build/Fläche 1/prepared").manifest.category == "Fläche 1"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_a_killed_import_leaves_the_old_one_and_the_next_cleans_up(tmp_path: Path, kind: str) -> None:
    old = data_sets.mvtec(tmp_path / "old", num_train=5)
    new = data_sets.mvtec(tmp_path / "new", num_train=600)
    source = data_sets.pack_tar(tmp_path / "new.tar.gz", new) if kind == "archive" else new
    data_dir = tmp_path / "data"
    assert run_cli(["import", "mvtec", old, "--out", data_dir / "wall"], tmp_path / "log").exit_code == 0
    first = contents(data_dir / "wall")
    import_new = ["import", "mvtec", source, "--out", data_dir / "wall"]
    moments = [0, 1, 200, 500] if kind == "folder" else [0, 1, 300]
    for num_files in moments:

        def is_time(num_files: int = num_files) -> bool:
            partial = list(data_dir.glob(".wall.*.partial"))
            return bool(partial) and sum(num_pictures(path) for path in partial) >= num_files

        assert kill_when(start_cli(import_new, tmp_path / "log"), is_time)
        assert contents(data_dir / "wall") == first
    finished = run_cli(import_new, tmp_path / "log")
    assert finished.exit_code == 0, finished.stderr
    assert names_in(data_dir) == ["wall"]
    assert run_cli(["import", "mvtec", source, "--out", tmp_path / "other/wall"], tmp_path / "log").exit_code == 0
    assert contents(data_dir / "wall") == contents(tmp_path / "other/wall")


@pytest.mark.slow
def test_a_batch_from_s3_is_added(repository: Repository, s3: S3Server, tmp_path: Path) -> None:
    repository.environment |= s3.environment()
    bucket = s3.make_bucket()
    for number, name in enumerate(("a.png", "ü b.png")):
        write_picture(tmp_path / name, data_sets.picture(500 + number))
        s3.put(bucket, f"line 3/today/{name}", (tmp_path / name).read_bytes())
    command = (*NDPNET, "data", "add", f"s3://{bucket}/line 3/today", "--category", "wall", "--endpoint-url")
    finished = repository.run(*command, s3.endpoint_url)
    assert finished.stdout.startswith("2 added to wall/train/good, 0 were there already\n  train/good: 12 -> 14\n")
    assert (repository.data_dir / "wall/train/good/ü b.png").read_bytes() == (tmp_path / "ü b.png").read_bytes()
    assert read_status(repository.data_dir)[0]
    again = repository.run(*command, s3.endpoint_url)
    assert again.stdout.startswith("0 added to wall/train/good, 2 were there already\n")
    assert not [path.name for path in repository.folder.iterdir() if path.name.endswith((".partial", ".fetching"))]

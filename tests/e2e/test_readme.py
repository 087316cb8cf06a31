"""The README's commands and its program, as they stand there, on small pictures with tiny parameters."""

import shutil
import sys
from typing import Any

import pytest
from documents import ROOT, fences
from local_pipeline import make_project
from processes import Finished
from repositories import Repository
from samples import CATEGORY

from ndpnet.config import load_params

pytestmark = pytest.mark.slow

NAME = "floor"


def printed(section: str, language: str) -> str:
    """What the blocks of a section hold, for a surface called NAME."""
    text = (ROOT / "README.md").read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    return "".join(content for of_block, content in fences(text) if of_block == language).replace("NAME", NAME)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The project with tiny parameters, and pictures to import and to judge."""
    project = make_project(tmp_path_factory.mktemp("readme") / "project", is_tracked=False)
    folder, made = project.folder, project.data_dir / CATEGORY
    shutil.copytree(made / "train/good", folder / "my_pictures/good")
    shutil.copytree(made / "test/hole", folder / "my_pictures/defective")
    shutil.copytree(made / "test/good", folder / "good_pictures")
    shutil.copytree(made / "test", folder / "new_pictures")
    shutil.copy(next((made / "test/hole").iterdir()), folder / "new.png")
    return project


def test_two_commands_lead_to_a_verdict_and_a_report(project: Repository) -> None:
    folder = project.folder
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copy(ROOT / "Makefile", folder)
    nothing_is_installed = 'make() { command make --assume-old .venv/.installed "$@"; }'
    quick, demo = printed("Two commands", "sh").splitlines()
    assert [command.split()[:2] for command in (quick, demo)] == [["make", "quick"], ["make", "demo"]]

    def run(command: str, path: str = str(folder), **options: Any) -> Finished:
        script = f"{nothing_is_installed}\n{command}"
        outer = ("-u", "MAKELEVEL", "-u", "MAKEFLAGS")  # of the make that these tests may run below
        return project.run("env", *outer, f"PYTHONPATH={path}", "bash", "-c", script, time_limit=500, **options)

    # it has small parameters of its own, over those of the code that is installed
    assert "test/scratch/brick_r6c5_07.png: defective: score 0." in run(quick, path="").stdout
    assert (folder / "build/quick/verdict.png").is_file()
    said, evaluation = run(demo).stdout, f"build/{CATEGORY}/evaluation"
    table = (folder / evaluation / "table.txt").read_text()
    assert f"{table}\nreport: {evaluation}/report.html\n" in said  # by `evaluate`
    assert said.endswith(f"\n{table}report: {evaluation}/report.html\n")  # by `make demo`
    for command in ("make demo CATEGORIES=missing", demo):  # the first one writes its choice into params.yaml
        assert "data/missing" in run(command, is_expected_to_fail=True).stderr
        assert load_params(folder / "ndpnet/params.yaml").categories == ("missing",)
    assert (folder / evaluation / "report.html").exists()  # of another surface


def test_own_pictures_lead_to_verdicts(project: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project.folder
    commands = printed("Your own surface", "sh").replace("source .venv/bin/activate && ", "").splitlines()
    assert [command.split()[0] for command in commands] == ["ndpnet", "dvc", "dvc", "ndpnet", "ndpnet"]
    for command in commands:
        some_defective = "exit $(($? == 3 ? 0 : $?))"
        finished = project.run("bash", "-c", f"{command}\n{some_defective}", time_limit=500)
        assert "Traceback" not in finished.stderr
    assert (folder / f"build/{NAME}/evaluation/report.html").is_file()
    assert (folder / f"build/{NAME}/model-new-lamp/config.json").is_file()
    assert (folder / "verdicts/index.html").is_file()
    monkeypatch.chdir(folder)
    exec(printed("Your own surface", "python"), {})
    assert (folder / "new-verdict.png").is_file()

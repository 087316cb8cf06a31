"""The README's commands and its program, as they stand there, on small pictures with tiny parameters."""

import shutil
import sys

import pytest
from documents import ROOT, fences
from local_pipeline import make_project
from repositories import Repository
from samples import CATEGORY

pytestmark = pytest.mark.slow

NAME = "floor"


def printed(section: str, language: str) -> str:
    """What the blocks of a section hold, for a surface called NAME."""
    text = (ROOT / "README.md").read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    return "".join(content for of_block, content in fences(text) if of_block == language).replace("NAME", NAME)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The project with tiny parameters, and pictures to import and to judge."""
    project = make_project(tmp_path_factory.mktemp("readme") / "project")
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
    commands = printed("Two commands", "sh").splitlines()
    assert [command.split()[:2] for command in commands] == [["make", "quick"], ["make", "demo"]]
    scripts = (f"{nothing_is_installed}\n{command}" for command in commands)
    # the first of them has small parameters of its own, over those of the code that is installed
    quick, demo = (
        project.run("env", f"PYTHONPATH={path}", "bash", "-c", script, time_limit=500)
        for path, script in zip(("", folder), scripts, strict=True)
    )
    assert "test/scratch/brick_r6c5_07.png: defective: score 0." in quick.stdout
    assert (folder / "build/quick/verdict.png").is_file()
    assert f"report: build/{CATEGORY}/evaluation/report.html" in demo.stdout.splitlines()


def test_own_pictures_lead_to_verdicts(project: Repository) -> None:
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
    project.run("python", "-c", printed("Your own surface", "python"))
    assert (folder / "new-verdict.png").is_file()

"""The README's commands for one's own surface, as they stand there, on small pictures with tiny parameters."""

import shutil
from pathlib import Path

import pytest
from documents import ROOT, fences
from local_pipeline import make_project
from samples import CATEGORY

pytestmark = pytest.mark.slow

NAME = "floor"


def printed_commands() -> list[str]:
    """The lines of the shell blocks on one's own pictures, for a surface called NAME."""
    section = (ROOT / "README.md").read_text().partition("## Your own surface")[2].partition("\n## ")[0]
    blocks = [content for language, content in fences(section) if language == "sh"]
    lines = "".join(blocks).replace("source .venv/bin/activate && ", "").replace("NAME", NAME)
    return lines.splitlines()


def test_they_lead_from_pictures_to_verdicts(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    folder, made = project.folder, project.data_dir / CATEGORY
    shutil.copytree(made / "train/good", folder / "my_pictures/good")
    shutil.copytree(made / "test/hole", folder / "my_pictures/defective")
    shutil.copytree(made / "test/good", folder / "good_pictures")
    shutil.copytree(made / "test", folder / "new_pictures")
    commands = printed_commands()
    assert [command.split()[0] for command in commands] == ["ndpnet", "dvc", "dvc", "ndpnet", "ndpnet"]
    for command in commands:
        some_defective = "exit $(($? == 3 ? 0 : $?))"
        finished = project.run("bash", "-c", f"{command}\n{some_defective}", time_limit=500)
        assert "Traceback" not in finished.stderr
    assert (folder / f"build/{NAME}/evaluation/report.html").is_file()
    assert (folder / f"build/{NAME}/model-new-lamp/config.json").is_file()
    assert (folder / "verdicts/index.html").is_file()

"""Finding the repository that a model was made in."""

import subprocess
from pathlib import Path

import pytest

from ndpnet.promotion.worktree import find_repository


def test_a_repository_of_another_user_is_not_called_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"is in no git repository \(run this where the sources are\)"):
        find_repository(tmp_path)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert find_repository(tmp_path) == tmp_path.resolve()
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own way to test it
    with pytest.raises(ValueError, match=r"in a git repository of another user \(run `git config --global --add safe"):
        find_repository(tmp_path)

"""Pins: is what lies here exactly what is pinned, by DVC or by a version.json."""

import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from repositories import Repository, change_pixels, write_small_category

from ndpnet.cli import main
from ndpnet.data.versions.version import VERSION, Version, check_pinned, read_status, version_of


@pytest.fixture
def versioned_dir(tmp_path: Path) -> Path:
    """A data folder with a version.json, in no repository."""
    data_dir = tmp_path / "data"
    write_small_category(data_dir / "wall", seed=0)
    write_small_category(data_dir / "tile", seed=1)
    version_of(data_dir).save(data_dir / VERSION)
    return data_dir


def damage(data_dir: Path, kind: str) -> str:
    """Change one file of the category wall. -> how the error names it."""
    folder = data_dir / "wall/train/good"
    if kind == "changed":
        change_pixels(folder / "p03.png")
        return "1 changed, first wall/train/good/p03.png"
    if kind == "added":
        shutil.copy(folder / "p00.png", folder / "z.png")
        return "1 added, first wall/train/good/z.png"
    if kind == "deleted":
        (data_dir / "wall/ground_truth/hole/h1_mask.png").unlink()
        return "1 deleted, first wall/ground_truth/hole/h1_mask.png"
    (folder / "p00.png").rename(folder / "renamed.png")
    return "1 added, 1 deleted, first wall/train/good/renamed.png"


@pytest.mark.parametrize("kind", ["changed", "added", "deleted", "renamed"])
def test_what_differs_is_refused_for_its_category_alone(repository: Repository, versioned_dir: Path, kind: str) -> None:
    dvc = f"run `dvc add {repository.data_dir}` to pin what is here"
    for data_dir, pin, fix in (
        (repository.data_dir, "data.dvc", dvc),
        (versioned_dir, "version.json", "run `ndpnet version-data` again"),
    ):
        named = damage(data_dir, kind)
        with pytest.raises(ValueError, match=rf"data/wall is not what {pin} pins") as refused:
            check_pinned(data_dir, "wall")
        assert named in str(refused.value)
        assert fix in str(refused.value)
        check_pinned(data_dir, "tile")


def test_what_is_missing_is_not_called_unpinned(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^no data folder .*data \(check the path, or run `ndpnet demo-data"):
        check_pinned(tmp_path / "data", "wall")
    write_small_category(tmp_path / "data/wall", seed=0)
    with pytest.raises(ValueError, match=r"^no folder .*data/wal \(run `dvc pull`, or .*; there: wall\)"):
        check_pinned(tmp_path / "data", "wal")
    with pytest.raises(ValueError, match=r"data/ is not pinned \(run `dvc add .*data`, .*\)$"):
        check_pinned(tmp_path / "data", "wall")
    given = {"--data": tmp_path / "data", "--category": "wall", "--out": tmp_path / "prepared"}
    told = CliRunner().invoke(main, ["prepare", *(str(word) for pair in given.items() for word in pair)])
    assert told.output.endswith("; or pass --allow-unpinned: such a model cannot be promoted\n")  # its own option


def test_missing_categories_are_told_apart(repository: Repository) -> None:
    shutil.rmtree(repository.data_dir / "wall")
    with pytest.raises(ValueError, match=r"data/wall is not here, but data\.dvc pins it \(run `dvc pull`\)"):
        check_pinned(repository.data_dir, "wall")
    with pytest.raises(ValueError, match=r"no folder .*data/carpet \(run `dvc pull`, or check"):
        check_pinned(repository.data_dir, "carpet")
    shutil.rmtree(repository.data_dir)
    with pytest.raises(ValueError, match="data/tile is not here"):
        check_pinned(repository.data_dir, "tile")
    with pytest.raises(ValueError, match="lies outside the data folder"):
        check_pinned(repository.data_dir, "../data/tile")


def test_without_dvcs_cache_equal_data_passes_and_other_data_does_not(repository: Repository) -> None:
    shutil.rmtree(repository.folder / ".dvc/cache")
    check_pinned(repository.data_dir, "wall")
    damage(repository.data_dir, "changed")
    with pytest.raises(ValueError, match="the list of the pinned files is not here to say what differs"):
        check_pinned(repository.data_dir, "wall")


def test_the_hash_is_that_of_paths_and_contents(versioned_dir: Path) -> None:
    first = version_of(versioned_dir).data_hash
    os.utime(versioned_dir / "wall/test/good/t0.png")
    assert version_of(versioned_dir).data_hash == first
    good_dir = versioned_dir / "wall/test/good"
    (good_dir / "t0.png").rename(good_dir / "other.png")
    renamed = version_of(versioned_dir).data_hash
    (good_dir / "other.png").rename(good_dir / "t0.png")
    change_pixels(good_dir / "t0.png")
    assert len({first, renamed, version_of(versioned_dir).data_hash}) == 3


@pytest.mark.parametrize("path", ["../x.png", "/etc/passwd", "wall/../../x", "wall//x.png", "", "./x"])
def test_a_manifest_that_leaves_its_folder_is_refused(versioned_dir: Path, path: str) -> None:
    content = json.loads((versioned_dir / VERSION).read_text())
    content["files"] = [{"path": path, "sha256": "0" * 64}]
    (versioned_dir / VERSION).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"version\.json: .* is no path inside the folder"):
        Version.load(versioned_dir / VERSION)


@pytest.mark.parametrize(
    "change", [{"data_hash": "0" * 64}, {"format_version": 2}, {"files": []}, {"files": [{"path": "x"}]}]
)
def test_a_damaged_manifest_is_refused(versioned_dir: Path, change: dict[str, object]) -> None:
    content = json.loads((versioned_dir / VERSION).read_text())
    (versioned_dir / VERSION).write_text(json.dumps(content | change))
    with pytest.raises(ValueError, match=r"manifest .*version\.json.*\(run `ndpnet data manifest` again\)"):
        check_pinned(versioned_dir, "wall")


def test_a_link_to_a_folder_is_refused(versioned_dir: Path) -> None:
    (versioned_dir / "wall/train/more").symlink_to(versioned_dir / "tile")
    with pytest.raises(ValueError, match="train/more is a link to a folder"):
        version_of(versioned_dir)


def status(data_dir: Path) -> tuple[int, str]:
    told = CliRunner().invoke(main, ["data", "status", str(data_dir)])
    return told.exit_code, told.output


def test_status_in_each_state(tmp_path: Path, repository: Repository) -> None:
    exit_code, told = status(repository.data_dir)
    assert (exit_code, told.splitlines()[-1]) == (0, "here     exactly what is pinned")
    assert "wall: test/good 3, test/hole 2, train/good 12\n" in told
    damage(repository.data_dir, "changed")
    exit_code, told = status(repository.data_dir)
    assert (exit_code, "1 changed, first wall/train/good/p03.png" in told) == (3, True)
    for lost in ("data", ".dvc/cache"):  # a fresh clone has neither
        shutil.rmtree(repository.folder / lost)
    exit_code, told = status(repository.data_dir)
    assert (exit_code, "(run `dvc pull`" in told) == (3, True)
    (repository.folder / "data.dvc").unlink()
    with pytest.raises(ValueError, match=r"no data folder .*data \(check the path"):
        read_status(repository.data_dir)
    write_small_category(tmp_path / "data/wall", seed=0)
    exit_code, told = status(tmp_path / "data")
    assert (exit_code, told.startswith("pinned   nothing: "), "git init && dvc init" in told) == (3, True, True)

"""A batch joins a category: what is taken, skipped, refused, named and pinned."""

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_sets import mask, picture
from PIL import Image
from processes import kill_when, run_cli, start_cli
from repositories import Repository, contents
from samples import write_picture

from ndpnet.data.importing.adding import Added, add_batch
from ndpnet.data.importing.sources.mvtec import scan_mvtec
from ndpnet.data.versions.version import check_pinned
from ndpnet.locks import locked


@pytest.fixture
def wall(repository: Repository) -> Path:
    return repository.data_dir / "wall"


def write_batch(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        write_picture(folder / name, picture(700 + number))
    return folder


def add(repository: Repository, source: Path, **options: object) -> Added:
    return add_batch(str(source), "wall", repository.data_dir, **options)


def assert_refused(repository: Repository, source: Path, message: str, **options: object) -> None:
    """Adding fails with the message, and neither the data nor the pin nor anything beside it changes."""
    before = contents(repository.folder)
    with pytest.raises(ValueError, match=message):
        add(repository, source, **options)
    after = contents(repository.folder)
    is_caches = re.compile(r"\.dvc/(site|tmp)/")
    assert {path: after[path] for path in after if not is_caches.match(path)} == {
        path: before[path] for path in before if not is_caches.match(path)
    }
    assert not [path.name for path in repository.folder.iterdir() if "fetching" in path.name]


def test_new_pictures_are_added_and_pinned(repository: Repository, wall: Path, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch", ["b.png", "a.PNG", "day 2/ä.jpg"])
    (batch / "readme.txt").write_text("x")
    (batch / ".hidden.png").write_bytes(b"x")
    before, pin = contents(wall), (repository.folder / "data.dvc").read_text()
    added = add(repository, batch)
    assert (added.num_added, added.num_copies, added.renamed) == (3, 0, {})
    new = {"train/good/b.png": "b.png", "train/good/a.PNG": "a.PNG", "train/good/day 2_ä.jpg": "day 2/ä.jpg"}
    assert contents(wall) == before | {path: (batch / source).read_bytes() for path, source in new.items()}
    assert (repository.folder / "data.dvc").read_text() != pin
    check_pinned(repository.data_dir, "wall")
    assert sorted(path.name for path in repository.folder.iterdir() if "fetching" in path.name) == []


@pytest.mark.parametrize(
    ("known", "place"),
    [
        ("test/good/t0.png", "train/good"),
        ("test/hole/h0.png", "train/good"),
        ("test/hole/h0.png", "test/scratch"),
        ("train/good/p00.png", "test/good"),
    ],
)
def test_a_picture_of_another_place_is_an_error(
    repository: Repository, wall: Path, tmp_path: Path, known: str, place: str
) -> None:
    batch = write_batch(tmp_path / "batch", ["a.png"])
    with Image.open(wall / known) as image:  # the same picture in another format
        image.save(batch / "x.bmp")
    masks = None
    if place == "test/scratch":
        masks = tmp_path / "masks"
        for name in ("a", "x"):
            write_picture(masks / f"{name}_mask.png", mask())
    message = rf"^x\.bmp is there as wall/{known} \(a picture is trained .*: remove all but one"
    assert_refused(repository, batch, message, place=place, masks=masks)


@pytest.mark.parametrize(
    ("known", "change"), [("train/good/p00.png", "train/good: 12 -> 11"), ("test/good/t0.png", "test/good: 3 -> 2")]
)
def test_a_good_picture_that_is_called_defective_now_is_moved(
    repository: Repository, wall: Path, tmp_path: Path, known: str, change: str
) -> None:
    batch, masks, name = write_batch(tmp_path / "batch", ["a.png"]), tmp_path / "masks", Path(known).name
    with Image.open(wall / known) as image:
        image.save(batch / "x.bmp")
    for stem in ("a", "x"):
        write_picture(masks / f"{stem}.png", mask())
    before = contents(wall)
    added = add(repository, batch, place="test/hole", masks=masks)
    assert (added.num_added, added.num_copies) == (2, 0)
    assert added.moved == {f"wall/{known}": f"wall/test/hole/{name}"}
    assert set(added.changes) == {"  test/hole: 2 -> 4", f"  {change}"}
    after, new = contents(wall), {f"test/hole/{name}", "test/hole/a.png"}
    assert after.keys() - before.keys() == new | {
        path.replace("test", "ground_truth").replace(".", "_mask.") for path in new
    }
    assert before.keys() - after.keys() == {known}
    assert after[f"test/hole/{name}"] == before[known]
    check_pinned(repository.data_dir, "wall")
    # killed before it was pinned
    shutil.copy(repository.folder / "data.dvc", tmp_path)
    repository.run("git", "checkout", "--quiet", "data.dvc")
    again = add(repository, batch, place="test/hole", masks=masks)
    assert (again.num_added, again.num_copies, again.changes) == (0, 2, added.changes)
    assert (repository.folder / "data.dvc").read_bytes() == (tmp_path / "data.dvc").read_bytes()


def test_a_good_picture_that_lies_there_twice_is_not_half_moved(
    repository: Repository, wall: Path, tmp_path: Path
) -> None:
    batch, masks = write_batch(tmp_path / "batch", ["a.png"]), tmp_path / "masks"
    shutil.copy(wall / "train/good/p00.png", wall / "train/good/z.png")
    repository.run("dvc", "add", "data")
    shutil.copy(wall / "train/good/p00.png", batch / "x.png")
    for stem in ("a", "x"):
        write_picture(masks / f"{stem}.png", mask())
    message = r"^x\.png is there as wall/train/good/p00\.png, wall/train/good/z\.png \(.* remove all but one\)$"
    assert_refused(repository, batch, message, place="test/hole", masks=masks)


@pytest.mark.parametrize(
    ("folder", "place", "message"),
    [
        ("defective", "train/good", r"batch/defective holds no good pictures, by its name .*\(give good ones alone"),
        ("masks", "test/good", r"batch/masks holds no good pictures"),
        ("day/masks", "test/hole", r"batch/day/masks holds masks, no pictures to add \(leave it out, or pass masks"),
    ],
)
def test_folders_that_are_no_such_pictures_by_their_name_are_refused(
    repository: Repository, tmp_path: Path, folder: str, place: str, message: str
) -> None:
    batch = write_batch(tmp_path / "batch", ["good/a.png", f"{folder}/a.png"])
    assert_refused(repository, batch, message, place=place)


def test_unreadable_pictures_are_named_and_nothing_is_added(repository: Repository, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch", ["a.png", "b.png", "c.png"])
    (batch / "b.png").write_bytes((batch / "b.png").read_bytes()[:200])
    write_picture(batch / "small.png", np.zeros((63, 70), dtype=np.uint8))
    (batch / "empty.png").write_bytes(b"")
    named = r"(?=.*b\.png \(truncated)(?=.*small\.png \(70x63 pixels)(?=.*empty\.png \(not a picture)"
    assert_refused(repository, batch, rf"nothing was added: {named}(?!.*a\.png)")


def test_taken_names_get_the_contents_hash(repository: Repository, wall: Path, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch", ["p00.png", "P01.PNG", "p02.jpg", "x/new.png", "y/new.png", "x_new.bmp"])
    before = contents(wall)
    added = add(repository, batch)
    assert added.num_added == 6
    names = {source: Path(target).name for source, target in added.renamed.items()}
    taken = {"p00.png": "p00", "P01.PNG": "P01", "p02.jpg": "p02", "x_new.bmp": "x_new"}  # after x/new.png
    assert names.keys() == taken.keys()
    for source, name in names.items():
        assert re.fullmatch(rf"{taken[source]}_[0-9a-f]{{8}}{Path(source).suffix}", name)
    for source, name in (names | {"x/new.png": "x_new.png", "y/new.png": "y_new.png"}).items():
        assert (wall / "train/good" / name).read_bytes() == (batch / source).read_bytes()
    assert {path: content for path, content in contents(wall).items() if path in before} == before
    stems = [path.stem.casefold() for path in (wall / "train/good").iterdir()]
    assert len(stems) == len(set(stems))


@pytest.mark.parametrize(
    ("names", "num_bytes"),
    [
        (["a.png", f"{'a' * 120}/{'b' * 130}.png"], 260),
        (["a.png", f"{'p' * 247}.png"], 256),
        ([f"{'P' * 246}.png", f"{'p' * 246}.png"], 264),  # the second gets digits of its hash
    ],
)
def test_a_name_that_becomes_too_long_is_refused_before_anything_moves(
    repository: Repository, tmp_path: Path, names: list[str], num_bytes: int
) -> None:
    batch = write_batch(tmp_path / "batch", names)
    message = rf"^the name \w+\.png has {num_bytes} bytes with its folders and _mask, .* \(shorten it\)$"
    assert_refused(repository, batch, message)


@pytest.mark.parametrize("small_disk", ["2m"], indirect=True)
def test_a_full_disk_is_named_and_changes_nothing(original: Repository, small_disk: Path, tmp_path: Path) -> None:
    repository = original.copy(small_disk / "repository")
    batch = write_batch(tmp_path / "batch", [f"{number:03}.png" for number in range(400)])
    assert_refused(repository, batch, r"^cannot write .*repository/data: No space left on device \(free some")


@pytest.mark.parametrize("small_disk", ["100k"], indirect=True)
def test_a_full_cache_is_named_and_the_next_call_fills_it(
    repository: Repository, small_disk: Path, tmp_path: Path
) -> None:
    batch = write_batch(tmp_path / "batch", [f"{number:03}.png" for number in range(40)])
    config_path, larger = repository.folder / ".dvc/config.local", tmp_path / "larger"
    config = config_path.read_text()
    config_path.write_text(f"{config}[cache]\n    dir = {small_disk}\n")
    with pytest.raises(ValueError, match=rf"^DVC's cache {small_disk}/.* could not take (tile|wall)/.* \(free some"):
        add(repository, batch)
    config_path.write_text(f"{config}[cache]\n    dir = {larger}\n")
    assert add(repository, batch).num_copies == 40
    kept = {path.parent.name + path.name for path in larger.rglob("*") if path.is_file()}
    assert {hashlib.md5(content).hexdigest() for content in contents(repository.data_dir).values()} < kept


def test_masks_follow_their_pictures(repository: Repository, wall: Path, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch", ["h0.png", "d/q.png"])
    masks = batch / "masks"
    write_picture(masks / "h0.png", mask())
    write_picture(masks / "d/q_mask.bmp", mask())
    added = add(repository, batch, place="test/hole", masks=Path("masks"))
    renamed = Path(added.renamed["h0.png"])
    found = {image.path: image.mask_path for image in scan_mvtec(wall) if image.defect_type == "hole"}
    assert found[f"test/hole/{renamed.name}"] == f"ground_truth/hole/{renamed.stem}_mask.png"
    assert found["test/hole/d_q.png"] == "ground_truth/hole/d_q_mask.bmp"
    check_pinned(repository.data_dir, "wall")


def test_masks_that_do_not_fit_are_refused(repository: Repository, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch", ["a.png", "b.png"])
    masks = tmp_path / "masks"
    assert_refused(repository, batch, r"no folder .*masks with masks", place="test/hole", masks=masks)
    write_picture(masks / "a.png", mask())
    assert_refused(repository, batch, r"b\.png has no mask \(add b_mask\.png\)", place="test/hole", masks=masks)
    write_picture(masks / "b.png", mask()[:60])
    assert_refused(repository, batch, r"has 64x60 pixels, its picture 64x64", place="test/hole", masks=masks)
    write_picture(masks / "b.png", mask(is_empty=True))
    assert_refused(repository, batch, r"b\.png is empty \(mark the defect", place="test/hole", masks=masks)
    write_picture(masks / "b.png", mask())
    write_picture(masks / "c.png", mask())
    assert_refused(repository, batch, r"c\.png has no picture", place="test/hole", masks=masks)
    assert_refused(repository, batch, r"pass --masks FOLDER", place="test/hole")
    assert_refused(repository, batch, r"leave --masks out", place="test/good", masks=masks)


def test_places_and_categories_that_are_none_are_refused(repository: Repository, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch", ["a.png"])
    for place in ("train", "train/bad", "test/", "test/a/b", "test/..", "test/.x", "ground_truth/hole"):
        assert_refused(repository, batch, "no place ", place=place)
    message = r"test/OK is a name for good pictures \(add them --as test/good\)"
    assert_refused(repository, batch, message, place="test/OK")
    for category in ("wal", "../data/wall", "", "wall/train"):
        with pytest.raises(ValueError, match=r"no category .* \(there: tile, wall; `ndpnet import` makes a new one"):
            add_batch(str(batch), category, repository.data_dir)


def test_a_batch_of_another_depth_is_refused(repository: Repository, tmp_path: Path) -> None:
    write_picture(tmp_path / "batch/x.png", np.arange(4096, dtype=np.uint16).reshape(64, 64))
    assert_refused(
        repository, tmp_path / "batch", r"wall/.*\.png has levels of 8 bits, x\.png of 12: a set has one depth"
    )


def test_data_that_already_differs_is_not_pinned_by_the_way(repository: Repository, wall: Path, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch", ["a.png"])
    (wall / "train/good/p05.png").unlink()
    assert_refused(repository, batch, r"1 deleted, first wall/train/good/p05\.png \(run `dvc add data` first")
    repository.pin()
    shutil.copy(batch / "a.png", repository.data_dir / "tile/train/good/a.png")
    assert_refused(repository, batch, r"1 added, first tile/train/good/a\.png")


def test_the_first_pin_pins_all(repository: Repository, tmp_path: Path) -> None:
    (repository.folder / "data.dvc").unlink()
    assert add(repository, write_batch(tmp_path / "batch", ["a.png"])).num_added == 1
    check_pinned(repository.data_dir, "wall")
    check_pinned(repository.data_dir, "tile")


def test_what_dvc_was_killed_in_writing(repository: Repository, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch", ["a.png"])
    (repository.folder / "data.dvc").write_text("")
    assert_refused(repository, batch, r"data\.dvc pins no data/ \(run `dvc add data` again\)")
    repository.pin()
    (repository.folder / ".dvc/tmp/rwlock").write_text("")
    assert add(repository, batch).num_added == 1
    check_pinned(repository.data_dir, "wall")


def test_no_repository_no_pin(tmp_path: Path, original: Repository) -> None:
    shutil.copytree(original.data_dir, tmp_path / "data")
    with pytest.raises(ValueError, match=r"is in no DVC repository .*`git init && dvc init`"):
        add_batch(str(write_batch(tmp_path / "batch", ["a.png"])), "wall", tmp_path / "data")
    assert contents(tmp_path / "data") == contents(original.data_dir)


def test_two_at_once_do_not_meet(repository: Repository, tmp_path: Path) -> None:
    batch = write_batch(tmp_path / "batch", ["a.png"])
    with locked(repository.data_dir, "", is_folder=True):  # as another process that adds to it
        assert_refused(repository, batch, r"^another process adds to .*data \(wait for it\)$")
    assert add(repository, batch).num_added == 1


@pytest.mark.slow
def test_a_kill_at_any_moment_and_the_same_command_again(original: Repository, tmp_path: Path) -> None:
    """SIGKILL when the first file appears, then again: what comes out is what an undisturbed run makes."""
    names = [f"new{number:02d}.png" for number in range(60)]
    batch, masks = write_batch(tmp_path / "batch", ["h0.png", *names]), tmp_path / "masks"
    for name in ("h0.png", *names):
        write_picture(masks / name, mask())
    undisturbed, killed = (original.copy(tmp_path / name / "repository") for name in ("undisturbed", "killed"))
    options = ("--category", "wall", "--as", "test/hole", "--masks", masks)
    finished = run_cli(["data", "add", batch, *options, "--data", undisturbed.data_dir], tmp_path / "log")
    assert finished.exit_code == 0, finished.stderr
    assert finished.stdout.startswith("61 added to wall/test/hole, 0 were there already\n")
    before = contents(killed.data_dir)
    num_kills = 0
    moments = [
        lambda: any(killed.folder.glob(".data.*.fetching/ground_truth/hole/*_mask.png")),
        lambda: any(killed.data_dir.glob("wall/ground_truth/hole/new0*")),
        lambda: any(killed.data_dir.glob("wall/test/hole/new3*")),
        lambda: len(list(killed.data_dir.glob("wall/test/hole/*"))) == 2 + 61,
    ]
    for moment in moments:
        process = start_cli(["data", "add", batch, *options, "--data", killed.data_dir], tmp_path / "log")
        num_kills += kill_when(process, moment)
        now = contents(killed.data_dir)
        assert before.items() <= now.items()
        whole = set(contents(undisturbed.data_dir).items())
        assert set(now.items()) <= whole  # no half file, no other name
    assert num_kills >= 2
    finished = run_cli(["data", "add", batch, *options, "--data", killed.data_dir], tmp_path / "log")
    assert finished.exit_code == 0, finished.stderr
    assert contents(killed.data_dir) == contents(undisturbed.data_dir)
    assert (killed.folder / "data.dvc").read_bytes() == (undisturbed.folder / "data.dvc").read_bytes()
    assert [path.name for path in killed.folder.iterdir() if "fetching" in path.name] == []

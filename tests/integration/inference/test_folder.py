"""Inspecting folders: what is counted and written, what goes on after an unreadable file, what is replaced."""

import csv
import json
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from repositories import contents
from samples import Pipeline

from ndpnet.data.listing import list_images
from ndpnet.inference import Inspector
from ndpnet.inference.folder import _task_key, inspect_folder

TABLES = ["predictions.csv", "predictions.jsonl"]
ROW = 31  # pixels above an overlay: a line of text


@pytest.fixture(scope="module")
def scores(pipeline: Pipeline) -> dict[str, float]:
    """Score by path of the test pictures."""
    inspector = Inspector.load(pipeline.model_dir)
    root = pipeline.data_dir / "wall/test"
    return {path.relative_to(root).as_posix(): inspector.inspect(path).score for path in sorted(root.rglob("*.png"))}


@pytest.fixture(scope="module")
def inspector(pipeline: Pipeline, scores: dict[str, float]) -> Inspector:
    """One that finds four of the twelve test pictures defective."""
    return Inspector.load(pipeline.model_dir, threshold=sorted(scores.values())[7])


@pytest.fixture
def pictures(pipeline: Pipeline, tmp_path: Path) -> Path:
    return shutil.copytree(pipeline.data_dir / "wall/test", tmp_path / "pictures")


def read_csv(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="") as table:
        return list(csv.DictReader(table))


def read_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_every_picture_gets_a_row_a_line_and_an_overlay(
    inspector: Inspector, pictures: Path, tmp_path: Path, scores: dict[str, float]
) -> None:
    assert inspect_folder(inspector, pictures, tmp_path / "out") == Counter(good=8, defective=4)
    rows, lines = read_csv(tmp_path / "out"), read_lines(tmp_path / "out")
    assert {line["path"]: line["score"] for line in lines} == scores
    assert {row["path"]: row["score"] for row in rows} == {path: f"{score:.6g}" for path, score in scores.items()}
    assert [row["path"] for row in rows] == [line["path"] for line in lines] == sorted(scores)
    for row, line in zip(rows, lines, strict=True):
        is_defective = scores[row["path"]] > inspector.threshold
        assert row["verdict"] == line["verdict"] == ("defective" if is_defective else "good")
        assert row["threshold"] == f"{inspector.threshold:.6g}"
        assert row["threshold_source"] == line["threshold_source"] == "manual"
        assert int(row["num_regions"]) == len(line["regions"])
        assert bool(line["regions"]) == is_defective
        height, width = (96, 80) if row["path"].startswith("good/") else (80, 96)
        assert (int(row["height"]), int(row["width"])) == (height, width)
        picture = np.asarray(Image.open(tmp_path / "out/overlays" / f"{row['path']}.jpg"))
        zoom = 512 // width
        assert picture.shape == (height * zoom + ROW, width * zoom, 3)
        assert picture[:ROW].min() < 100 < picture[:ROW].mean()  # score and verdict
    wanted = [f"overlays/{path}.jpg" for path in scores]
    assert contents(tmp_path / "out").keys() == {".ndpnet.json", *wanted, "index.html", *TABLES}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pictures"]


def test_the_page_has_every_picture_worst_first(
    inspector: Inspector, pictures: Path, tmp_path: Path, scores: dict[str, float]
) -> None:
    (pictures / "a text & more.png").write_text("hello")
    inspect_folder(inspector, pictures, tmp_path / "out")
    page = (tmp_path / "out/index.html").read_text()
    shown = re.findall(r'data-name="([^"]+)"', page)
    assert shown == ["a text &amp; more.png", *sorted(scores, key=lambda path: -scores[path])]
    links = re.findall(r'<a href="([^"]+)"><img src="([^"]+)"', page)
    assert all(link == source and (tmp_path / "out" / link).is_file() for link, source in links)
    assert len(links) == len(scores)
    assert "4 defective, 8 good, 1 without a verdict" in page


def test_pictures_unlike_the_calibration_get_a_warning_in_row_log_and_page(
    inspector: Inspector, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(7):
        Image.fromarray(np.full((300, 1200), 200 + number, dtype=np.uint8)).save(pictures / f"huge{number}.png")
    result = inspect_folder(inspector, pictures, tmp_path / "out")
    assert result["unlike"] == 7
    warned = {row["path"]: row["warning"] for row in read_csv(tmp_path / "out") if row["warning"]}
    assert set(warned) == {f"huge{number}.png" for number in range(7)}
    assert warned["huge0.png"].startswith("1200x300 pixels, the model knows 64x64: another scale; aspect ratio 4, ")
    said = [message for message in caplog.messages if "is unlike the calibration pictures: 1200x300" in message]
    assert len(said) == 5
    assert said[-1].endswith("(further ones are in the table alone)")
    page = (tmp_path / "out/index.html").read_text()
    assert "7 pictures are unlike those of the calibration" in page
    assert page.count('data-warning="yes"') == 7


def test_results_among_the_pictures_are_not_inspected(
    inspector: Inspector, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for out in (pictures / "verdicts", tmp_path):
        with pytest.raises(ValueError, match=r"the output .* and the input .*/pictures lie in one another"):
            inspect_folder(inspector, pictures, out)
    with pytest.raises(ValueError, match=r"^\S*/pictures is both the input and the output \(choose another --out\)$"):
        inspect_folder(inspector, pictures, pictures)
    for inside in (tmp_path / "pictures/good", tmp_path / "pictures/good/wall_p90_0.png"):
        with pytest.raises(ValueError, match=r"the output .*/pictures and the input .*/good\S* lie in one another"):
            inspect_folder(inspector, inside, pictures)
    assert (pictures / "good/wall_p90_0.png").exists()
    inspect_folder(inspector, pictures, tmp_path / "out")
    (tmp_path / "out").rename(pictures / "verdicts")
    caplog.set_level("INFO")
    assert inspect_folder(inspector, pictures, tmp_path / "out") == Counter(good=8, defective=4, skipped=1)
    assert f"no pictures, left out: 1 ({pictures}/verdicts)" in caplog.messages


def test_odd_sizes_and_names_cost_no_verdict(
    inspector: Inspector, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rng = np.random.default_rng(0)
    line_scan = rng.integers(0, 256, (64, 70_000), dtype=np.uint8)  # longer than a JPEG can be
    Image.fromarray(line_scan).save(pictures / "line scan.png")
    shutil.copy(pictures / "good/wall_p90_0.png", pictures / f"{'n' * 250}.png")  # no room for its overlay's name
    shutil.copy(pictures / "good/wall_p90_0.png", pictures / "x.png")
    (pictures / "x.png.jpg").mkdir()  # the overlay of x.png has this name
    shutil.copy(pictures / "good/wall_p90_0.png", pictures / "x.png.jpg/y.png")
    shutil.copy(pictures / "good/wall_p90_0.png", pictures / "=1+1\n.png")
    shutil.copy(pictures / "good/wall_p90_0.png", pictures / f"{'n' * 249}m.png")
    result = inspect_folder(inspector, pictures, tmp_path / "out")
    assert result["error"] == 0
    rows = {row["path"]: row for row in read_lines(tmp_path / "out")}
    assert rows["line scan.png"]["width"] == 70_000
    # each has its own overlay, under a short name where there is no room for its own
    overlays = [path.relative_to(tmp_path / "out/overlays").as_posix() for path in (tmp_path / "out").rglob("*.jpg")]
    assert len([path for path in overlays if (tmp_path / "out/overlays" / path).is_file()]) == len(rows) == 18
    short = sorted(set(overlays) - {f"{path}.jpg" for path in rows})
    assert [re.fullmatch(r"(n{40}|x_png|y_png)-[0-9a-f]{16}\.jpg", name)[1] for name in short[:2]] == ["n" * 40] * 2
    assert len(short) == 3
    assert all(any(name in message for message in caplog.messages) for name in short)
    assert Image.open(tmp_path / "out/overlays/line scan.png.jpg").width == 2000
    assert "'=1+1\n.png" in [row["path"] for row in read_csv(tmp_path / "out")]  # no formula for a spreadsheet


def test_rows_of_a_killed_run_are_of_the_same_three_verdicts(pipeline: Pipeline, pictures: Path) -> None:
    keys = set()
    for review in (None, {"value": 0.1}, {"value": 0.2}):
        inspector = Inspector.load(pipeline.model_dir)
        inspector.threshold_record |= {"review": review}
        keys.add(_task_key(inspector, pictures, [], with_overlays=True))
    assert len(keys) == 3


def test_without_a_threshold_the_user_learns_what_to_do(inspector: Inspector, pictures: Path, tmp_path: Path) -> None:
    without = Inspector(inspector.engine, input_size=(64, 64), threshold=None)
    with pytest.raises(ValueError, match=r"no threshold \(run `ndpnet calibrate MODEL GOOD_IMAGES`, or pass --thresh"):
        inspect_folder(without, pictures, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_listing_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^no file or folder .*none \(check the path\)$"):
        list_images(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"^no images under .* \(known endings: \.png, "):
        list_images(tmp_path)

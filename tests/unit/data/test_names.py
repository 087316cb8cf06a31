"""Names of folders and categories."""

import unicodedata
from pathlib import Path

import pytest
from data_sets import touch

from ndpnet.data.names import check_category, refuse_defective, type_of, without_own

GOOD = "good Good OK o.k. normal Normal i.O. gut defect-free no_defect"
DEFECTS = "crack nok not_ok n.i.O. ko metal_contamination faulty_imprint abnormal defective combined bent_wire 10"


def test_known_names_of_good_pictures_and_of_defects() -> None:
    assert {type_of(name) for name in (*GOOD.split(), "non defective")} == {"good"}
    for name in (*DEFECTS.split(), "no good"):
        assert type_of(name) == name


@pytest.mark.parametrize("name", ["good_new", "ok2", "Normal parts", "clean", "without_defects", "free of faults"])
def test_what_sounds_good_is_asked_about(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^folder {name!r} holds good pictures, or a type of defect\? \(rename it"):
        type_of(name)


def test_folders_of_masks() -> None:
    masks, others = ("ground_truth", "Masks", "GT", "ground-truth"), ("good", "masked", "labels", "2026-11-28")
    paths = [Path("a", name, "1.png") for name in (*masks, *others)]
    judged, left_out = without_own(Path("a"), paths, is_file=lambda path: False)
    assert [path.parent.name for path in judged] == list(others)
    assert left_out == {Path("a", name): "masks" for name in masks}


@pytest.mark.parametrize("name", ["brick", "Class1", "01", "Fläche 1", unicodedata.normalize("NFD", "Fläche 1"),
                                  "line-3_b.2", "鋼板", "C++"])  # fmt: skip
def test_safe_categories(name: str) -> None:
    check_category(name)


@pytest.mark.parametrize(
    "name",
    ["a;touch x", "$(touch x)", "`x`", "a'b", 'a"b', "a/b", "a\\b", "..", ".hidden", "-o", "a ", " a", "a.", "", "a\nb",
     "a*", "a&b", "a|b", "x" * 101, "ä" * 51, "{a}", "a:b", "100%"],
)  # fmt: skip
def test_names_that_a_shell_or_a_file_system_could_misread(name: str) -> None:
    with pytest.raises(ValueError, match=r"^the category's name .* \(rename it: letters, digits, spaces"):
        check_category(name)


@pytest.mark.parametrize(
    ("below", "paths"),
    [
        ("brick/test", ["good/0.png", "crack/1.png"]),
        ("brick/test/peeling", ["1.png"]),
        ("brick", ["train/good/0.png", "test/good/0.png", "test/peeling/1.png"]),
        ("pictures", ["good/0.png", "peeling/1.png"]),
        ("pictures", ["0.png", "ground_truth/0.png"]),
        ("pictures", ["monday/0.png", "monday/Defects/0.png"]),
        ("NOK", ["0.png"]),
        ("bad/monday", ["0.png"]),
    ],
)
def test_defective_pictures_and_masks_are_no_good_ones(tmp_path: Path, below: str, paths: list[str]) -> None:
    (tmp_path / "brick/train").mkdir(parents=True)
    found = touch(tmp_path / below, *paths)
    with pytest.raises(ValueError, match=r"holds no good pictures, by its name or by the folders beside it"):
        refuse_defective(tmp_path / below, found)


@pytest.mark.parametrize(
    ("below", "paths"),
    [
        ("brick/test/good", ["0.png"]),
        ("brick/train/good", ["0.png"]),
        ("pictures", ["0.png", "monday/1.png", "tuesday/morning/2.png"]),
        ("pictures", ["monday/good/0.png", "tuesday/ok/0.png"]),
        ("test", ["0.png", "monday/1.png"]),
        ("test/monday", ["0.png"]),
        ("scratch/.data.fetching", ["0.png"]),
    ],
)
def test_good_pictures_calibrate(tmp_path: Path, below: str, paths: list[str]) -> None:
    (tmp_path / "brick/train").mkdir(parents=True)
    root, found = tmp_path / below, touch(tmp_path / below, *paths)
    refuse_defective(root, found)
    with pytest.raises(ValueError, match=r"defects holds no good pictures, by its name"):  # the same with one more
        refuse_defective(root, [*found, *touch(root, "defects/1.png")])

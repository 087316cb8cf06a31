"""The defect's area that a person paints: taken as a mask of the picture's size, and part of the reviewed batch."""

from pathlib import Path

import numpy as np
import pytest
from pictures import as_base64, decoded, encoded
from PIL import Image
from stations import get, picture, post, send

from ndpnet.data.importing.sources.own import find_batch
from ndpnet.station.retrain import export_batch


def sent(array: np.ndarray) -> str:
    return as_base64(encoded(Image.fromarray(array)))


def review(url: str, told: dict, **body):
    return send(f"{url}/api/pictures/{told['id']}/review", **{"label": "defective", "who": "Ann"} | body)


def area(side: int) -> np.ndarray:
    """What the page sends: coloured strokes on black, here over the upper left quarter."""
    drawn = np.zeros((side, side, 3), np.uint8)
    drawn[: side // 2, : side // 2] = (0, 229, 255)
    return drawn


@pytest.mark.parametrize("side", [64, 128, 32])
def test_an_area_of_any_size_becomes_a_mask_of_the_pictures_size(station, side):
    _, url = station
    told = post(url, picture(20)).json()
    answer = review(url, told, mask=sent(area(side))).json()
    assert [each["is_painted"] for each in answer["opinions"]][-1]
    expected = np.zeros((64, 64), np.uint8)
    expected[:32, :32] = 255
    mask = get(f"{url}/pictures/{told['id']}/mask")
    assert mask.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(decoded(mask.content), expected)


def test_whoever_changes_their_mind_takes_the_area_back(station):
    _, url = station
    told = post(url, picture(21)).json()
    review(url, told, mask=sent(area(64)))
    review(url, told, label="good")
    assert get(f"{url}/pictures/{told['id']}/mask").status_code == 404


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"mask": "no base64"}, "base64"),
        ({"mask": as_base64(b"no picture")}, "painted area"),
        ({"mask": sent(np.zeros((64, 64), np.uint8))}, "is empty"),
        ({"mask": sent(np.zeros((2100, 2100), np.uint8))}, "too many pixels"),
        ({"mask": sent(area(64)), "label": "good"}, "painted on a good picture"),
    ],
)
def test_what_is_no_area_of_a_defect_is_refused_and_nothing_is_noted(station, body, reason):
    running, url = station
    told = post(url, picture(22)).json()
    before = len(running.journal.opinions(told["id"]))
    answer = review(url, told, **body)
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    assert len(running.journal.opinions(told["id"])) == before


def test_painted_pictures_are_exported_with_their_masks_as_data_add_reads_them(station, tmp_path):
    running, url = station
    painted, plain = (post(url, picture(number)).json() for number in (40, 41))
    review(url, painted, mask=sent(area(64)))
    review(url, plain)
    num_pictures, _ = export_batch(running.journal, running.store, "wall", tmp_path / "batch")
    names = {path.stem for path in (tmp_path / "batch/painted").iterdir()}
    assert names == {path.stem for path in (tmp_path / "batch/masks").iterdir()}
    assert num_pictures["painted"] == len(names) >= 1
    assert any(name.endswith(f"_{painted['id']}") for name in names)
    assert not any(name.endswith(f"_{plain['id']}") for name in names)
    images = find_batch(
        tmp_path / "batch/painted", "test/defect", tmp_path / "batch/masks", "the batch"
    )  # as `data add`
    assert {Path(image.mask_path).stem for image in images} == names

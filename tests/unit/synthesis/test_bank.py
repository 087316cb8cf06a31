"""The defect bank: counts, sizes, and the same bytes for the same seed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from samples import synthesis_config

from ndpnet.files import sha256_of
from ndpnet.synthesis.bank import DefectBank, make_bank

FILES = ("masks.npy", "sources.npy", "bank.json")


@pytest.fixture(scope="module")
def photo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, each of one colour with a gradient."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "deeper").mkdir()
    for index, name in enumerate(("a.png", "b.JPG", "deeper/c.png")):
        pixels = np.zeros((90, 120, 3), dtype=np.uint8)
        pixels[..., index] = np.linspace(150, 250, 120)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def build(out_dir: Path, sources: Path | str, **changes: Any) -> dict[str, int]:
    settings = {"patch_size": 64, "num_masks": 40, "line_share": 0.25, "num_sources": 7, "sources": str(sources)}
    settings |= {"crack_share": 0.0, "source_augmentation": "none", "seed": 3} | changes
    return make_bank(out_dir, seed=settings.pop("seed"), synthesis=synthesis_config(**settings))


def digests(folder: Path) -> list[str]:
    return [sha256_of(folder / name) for name in FILES]


def test_counts_and_sizes(tmp_path: Path, photo_dir: Path) -> None:
    counts = build(tmp_path / "bank", photo_dir)
    expected = {"num_masks": 40, "num_line_masks": 10, "num_sources": 7, "num_photos": 3, "patch_size": 64}
    assert counts == expected | {"num_crack_masks": 0, "format_version": 2}
    assert json.loads((tmp_path / "bank/bank.json").read_text()) == counts
    bank = DefectBank.load(tmp_path / "bank")
    assert bank.patch_size == 64
    assert (bank.masks.shape, bank.masks.dtype) == ((40, 64, 8), np.uint8)
    assert (bank.sources.shape, bank.sources.dtype) == ((7, 64, 64, 3), np.uint8)
    assert sorted(path.name for path in (tmp_path / "bank").iterdir()) == [".ndpnet.json", *sorted(FILES)]


def test_no_mask_is_empty_and_none_is_there_twice(tmp_path: Path, photo_dir: Path) -> None:
    build(tmp_path / "bank", photo_dir, num_masks=200, line_share=0.5)
    masks = np.unpackbits(DefectBank.load(tmp_path / "bank").masks, axis=-1)
    areas = masks.sum(axis=(1, 2))
    assert areas.min() >= 8
    assert len(np.unique(masks, axis=0)) == 200


def test_sources_are_crops_of_every_photo_in_turn(tmp_path: Path, photo_dir: Path) -> None:
    build(tmp_path / "bank", photo_dir)
    sources = DefectBank.load(tmp_path / "bank").sources
    brightest = sources.mean(axis=(1, 2)).argmax(axis=1)
    assert brightest.tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert sources.max(axis=(1, 2, 3)).min() > 150


def test_the_seed_decides_every_byte(tmp_path: Path, photo_dir: Path) -> None:
    for name, seed in (("first", 3), ("second", 3), ("other", 4), ("large", 2**63 - 1)):
        build(tmp_path / name, photo_dir, seed=seed, crack_share=0.25)
    assert digests(tmp_path / "first") == digests(tmp_path / "second")
    for array in ("masks.npy", "sources.npy"):
        assert len({sha256_of(tmp_path / name / array) for name in ("first", "other", "large")}) == 3


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"^no images under synthesis.sources = .* \(name a folder of natural pictures"
    ):
        build(tmp_path / "bank", tmp_path)
    assert not (tmp_path / "bank").exists()
    with pytest.raises(ValueError, match=r"^no defect bank in .*bank \(run `ndpnet synthesize`\)$"):
        DefectBank.load(tmp_path / "bank")


def test_cracks_come_last_and_leave_the_other_masks_as_they_are(tmp_path: Path, photo_dir: Path) -> None:
    counts = build(tmp_path / "with", photo_dir, num_masks=60, line_share=0.2, crack_share=0.3)
    assert (counts["num_line_masks"], counts["num_crack_masks"]) == (12, 18)
    build(tmp_path / "without", photo_dir, num_masks=42, line_share=12 / 42)
    bank, without = DefectBank.load(tmp_path / "with"), DefectBank.load(tmp_path / "without")
    assert (bank.first_crack, without.first_crack) == (42, 42)
    assert np.array_equal(bank.masks[:42], without.masks)
    cracks = np.unpackbits(bank.masks[42:], axis=-1)
    assert 0.005 < cracks.mean() < 0.04


def test_a_bank_that_is_damaged_or_of_another_format_is_refused(tmp_path: Path, photo_dir: Path) -> None:
    counts = build(tmp_path / "bank", photo_dir)
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/bank.json").write_text(json.dumps(counts))
    (tmp_path / "cut/masks.npy").write_bytes((tmp_path / "bank/masks.npy").read_bytes()[:1000])
    with pytest.raises(
        ValueError, match=r"^cannot read the masks and sources in .*cut \(run `ndpnet synthesize` again\)$"
    ):
        DefectBank.load(tmp_path / "cut")
    (tmp_path / "bank/bank.json").write_text(json.dumps(counts | {"format_version": 1}))
    with pytest.raises(ValueError, match=r"has format 1, this ndpnet reads 2 \(run `ndpnet synthesize` again\)"):
        DefectBank.load(tmp_path / "bank")

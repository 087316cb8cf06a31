"""How many bits a set uses, and what its levels become."""

import re

import numpy as np
import pytest
from pictures import packed_12_bits, png_16, tiff

from ndpnet.data.images import NO_RANGE, OTHER_TIFF, open_image, read_header, read_image
from ndpnet.data.levels import Levels, depth_of_set


def levels(highest: int, mean: float, declared: int | None = None, stored: int = 16) -> Levels:
    return Levels(stored, highest, mean, declared)


def named(*of: Levels) -> list[tuple[str, Levels]]:
    return [(f"{number}.png", each) for number, each in enumerate(of)]


@pytest.mark.parametrize(
    ("of_set", "depth"),
    [
        ([Levels(8, 255, 0.0)], 8),
        ([levels(256, 90), levels(700, 200)], 10),
        ([levels(1023, 300), levels(1024, 310)], 12),  # one at a time they would be 10 and 12 bits
        ([levels(4096, 1500)], 14),
        ([levels(16384, 9000), levels(30, 20)], 16),  # a lens that was covered
        ([levels(700, 200, declared=12)], 12),  # the file knows better than the levels of dark pictures
        ([levels(65520, 20000, declared=12)], 16),  # scaled up, as PNG asks for
        ([levels(700, 200, declared=12), levels(4000, 300)], 12),
        ([levels(3000, 900, declared=12, stored=12), levels(4000, 900)], 12),
        ([levels(60000, 20000), Levels(8, 255, 0.0)], 16),  # both are used in full
        ([], 8),
    ],
)
def test_the_depth_is_that_of_the_file_else_of_the_brightest(of_set: list[Levels], depth: int) -> None:
    assert depth_of_set(named(*of_set)) == depth


@pytest.mark.parametrize(
    ("of_set", "message"),
    [
        ([levels(60000, 20000), levels(3800, 1250)], r"1\.png has levels of 12 bits, 0\.png of 16: a set"),
        ([levels(800, 250), levels(3000, 1000)], r"0\.png has levels of 10 bits, 1\.png of 12"),
        ([levels(800, 250, 10), levels(3000, 300)], r"0\.png has levels of 10 bits, 1\.png of 12"),
        ([Levels(8, 255, 0.0), levels(3000, 1000)], r"0\.png has levels of 8 bits, 1\.png of 12"),
        ([levels(4000, 900, 12, stored=12), levels(60000, 900)], r"0\.png has levels of 12 bits, 1\.png of 16"),
    ],
)
def test_a_mixture_is_refused(of_set: list[Levels], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        depth_of_set(named(*of_set))


@pytest.mark.parametrize("shape", [(2, 2), (2, 2, 2), (2, 2, 3), (2, 2, 4)])
def test_all_bits_of_grey_and_colour_are_read(shape: tuple[int, ...]) -> None:
    samples = np.random.default_rng(0).integers(0, 1024, shape, dtype=np.uint16)
    samples[0, 0] = 1023
    content = png_16(samples)
    assert read_header(content, name="x").is_wide
    opened = open_image(content)
    seen = samples if samples.ndim == 2 else samples[:, :, 0] if shape[2] == 2 else samples[:, :, :3]
    assert opened.levels == Levels(16, 1023, pytest.approx(seen.mean()), None)
    expected = np.floor(seen * 255.0 / 1023 + 0.5).astype(np.uint8)
    read = read_image(content, bit_depth=10)
    np.testing.assert_array_equal(read, expected if expected.ndim == 3 else np.repeat(expected[:, :, None], 3, 2))
    assert open_image(png_16(samples, significant_bits=10)).levels.declared == 10  # alpha has all 16


def test_a_12_bit_tiff_and_the_significant_bits_of_a_png_are_obeyed() -> None:
    samples = np.array([[0, 8, 2048, 4095]])
    content = tiff(packed_12_bits(samples), 4, 1, bits=12)
    assert open_image(content).levels == Levels(12, 4095, pytest.approx(samples.mean()), 12)
    # 8 * 255 / 4095 = 0.498, 2048 * 255 / 4095 = 127.53
    assert read_image(content)[0, :, 0].tolist() == [0, 0, 128, 255]
    assert read_image(png_16(samples // 4, significant_bits=10))[0, :, 0].tolist() == [0, 0, 128, 255]
    assert read_image(png_16(samples * 16, significant_bits=12))[0, :, 0].tolist() == [0, 0, 128, 255]
    assert not read_header(tiff(bytes(4), 4, 1, bits=8), name="x").is_wide


def test_a_picture_of_another_depth_than_its_set_is_refused() -> None:
    bright, dark = png_16(np.array([[0, 40_000]])), png_16(np.array([[0, 900]]))
    with pytest.raises(ValueError, match=r"^cannot read b\.png: levels up to 40000 in a 16-bit file, .* have 12 bits"):
        read_image(bright, name="b.png", bit_depth=12)
    with pytest.raises(ValueError, match=r"cannot read d\.png: levels up to 900 in a 16-bit file, .* have 8 bits"):
        read_image(dark, name="d.png", bit_depth=8)
    assert read_image(bright, bit_depth=8)[0, :, 0].tolist() == [0, 156]  # it fills its 16 bits
    packed = tiff(packed_12_bits(np.array([[0, 4095]])), 2, 1, bits=12)
    for depth in (10, 14, 16):
        with pytest.raises(ValueError, match=rf"12-bit file, the pictures it belongs to have {depth} bits"):
            read_image(packed, bit_depth=depth)


@pytest.mark.parametrize("bits", [8, 16])
def test_white_is_zero_where_a_tiff_says_so(bits: int) -> None:
    full = 2**bits - 1
    samples = np.array([[0, full // 3, full]]).astype(f"<u{bits // 8}")
    inverted, plain = (tiff(each.tobytes(), 3, 1, bits=bits, photometric=kind) for each, kind in
                       ((samples, 0), (full - samples, 1)))  # fmt: skip
    assert read_image(inverted)[0, :, 0].tolist() == read_image(plain)[0, :, 0].tolist() == [255, 170, 0]
    assert open_image(inverted).facts().pixels_sha256 == open_image(plain).facts().pixels_sha256


def tiff_of(dtype: str, sample_format: int) -> bytes:
    samples = np.arange(-2, 2).astype(dtype)
    return tiff(samples.tobytes(), 4, 1, bits=8 * samples.itemsize, sample_format=sample_format)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (tiff_of("<i1", 2), NO_RANGE),
        (tiff_of("<i2", 2), NO_RANGE),
        (tiff_of("<u4", 1), NO_RANGE),
        (tiff_of("<f4", 3), NO_RANGE),
        (tiff(bytes(40), 4, 4, bits=10), OTHER_TIFF),
        (tiff(bytes(40), 4, 4, bits=10)[:20], OTHER_TIFF),
        (tiff(bytes(40), 4, 4, bits=8, photometric=99), OTHER_TIFF),
        (tiff(bytes(96), 4, 4, bits=16, photometric=2, num_samples=3, planar=2), OTHER_TIFF),
        (tiff(bytes(128), 4, 4, bits=16, photometric=2, num_samples=4, extra_samples=1), OTHER_TIFF),
    ],
)
def test_samples_that_are_not_read_are_named(content: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^cannot read x\.tif: {re.escape(reason)}$"):
        read_image(content, name="x.tif")


def pgm(samples: np.ndarray, highest: int) -> bytes:
    height, width = samples.shape
    return f"P5\n{width} {height}\n{highest}\n".encode() + samples.astype(">u2").tobytes()


@pytest.mark.parametrize(("bits", "declared"), [(10, 10), (12, 12), (14, 14), (16, None)])
def test_a_pgm_of_more_than_8_bits_is_the_same_picture_as_a_png(bits: int, declared: int | None) -> None:
    samples = np.array([[0, 1, 2 ** (bits - 1), 2**bits - 1]], np.uint16)
    content = pgm(samples, 2**bits - 1)
    assert read_header(content, name="x").is_wide
    assert open_image(content).levels == Levels(16, 2**bits - 1, pytest.approx(samples.mean()), declared)
    assert open_image(content).facts().pixels_sha256 == open_image(png_16(samples)).facts().pixels_sha256
    assert read_image(content)[0, :, 0].tolist() == [0, 0, 128, 255]
    with pytest.raises(ValueError, match=r"cannot read x\.pgm: truncated image"):
        read_image(content[:-1], name="x.pgm")


def test_the_highest_level_that_a_pgm_names_is_white() -> None:
    assert read_image(pgm(np.array([[0, 500, 1000]]), 1000))[0, :, 0].tolist() == [0, 128, 255]
    assert read_image(b"P2\n3 1\n1023\n0 512 1023\n")[0, :, 0].tolist() == [0, 128, 255]


def test_the_spread_is_that_of_the_set() -> None:
    samples = np.zeros((64, 64), np.uint16)
    samples[:, 32:] = 160  # of 4095: 10 of 255
    facts = open_image(png_16(samples)).facts()
    assert facts.spread_at(12) == pytest.approx(80 * 16 / 257)
    assert open_image(png_16(samples)).facts().spread_at(16) == pytest.approx(80 / 257)

"""Decoding pictures of every mode, and fitting them."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from pictures import encoded, png_16
from PIL import Image

from ndpnet.data.fitting import fit_image
from ndpnet.data.images import open_image, read_header, read_image
from ndpnet.data.png import encode_png


def test_16_bits_are_scaled_by_257() -> None:
    # 128/257 = 0.498 -> 0, 129/257 = 0.502 -> 1, 32768/257 = 127.5019 -> 128, 65406/257 = 254.498 -> 254
    image = read_image(png_16(np.array([[0, 128, 129], [32768, 65406, 65535]])))
    assert image.dtype == np.uint8
    assert image.tolist() == [[[level] * 3 for level in row] for row in ([0, 0, 1], [128, 254, 255])]
    assert read_image(png_16(np.array([[[0x1234, 0xABCD, 0xFFFF]]]))).tolist() == [[[0x12, 0xAB, 0xFF]]]
    levels = Image.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16))
    assert read_image(encoded(levels, "TIFF"))[0, :, 0].tolist() == [0, 1, 255]


def test_palette_with_transparency_gives_its_colours(recwarn: pytest.WarningsRecorder) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    content = encoded(image, "PNG", transparency=bytes([0, 128]))
    assert read_image(content).tolist() == [[[10, 20, 30], [200, 100, 50]]]
    assert not recwarn.list


def test_alpha_is_dropped_not_blended() -> None:
    colour = Image.fromarray(np.array([[[9, 8, 7, 0], [1, 2, 3, 255]]], dtype=np.uint8))
    assert read_image(encoded(colour, "PNG")).tolist() == [[[9, 8, 7], [1, 2, 3]]]
    assert read_image(encoded(Image.new("LA", (1, 1), (77, 0)), "PNG")).tolist() == [[[77, 77, 77]]]


def test_cmyk_jpeg_and_bilevel() -> None:
    # C = M = 0, Y = K = 0 is white; full K is black
    white, black = Image.new("CMYK", (16, 16), (0, 0, 0, 0)), Image.new("CMYK", (16, 16), (0, 0, 0, 255))
    assert read_image(encoded(white, "JPEG")).min() >= 253
    assert read_image(encoded(black, "JPEG")).max() <= 2
    assert read_image(encoded(Image.new("1", (1, 1), 1), "PNG")).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("compression", [None, "tiff_deflate"])
def test_a_tiff_of_several_pages_is_refused_and_one_with_a_thumbnail_read(compression: str | None) -> None:
    pages = [Image.new("L", (100, 70), level) for level in (10, 20, 30)]
    stack = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:], compression=compression)
    with pytest.raises(ValueError, match=r"^cannot read x\.tif: it has 3 pages \(save each as a picture\)$"):
        read_image(stack, name="x.tif")
    small = [page.resize((50, 35)) for page in pages[1:]]
    pyramid = encoded(pages[0], "TIFF", save_all=True, append_images=small, compression=compression)
    assert read_image(pyramid).shape == (70, 100, 3)
    assert (read_image(pyramid) == 10).all()


def test_more_than_400_megapixels_is_refused_before_decoding() -> None:
    header = struct.pack(">IIBBBBB", 20_000, 20_001, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    with pytest.raises(ValueError, match="more than 400 megapixels"), pytest.warns(Image.DecompressionBombWarning):
        read_image(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 4) + b"IDAT" + bytes(8), name="huge.png")


@pytest.mark.parametrize(("name", "white"), [("x.jpg", 255), ("x.png", 255), ("x.tiff", 255), ("x.tiff", 65535)])
def test_a_turned_file_is_read_upright(tmp_path: Path, name: str, white: int) -> None:
    exif = Image.Exif()
    exif[274] = 6
    pixels = np.zeros((70, 104), dtype=np.min_scalar_type(white))
    pixels[:, 48:] = white
    Image.fromarray(pixels).save(tmp_path / name, exif=exif)
    header, image = read_header(tmp_path / name, name="x"), read_image(tmp_path / name)
    assert (header.width, header.height) == image.shape[1::-1] == (70, 104)
    assert image[:48].max() == 0
    assert image[48:].min() == 255


def turned_png(note: str, *, is_behind: bool) -> bytes:
    """A PNG that is turned by EXIF in a chunk of its own, as a raw profile or as XMP, before the pixels or behind."""
    exif = Image.Exif()
    exif[274] = 6
    profile = f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n".encode()
    chunk = {
        "eXIf": (b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
        "raw profile": (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
        "XMP": (b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="6"/>'),
    }[note]
    pixels = np.zeros((70, 100), dtype=np.uint8)
    content = encode_png(pixels, [(b"tEXt", b"Software\0x"), chunk])
    note_bytes = content[content.index(chunk[0]) - 4 : content.index(b"IDAT") - 4]
    return content if not is_behind else content.replace(note_bytes, b"")[:-12] + note_bytes + content[-12:]


@pytest.mark.parametrize("is_behind", [False, True])
@pytest.mark.parametrize("note", ["eXIf", "raw profile", "XMP"])
def test_the_header_of_a_png_tells_what_decoding_it_does(note: str, is_behind: bool) -> None:
    content = turned_png(note, is_behind=is_behind)
    header = read_header(content, name="x")
    assert (header.width, header.height) == read_image(content).shape[1::-1] == (70, 100)


def test_equal_pixels_have_equal_hashes_whatever_the_file() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 70), dtype=np.uint8)
    wide = noise.astype(np.uint16) * 257
    grey = Image.fromarray(noise)
    hashes = {
        open_image(encoded(image, kind)).facts().pixels_sha256
        for image, kind in ((grey, "PNG"), (grey, "BMP"), (grey, "TIFF"), (grey.convert("RGB"), "PNG"))
    }
    hashes |= {open_image(png_16(each)).facts().pixels_sha256 for each in (wide, np.dstack([wide] * 3))}
    assert len(hashes) == 1
    others = [
        grey.transpose(Image.Transpose.ROTATE_90),
        Image.fromarray(noise ^ 1),
        Image.fromarray(noise.reshape(70, 64)),
    ]
    others.append(Image.fromarray(np.stack([noise, noise, noise ^ 1], axis=2)))
    others += [Image.fromarray(noise.astype(np.uint16)), Image.fromarray(noise.astype(np.uint16) * 256)]
    for image in others:
        hashes.add(open_image(encoded(image, "PNG")).facts().pixels_sha256)
    assert len(hashes) == 1 + len(others)


def test_a_picture_is_fitted_as_its_pixels_are() -> None:
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (150, 210, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    wide = Image.fromarray(np.random.default_rng(1).integers(0, 4096, (150, 210), dtype=np.uint16))
    pictures = {
        "colour": encoded(colours, "PNG"),
        "grey": encoded(colours.convert("L"), "PNG"),
        "grey, one level transparent": encoded(colours.convert("L"), "PNG", transparency=7),
        "palette": encoded(colours.convert("P"), "PNG", transparency=3),
        "with alpha": encoded(colours.convert("RGBA"), "PNG"),
        "CMYK": encoded(colours.convert("CMYK"), "JPEG"),
        "turned": encoded(colours, "JPEG", exif=exif),
        "16 bits": encoded(wide, "PNG"),
    }
    for name, content in pictures.items():
        opened = open_image(content, name=name)
        for size in ((64, 96), opened.shape):
            expected = fit_image(opened.rgb(12), size)
            np.testing.assert_array_equal(opened.fitted(size, 12), expected, err_msg=f"{name} {size}")
    with pytest.raises(ValueError, match=r"tiny has 210x40 pixels, a side below 64"):
        open_image(encoded(colours.crop((0, 0, 210, 40)), "PNG"), name="tiny").fitted((64, 64), None)

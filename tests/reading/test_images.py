"""Every kind of picture is opened, or refused by one clear line."""

import io
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import digitwise as dw
from digitwise.reading.images import open_pictures

Digits = tuple[np.ndarray, np.ndarray]


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def page(digits: Digits) -> Image.Image:
    """Three digits, dark on light."""
    row = np.hstack([np.pad(digit, 8) for digit in digits[0][:3]])
    return Image.fromarray(255 - row).resize((396, 132))


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "L", {}),
        ("PNG", "RGB", {}),
        ("PNG", "P", {}),
        ("PNG", "1", {}),
        ("JPEG", "CMYK", {"quality": 95}),
        ("JPEG", "RGB", {"quality": 95}),
        ("WEBP", "RGB", {"lossless": True}),
        ("TIFF", "L", {}),
        ("BMP", "RGB", {}),
        ("GIF", "P", {}),
    ],
)
def test_every_kind_and_mode_gives_the_same_picture(
    page: Image.Image, kind: str, mode: str, options: dict
) -> None:
    (picture,) = open_pictures(_saved(page.convert(mode), kind, **options))
    assert picture.pixels.shape == (132, 396, 3)
    difference = np.abs(picture.pixels.astype(int) - np.asarray(page.convert("RGB")))
    assert difference.mean() < (40 if mode == "1" else 4)


def test_sixteen_bits_alpha_and_arrays_give_the_same_picture(page: Image.Image) -> None:
    grey = np.asarray(page)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    clear = Image.new("RGBA", page.size)
    clear.putalpha(Image.fromarray(255 - grey))
    for source in (
        _saved(deep, "PNG"),
        _saved(clear, "PNG"),
        grey,
        grey[..., np.newaxis],
        grey / np.float32(255),
        grey.astype(np.uint16) * 257,
        page,
    ):
        (picture,) = open_pictures(source)
        assert np.abs(picture.pixels[..., 0].astype(int) - grey).max() <= 1


def test_exif_orientation_turns_the_picture_upright(page: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = page.transpose(Image.Transpose.ROTATE_90)
    (picture,) = open_pictures(_saved(turned.convert("RGB"), "JPEG", quality=95, exif=exif))
    assert (picture.width, picture.height) == page.size
    assert np.abs(picture.pixels[..., 0].astype(int) - np.asarray(page)).mean() < 4


def test_pages_of_a_tiff_and_the_first_frame_of_a_gif_are_read(page: Image.Image) -> None:
    pages = [page, page.convert("L").point(lambda value: 255 - value)]
    tiff = _saved(page, "TIFF", save_all=True, append_images=pages[1:])
    assert [picture.page for picture in open_pictures(tiff)] == [1, 2]
    gif = _saved(page.convert("P"), "GIF", save_all=True, append_images=[pages[1].convert("P")])
    (picture,) = open_pictures(gif)
    assert picture.notice == "the first of 2 frames was read"


def test_a_large_picture_is_brought_to_working_size(page: Image.Image) -> None:
    (picture,) = open_pictures(_saved(page.resize((3960, 1320)), "JPEG"))
    assert max(picture.pixels.shape) <= 1800
    assert (picture.width, picture.height) == (3960, 1320)


def _png_header(width: int, height: int) -> bytes:
    """Writes a PNG that claims a size and holds next to nothing."""
    written = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for name, content in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 9))):
        chunk = name + content
        written += struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return written


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"hello", "not an image"),
        (_png_header(20000, 20000), "too large"),
        (_png_header(60000, 60000), "too large"),
        (_png_header(28, 28), "cut short or damaged"),
    ],
    ids=["empty", "text", "20000x20000", "bomb", "header-alone"],
)
def test_what_is_no_picture_is_refused(content: bytes, words: str) -> None:
    Path("bad.png").write_bytes(content)
    with pytest.raises(dw.DigitwiseError, match=words) as caught:
        list(open_pictures("bad.png"))
    assert str(caught.value).startswith("bad.png: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_truncated_one_are_refused(page: Image.Image) -> None:
    with pytest.raises(dw.DigitwiseError, match=r"nowhere\.png: no such file"):
        list(open_pictures("nowhere.png"))
    whole = _saved(page, "PNG")
    with pytest.raises(dw.DigitwiseError, match="cut short or damaged"):
        list(open_pictures(whole[: len(whole) // 2]))


@given(data=st.data(), kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_files_mutated_by_hypothesis_are_opened_or_refused(
    page: Image.Image, data: st.DataObject, kind: str
) -> None:
    content = bytearray(_saved(page.convert("RGB"), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    _open_or_refuse(bytes(content[: data.draw(st.integers(1, len(content)))]))


def _open_or_refuse(content: bytes) -> np.ndarray | None:
    """Opens a picture's first page; a refusal is one line."""
    try:
        return next(open_pictures(content)).pixels
    except dw.DigitwiseError as error:
        assert "\n" not in str(error)
        return None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "PDF"])
def test_mutated_files_are_read_or_refused(page: Image.Image, kind: str) -> None:
    """2,000 in all; most that open are no more than decoded, some are read to the end."""
    reader, random = dw.Reader(), np.random.default_rng(0)
    whole = _saved(page.convert("RGB"), kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    opened = []
    for _ in range(250):
        content = bytearray(whole)
        places = random.integers(0, min(len(content), random.choice([64, len(content)])), 4)
        for place in places[: random.integers(1, 5)]:
            content[place] = random.integers(0, 256)
        if random.random() < 0.2:
            del content[random.integers(1, len(content)) :]
        pixels = _open_or_refuse(bytes(content))
        if pixels is not None and pixels.size < 1_000_000:
            opened.append(pixels)
    for pixels in opened[:: max(1, len(opened) // 8)]:
        reader.read(pixels)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 800 * 1024  # KiB


def test_pages_of_a_pdf_are_read(page: Image.Image) -> None:
    pytest.importorskip("pypdfium2")
    content = _saved(page.convert("RGB"), "PDF", save_all=True, append_images=[page.convert("RGB")])
    first, second = open_pictures(content)
    assert (first.page, second.page) == (1, 2)
    assert first.pixels.shape == second.pixels.shape
    assert abs(first.width / first.height - page.width / page.height) < 0.02


def test_heic_is_read_with_its_plug_in(page: Image.Image) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    (picture,) = open_pictures(_saved(page.convert("RGB"), "HEIF", quality=95))
    assert np.abs(picture.pixels[..., 0].astype(int) - np.asarray(page)).mean() < 6

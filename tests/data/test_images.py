"""Every kind of picture is opened, or refused by one clear line."""

import io
import resource
import struct
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import digitwise as dw
from digitwise.data.images import DamagedPage, Picture, open_pictures

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


DEPTHS = {
    "uint16": lambda gray: gray.astype(np.uint16) * 257,
    "12 bits in uint16": lambda gray: gray.astype(np.uint16) * 16,
    "8 bits in uint16": lambda gray: gray.astype(np.uint16),
    "8 bits in int32": lambda gray: gray.astype(np.int32),
    "16 bits in int32": lambda gray: gray.astype(np.int32) * 257,
    "float to 1": lambda gray: (gray / 255).astype(np.float32),
    "float to 1, overshot": lambda gray: (gray / 255 * 1.04 - 0.02).astype(np.float32),
    "float to 255": lambda gray: gray.astype(np.float32),
}


@pytest.mark.parametrize("depth", DEPTHS)
def test_values_of_every_depth_give_the_same_picture_as_array_and_as_file(
    page: Image.Image, depth: str
) -> None:
    values = DEPTHS[depth](np.asarray(page))
    kind = "PNG" if values.dtype == np.uint16 else "TIFF"
    for source in (values, _saved(Image.fromarray(values), kind)):
        (picture,) = open_pictures(source)
        assert np.abs(picture.pixels[..., 0].astype(int) - np.asarray(page)).max() <= 8


def test_masks_of_ones_are_black_and_white() -> None:
    mask = np.eye(20, dtype=int)
    for source in (mask, mask > 0):
        (picture,) = open_pictures(source)
        assert (picture.pixels[..., 1] == mask * 255).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.full((9, 9), np.nan), "NaN or infinite"),
        (np.full((9, 9), -3), "negative"),
        (np.full((9, 9), "a"), "must be numbers"),
    ],
)
def test_values_that_are_not_pixels_are_refused(values: np.ndarray, words: str) -> None:
    with pytest.raises(dw.DigitwiseError, match=words):
        list(open_pictures(values))


def test_a_lab_tiff_is_read(page: Image.Image) -> None:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(page.convert("RGB"), *profiles, outputMode="LAB")
    assert lab is not None
    (picture,) = open_pictures(_saved(lab, "TIFF"))
    assert np.abs(picture.pixels[..., 0].astype(int) - np.asarray(page)).mean() < 4


def _on_transparency(page: Image.Image, ink: int, mode: str) -> bytes:
    """Draw the page's digits in one shade on transparency."""
    shade = Image.new("L", page.size, ink)
    clear = Image.merge("LA", (shade, Image.fromarray(255 - np.asarray(page))))
    if mode != "P":
        return _saved(clear.convert(mode), "PNG")
    indexed = Image.fromarray((np.asarray(page) < 128).astype(np.uint8)).convert("P")
    indexed.putpalette([0, 0, 0, ink, ink, ink])
    return _saved(indexed, "PNG", transparency=0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
@pytest.mark.parametrize("ink", [0, 255])
def test_ink_on_transparency_gets_the_paper_that_shows_it(
    page: Image.Image, ink: int, mode: str
) -> None:
    (picture,) = open_pictures(_on_transparency(page, ink, mode))
    expected = np.asarray(page) if ink == 0 else 255 - np.asarray(page)
    difference = np.abs(picture.pixels[..., 0].astype(int) - expected)
    assert difference.mean() < (20 if mode == "P" else 1)


@pytest.mark.parametrize("is_bright", [True, False])
def test_a_sticker_with_its_own_paper_gets_more_of_it(page: Image.Image, is_bright: bool) -> None:
    sticker = page if is_bright else page.point(lambda value: 255 - value)
    around = Image.new("RGBA", (500, 240))
    around.paste(sticker.convert("RGBA"), (50, 50))
    (picture,) = open_pictures(_saved(around, "PNG"))
    assert picture.pixels[0, 0, 0] == (255 if is_bright else 0)


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


def test_a_phone_photo_with_a_depth_map_gets_no_notice(page: Image.Image) -> None:
    photo = page.convert("RGB")
    (picture,) = open_pictures(_saved(photo, "MPO", save_all=True, append_images=[photo]))
    assert picture.notice is None


def test_pages_after_a_damaged_page_are_read(page: Image.Image) -> None:
    options = {"save_all": True, "append_images": [page, page], "compression": "tiff_deflate"}
    content = bytearray(_saved(page, "TIFF", **options))
    with Image.open(io.BytesIO(content)) as tiff:
        tiff.seek(1)
        place = tiff.tag_v2[273][0]  # where the second page's pixels begin
    content[place : place + 40] = b"\xff" * 40
    first, second, third = open_pictures(bytes(content))
    assert isinstance(first, Picture)
    assert isinstance(third, Picture)
    assert isinstance(second, DamagedPage)
    assert second.error.startswith("the given bytes, page 2: ")
    assert (third.page, third.pages) == (3, 3)


def test_a_broken_chain_of_pages_is_reported(page: Image.Image) -> None:
    content = bytearray(_saved(page, "TIFF", save_all=True, append_images=[page, page]))
    with Image.open(io.BytesIO(content)) as tiff:
        tiff.seek(1)
        directory = tiff._frame_pos[1]
    count = struct.unpack_from("<H", content, directory)[0]
    struct.pack_into("<I", content, directory + 2 + 12 * count, len(content) - 1)
    *read, last = open_pictures(bytes(content))
    assert [picture.page for picture in read] == [1, 2]
    assert isinstance(last, DamagedPage)


def test_more_than_200_pages_are_read() -> None:
    page = Image.new("1", (40, 40))
    tiff = _saved(page, "TIFF", save_all=True, append_images=[page] * 209)
    assert [picture.page for picture in open_pictures(tiff)] == list(range(1, 211))


def test_decoding_in_threads_leaves_warnings_as_they_were(page: Image.Image) -> None:
    content = _saved(page, "TIFF", save_all=True, append_images=[page])
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: next(open_pictures(content)), range(200)))
    assert list(warnings.filters) == before


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


def test_heic_without_its_plug_in_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(dw.DigitwiseError, match="pip install pillow-heif"):
        list(open_pictures(b"\0\0\0\x18ftypheic" + bytes(100)))

"""Decode pictures for training and reading: upright 8-bit pixels, within limits.

Gray values of files and arrays are scaled by one rule (`to_eight_bits`). A picture with transparent
parts is composited on white or black, whichever makes its ink visible.
"""

import contextlib
import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from digitwise.errors import DigitwiseError, MachineError, machine_error, missing_extra
from digitwise.messages import warnings_ignored

PICTURE_SUFFIXES = frozenset(
    {
        *(".apng", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jpe", ".jpeg", ".jpg"),
        *(".mpo", ".pbm", ".pdf", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    }
)
_FORMATS = ("BMP", "GIF", "HEIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"heif", b"mif1", b"msf1"})
_PDF_SCALE = 150 / 72  # pixels per point
LARGEST_FILE = 100 * 2**20  # bytes
LARGEST_IMAGE = 120_000_000  # pixels
WORKING_SIDE = 1800  # pixels of the longer side that reading works on
_DEPTHS = (255, 1023, 4095, 16383, 65535)  # the largest value of 8, 10, 12, 14 and 16 bits
_OVERSHOOT = 0.1  # of the range: how far resampled floats may exceed it
_SAMPLE_PIXELS = 250_000  # sampled to choose the paper behind a transparent picture
_SOLID = 0.9  # of the largest alpha: not a soft edge
_CARD_COVERS = 0.7  # of its bounding box: an opaque part with its own paper
_CARD_VARIES = 0.02  # of a card's pixels: the smallest share of ink
_DISTINCT_INK = 64  # gray levels between a card and its ink

Source = str | Path | bytes | BinaryIO | Image.Image | Shaped[np.ndarray, "..."]


@dataclass(frozen=True)
class Picture:
    """One decoded page.

    Attributes:
        pixels: (h, w, 3) uint8 RGB, upright by its EXIF orientation, at most `WORKING_SIDE` long.
        page: its number in the file, from 1.
        pages: how many the file has.
        width: of the whole picture, in pixels, after EXIF orientation.
        height: of the whole picture, likewise.
        notice: what a user should know, such as that only the first frame was read.
    """

    pixels: UInt8[np.ndarray, "h w 3"]
    page: int
    pages: int
    width: int
    height: int
    notice: str | None = None

    @property
    def scale(self) -> float:
        """The number of original pixels per working pixel, along each side."""
        return self.width / self.pixels.shape[1]


@dataclass(frozen=True)
class DamagedPage:
    """A page of a file with several pages that cannot be decoded.

    Attributes:
        page: its number in the file, from 1.
        pages: the number of pages in the file.
        error: one line that names the file, the page and the fault.
    """

    page: int
    pages: int
    error: str


def open_picture(source: Source, most_pixels: int = LARGEST_IMAGE) -> Picture:
    """Decode a file's first page.

    Args:
        source: as `open_pictures` takes it.
        most_pixels: the largest page to decode.

    Raises:
        DigitwiseError: the source is not an image, or its first page is damaged or too large.
        MachineError: permission to read the file is missing.
    """
    first = next(open_pictures(source, most_pixels))
    if isinstance(first, DamagedPage):
        raise DigitwiseError(first.error)
    return first


def open_pictures(
    source: Source, most_pixels: int = LARGEST_IMAGE
) -> Iterator[Picture | DamagedPage]:
    """Decode a picture page by page, with one page in memory at a time.

    Args:
        source: a path, the file's bytes, an open file, a Pillow image, or an array (h, w),
            (h, w, 1), (h, w, 3) or (h, w, 4) of the values that `to_eight_bits` takes.
        most_pixels: the largest page to decode.

    Yields:
        Every page of a TIFF or PDF, or the first frame of an animation. A damaged page among
        several is yielded as a `DamagedPage`, followed by the pages after it.

    Raises:
        DigitwiseError: the source is not an image, or is truncated, empty or too large.
        MachineError: permission to read the file is missing.
    """
    if isinstance(source, Image.Image):
        yield _prepare(source, most_pixels)
        return
    if isinstance(source, np.ndarray):
        yield _prepare(_from_array(source), most_pixels)
        return
    name, content = _read(source)
    if content[:5] == b"%PDF-":
        yield from _pdf_pages(name, content, most_pixels)
        return
    with _open(name, content) as image:
        if image.format == "TIFF":
            yield from _tiff_pages(name, image, most_pixels)
        else:
            with _decoding(name):
                picture = _first_frame(image, most_pixels)
            yield picture


def _read(source: str | Path | bytes | BinaryIO) -> tuple[str, bytes]:
    """Return a source's name and bytes, within the size limit."""
    if isinstance(source, bytes | bytearray):
        name, content = "the given bytes", bytes(source)
    elif isinstance(source, str | Path):
        name = str(source)
        try:
            size = Path(source).stat().st_size
            if size > LARGEST_FILE:
                raise DigitwiseError(f"{name}: too large: over {LARGEST_FILE:,} bytes")
            content = Path(source).read_bytes()
        except FileNotFoundError as error:
            raise DigitwiseError(f"{name}: no such file") from error
        except PermissionError as error:
            raise machine_error(f"read {name}", error) from error
        except IsADirectoryError as error:
            raise DigitwiseError(f"{name}: is a folder: name a picture in it") from error
        except (OSError, ValueError) as error:
            raise DigitwiseError(f"{name}: cannot be read ({error})") from error
    elif not hasattr(source, "read"):
        raise DigitwiseError(
            f"a picture must be a path, bytes, an open file, a Pillow image or a NumPy array, not "
            f"{type(source).__name__}"
        )
    else:
        name = str(getattr(source, "name", "the given file"))
        content = source.read(LARGEST_FILE + 1)
    if not content:
        raise DigitwiseError(f"{name}: the file is empty")
    if len(content) > LARGEST_FILE:
        raise DigitwiseError(f"{name}: too large: over {LARGEST_FILE:,} bytes")
    return name, content


def _known_formats() -> list[str]:
    """List the formats to read, without those that run a program, such as EPS."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


@contextlib.contextmanager
def _decoding(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises into one line that begins with the file's name.

    Pillow's warnings about odd metadata are ignored. Never yield inside this context.
    """
    try:
        with warnings_ignored():
            yield
    except MachineError:
        raise
    except UnidentifiedImageError as error:
        raise DigitwiseError(f"{name}: not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise DigitwiseError(f"{name}: too large: too many pixels") from error
    except DigitwiseError as error:
        raise DigitwiseError(f"{name}: {error}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        reason = " ".join(str(error).split())
        raise DigitwiseError(f"{name}: the image is cut short or damaged ({reason})") from error


def _open(name: str, content: bytes) -> Image.Image:
    """Open an image file without decoding its pixels."""
    with _decoding(name):
        if content[4:8] == b"ftyp" and content[8:12] in _HEIF_BRANDS:
            _register_heif()
        return Image.open(io.BytesIO(content), formats=_known_formats())


def _first_frame(image: Image.Image, most_pixels: int) -> Picture:
    """Decode an image, or an animation's first frame.

    The other frames of a phone's MPO file are depth maps and previews of the same photograph.
    """
    frames = int(getattr(image, "n_frames", 1))
    is_animation = frames > 1 and image.format != "MPO"
    notice = f"the first of {frames} frames was read" if is_animation else None
    return _prepare(image, most_pixels, notice=notice)


def _tiff_pages(name: str, image: Image.Image, most_pixels: int) -> Iterator[Picture | DamagedPage]:
    """Decode a TIFF page by page."""
    count: int | None = None
    with contextlib.suppress(Exception), warnings_ignored():
        count = int(getattr(image, "n_frames", 1))
    for page in itertools.count(1):
        if count is not None and page > count:
            return
        alone = (count or page) == 1
        found: Picture | DamagedPage
        try:
            with _decoding(name if alone else f"{name}, page {page}"):
                image.seek(page - 1)
                found = _prepare(image, most_pixels, page, count or page)
        except MachineError:
            raise
        except DigitwiseError as error:
            if alone:
                raise
            found = DamagedPage(page, count or page, str(error))
        yield found
        if count is None and isinstance(found, DamagedPage):
            return  # the pages are a chain, which is broken here


def _prepare(
    image: Image.Image,
    most_pixels: int,
    page: int = 1,
    pages: int = 1,
    notice: str | None = None,
) -> Picture:
    """Decode a page, rotate it upright, remove transparency, and shrink it to the working size."""
    width, height = image.size
    if width * height > most_pixels:
        raise DigitwiseError(f"too large: {width:,}×{height:,} pixels")
    if width < 1 or height < 1:
        raise DigitwiseError("the image has no pixels")
    if image.format == "JPEG" and max(image.size) > WORKING_SIDE:
        shrink = WORKING_SIDE / max(image.size)
        image.draft("RGB", (int(width * shrink), int(height * shrink)))
    upright = ImageOps.exif_transpose(image)
    if (upright.width > upright.height) != (image.width > image.height):
        width, height = height, width
    eight_bits = _without_alpha(upright)
    if max(eight_bits.size) > WORKING_SIDE:
        eight_bits.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX, reducing_gap=None)
    pixels = np.asarray(eight_bits)
    if pixels.ndim == 2:
        pixels = np.broadcast_to(pixels[..., np.newaxis], (*pixels.shape, 3))
    return Picture(pixels, page, pages, width, height, notice)


def _without_alpha(image: Image.Image) -> Image.Image:
    """Convert any mode to 8-bit gray or RGB."""
    if image.mode == "L" and "transparency" not in image.info:
        return image.copy()
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(to_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, _paper_behind(np.asarray(rgba)))
        return Image.alpha_composite(paper, rgba).convert("RGB")
    return image.convert("RGB")


def _paper_behind(rgba: UInt8[np.ndarray, "h w 4"]) -> str:
    """Choose the paper behind a picture with transparent parts: the one that shows its ink.

    Dark ink gets white paper, bright ink black paper. An opaque area that fills its bounding box
    and has ink of its own, such as a sticker, gets more of its own paper around it.
    """
    step = max(1, round(math.sqrt(rgba.shape[0] * rgba.shape[1] / _SAMPLE_PIXELS)))
    sample = rgba[::step, ::step]
    alpha = sample[..., 3]
    inked = alpha > alpha.max() // 2
    if not inked.any():
        return "white"
    light = sample[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
    usual = float(np.median(light[inked]))
    rows, columns = np.flatnonzero(inked.any(axis=1)), np.flatnonzero(inked.any(axis=0))
    covers = inked[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].mean()
    solid = light[alpha >= _SOLID * alpha.max()]
    varies = (np.abs(solid - usual) > _DISTINCT_INK).mean()
    is_card = covers > _CARD_COVERS and varies > _CARD_VARIES
    return "white" if (usual > 127) == bool(is_card) else "black"


def to_eight_bits(values: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Scale gray or color values of any type to 8 bits, by one rule for arrays and files.

    | values | are taken as |
    | --- | --- |
    | uint8 | 0–255, as they are |
    | bool, or wider integers that are only 0 and 1 | black and white |
    | wider integers | the smallest of 8, 10, 12, 14 and 16 bits that holds the largest value |
    | integers above 65,535 | 0 to the largest value |
    | floats up to 1 | 0–1 |
    | floats above 1 | as integers of the same size |

    Floats may exceed their range by 10% on either side, as after resampling; they are clipped.

    Args:
        values: of any shape, not empty.

    Returns:
        Values of the same shape, 0–255.

    Raises:
        DigitwiseError: a value is negative, NaN or infinite, or the type is not a number.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind not in "buif":
        raise DigitwiseError(f"pixels must be numbers, not {values.dtype}")
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise DigitwiseError("a pixel is NaN or infinite: replace it by a number")
    slack = _OVERSHOOT if values.dtype.kind == "f" else 0.0
    ranges = (1, *_DEPTHS) if slack or high <= 1 else _DEPTHS
    top = next((float(limit) for limit in ranges if high <= limit * (1 + slack)), high)
    if low < -slack * top:
        raise DigitwiseError(f"a pixel is negative ({low:g}): scale pixels to 0–255 or 0–1")
    scaled = np.multiply(values, np.float32(255 / top), dtype=np.float32)
    return np.asarray(np.clip(np.rint(scaled, out=scaled), 0, 255, out=scaled), np.uint8)


def _from_array(array: Shaped[np.ndarray, "..."]) -> Image.Image:
    """Convert an array to a Pillow image."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise DigitwiseError(
            f"an array of shape {array.shape} is not a picture: give (h, w), (h, w, 3) or (h, w, 4)"
        )
    if not array.size:
        raise DigitwiseError("the array has no pixels")
    return Image.fromarray(to_eight_bits(array))


def _register_heif() -> None:
    """Register Pillow's HEIC plug-in, if it is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise DigitwiseError("HEIC support is not installed: pip install pillow-heif") from error
    register_heif_opener()


def _pdf_pages(name: str, content: bytes, most_pixels: int) -> Iterator[Picture | DamagedPage]:
    """Render each page of a PDF at 150 dots per inch."""
    try:
        import pypdfium2
    except ImportError as error:
        raise DigitwiseError(f"{name}: {missing_extra('a PDF', 'pdf')}") from error
    try:
        document = pypdfium2.PdfDocument(content)
    except pypdfium2.PdfiumError as error:
        raise DigitwiseError(
            f"{name}: the PDF cannot be read ({str(error).rstrip('.')})"
        ) from error
    try:
        count = len(document)
        if not count:
            raise DigitwiseError(f"{name}: the PDF has no pages")
        for number in range(1, count + 1):
            found: Picture | DamagedPage
            try:
                with _decoding(name if count == 1 else f"{name}, page {number}"):
                    found = _draw_pdf_page(document[number - 1], most_pixels, number, count)
            except DigitwiseError as error:
                if count == 1:
                    raise
                found = DamagedPage(number, count, str(error))
            yield found
    finally:
        document.close()


def _draw_pdf_page(page: Any, most_pixels: int, number: int, count: int) -> Picture:
    """Render one page of a PDF."""
    try:
        width, height = page.get_size()
        if width * height * _PDF_SCALE**2 > most_pixels:
            raise DigitwiseError(f"too large: {width:,.0f}×{height:,.0f} points")
        return _prepare(page.render(scale=_PDF_SCALE).to_pil(), most_pixels, number, count)
    finally:
        page.close()

"""Any image file → upright RGB pixels, with limits on bytes and pixels before decoding."""

import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from digitwise.errors import DigitwiseError, machine_error, missing_extra

PICTURE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".pdf", ".png", ".tif", ".tiff", ".webp"}
)
_FORMATS = ("BMP", "GIF", "HEIF", "JPEG", "MPO", "PNG", "PPM", "TIFF", "WEBP")
_PDF_SCALE = 150 / 72  # pixels a point
LARGEST_FILE = 100 * 2**20  # bytes
LARGEST_IMAGE = 120_000_000  # pixels
WORKING_SIDE = 1800  # pixels of the longer side that reading works on
MOST_PAGES = 200

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
        """How many of the whole picture's pixels one working pixel stands for."""
        return self.width / self.pixels.shape[1]


def open_pictures(source: Source, most_pixels: int = LARGEST_IMAGE) -> Iterator[Picture]:
    """Decodes a picture, page by page.

    Args:
        source: a path, the file's bytes, an open file, a Pillow image, or an array (h, w),
            (h, w, 1), (h, w, 3) or (h, w, 4): uint8, 16-bit, bool, or float in [0, 1].
        most_pixels: of a page; what has more is refused before it is decoded.

    Yields:
        One picture; of a TIFF or PDF one a page, of what moves the first frame.

    Raises:
        DigitwiseError: it is no image, is cut short, empty or too large.
        MachineError: the file may not be read.
    """
    if isinstance(source, Image.Image):
        yield _prepare(source, most_pixels)
        return
    if isinstance(source, np.ndarray):
        yield _prepare(Image.fromarray(_to_bytes(source)), most_pixels)
        return
    name, content = _read(source)
    if content[:5] == b"%PDF-":
        yield from _pdf_pages(name, content, most_pixels)
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of odd metadata; the pixels decide
            _register_heif(content)
            with Image.open(io.BytesIO(content), formats=_known_formats()) as image:
                yield from _pages(image, most_pixels)
    except UnidentifiedImageError as error:
        raise DigitwiseError(f"{name}: not an image that can be read") from error
    except Image.DecompressionBombError as error:
        raise DigitwiseError(f"{name}: too large: more pixels than are read") from error
    except DigitwiseError as error:
        raise DigitwiseError(f"{name}: {error}") from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise DigitwiseError(f"{name}: the image is cut short or damaged ({error})") from error


def _read(source: str | Path | bytes | BinaryIO) -> tuple[str, bytes]:
    """Takes a file's name and bytes, within the limit."""
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
            f"a picture is a path, bytes, an open file, a Pillow image or a NumPy array, not "
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
    """Lists the formats that are read: none that runs a program, as EPS does."""
    Image.init()
    return [name for name in _FORMATS if name in Image.OPEN]


def _pages(image: Image.Image, most_pixels: int) -> Iterator[Picture]:
    """Goes through a file's pages: all of a TIFF, the first frame of what moves."""
    frames = int(getattr(image, "n_frames", 1))
    if image.format == "TIFF":
        for page in range(min(frames, MOST_PAGES)):
            image.seek(page)
            yield _prepare(image, most_pixels, page + 1, frames)
        return
    notice = f"the first of {frames} frames was read" if frames > 1 else None
    yield _prepare(image, most_pixels, notice=notice)


def _prepare(
    image: Image.Image,
    most_pixels: int,
    page: int = 1,
    pages: int = 1,
    notice: str | None = None,
) -> Picture:
    """Decodes, turns upright, lays on white paper, brings to working size."""
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
    eight_bits = _to_eight_bits(upright)
    if max(eight_bits.size) > WORKING_SIDE:
        eight_bits.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX, reducing_gap=None)
    pixels = np.asarray(eight_bits)
    if pixels.ndim == 2:
        pixels = np.broadcast_to(pixels[..., np.newaxis], (*pixels.shape, 3))
    return Picture(pixels, page, pages, width, height, notice)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Brings any mode to 8-bit grey or RGB, what is transparent on white."""
    if image.mode == "L" and "transparency" not in image.info:
        return image.copy()
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float32)
        top = 65535 if image.mode.startswith("I") else float(np.nanmax(values, initial=1.0))
        if values.max(initial=0) <= 255:
            top = 255
        scaled = np.clip(np.nan_to_num(values) * (255 / max(top, 1e-6)), 0, 255)
        return Image.fromarray(scaled.astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        paper = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(paper, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _to_bytes(array: Shaped[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Brings an array of any depth to uint8."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise DigitwiseError(
            f"an array of shape {array.shape} is no picture: give (h, w), (h, w, 3) or (h, w, 4)"
        )
    if not array.size:
        raise DigitwiseError("the array has no pixels")
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == bool:
        return array.astype(np.uint8) * 255
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise DigitwiseError("a float picture has values in [0, 1]: scale it, or give uint8")
        return (array * 255).round().astype(np.uint8)
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if array.dtype.kind in "iu" and array.min() >= 0 and array.max() <= 255:
        return array.astype(np.uint8)
    raise DigitwiseError(f"a picture is uint8, uint16, bool or float in [0, 1], not {array.dtype}")


def _register_heif(content: bytes) -> None:
    """Lets Pillow read HEIC where its plug-in is installed, and says so where it is not."""
    if content[4:8] != b"ftyp" or content[8:12] not in (b"heic", b"heix", b"mif1", b"heif"):
        return
    try:
        from pillow_heif import register_heif_opener
    except ImportError as error:
        raise DigitwiseError("HEIC needs the plug-in: pip install pillow-heif") from error
    register_heif_opener()


def _pdf_pages(name: str, content: bytes, most_pixels: int) -> Iterator[Picture]:
    """Draws each page of a PDF at 150 dots an inch."""
    try:
        import pypdfium2
    except ImportError as error:
        raise DigitwiseError(f"{name}: {missing_extra('a PDF', 'pdf')}") from error
    try:
        document = pypdfium2.PdfDocument(content)
        try:
            for number in range(min(len(document), MOST_PAGES)):
                width, height = document[number].get_size()
                if width * height * _PDF_SCALE**2 > most_pixels:
                    raise DigitwiseError(f"{name}: too large: page {number + 1}")
                drawn = document[number].render(scale=_PDF_SCALE).to_pil()
                yield _prepare(drawn, most_pixels, number + 1, len(document))
        finally:
            document.close()
    except pypdfium2.PdfiumError as error:
        raise DigitwiseError(
            f"{name}: the PDF cannot be read ({str(error).rstrip('.')})"
        ) from error

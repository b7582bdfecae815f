"""Reader.read(image) → Reading(lines → digits → digit, confidence, box)."""

import copy
import itertools
import math
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from digitwise.bundle import Bundle, Classification, as_digit, open_classifier
from digitwise.data.images import (
    LARGEST_IMAGE,
    DamagedPage,
    Picture,
    Source,
    open_picture,
    open_pictures,
)
from digitwise.data.normalization import normalize_images
from digitwise.errors import DigitwiseError
from digitwise.messages import printable
from digitwise.reading.glyphs import Glyph, find_glyphs
from digitwise.reading.orientation import uprightness
from digitwise.reading.recognizer import Recognizer, check_crops
from digitwise.reading.segmentation import (
    Ink,
    Piece,
    Skipped,
    clear_border,
    find_ink,
    find_pieces,
    remove_frames,
    remove_rules,
    rotation,
    turn,
)
from digitwise.storage import image_mark, open_whole, protected

Box = tuple[int, int, int, int]

_COLUMN_GAP = 3  # digit heights between columns
_LEAST_SIZE = 0.8  # of the page's digits: a row that begins with a small one is as high
_ENOUGH = 3  # digits that tell what a page's digits do
_FORMATS = {  # that drawings are saved in
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".pdf": "PDF",
}
_BLANK = "the picture is blank: it has no ink that differs from its paper"
_SLOPE_SAMPLE = 1000  # digits whose neighbors show how the lines slope
_TINY = 1e-3  # pixels, by which a turned box may be off


@dataclass(frozen=True)
class Digit:
    """One character that was read: a digit, or whatever else the bundle's classes are.

    Attributes:
        text: the name of its class.
        label: the index of its class in the bundle's classes.
        confidence: the calibrated probability that it is of this class.
        box: x, y, width, height in the picture's pixels, after EXIF orientation.
        image: (28, 28) uint8, ink bright: what the network saw.
    """

    text: str
    label: int
    confidence: float
    box: Box
    image: UInt8[np.ndarray, "28 28"] = field(repr=False, compare=False)

    @property
    def digit(self) -> int | None:
        """The number 0 to 9; None if the class is not a single digit."""
        return as_digit(self.text)

    def to_dict(self) -> dict[str, Any]:
        """Return what was read as plain data, for JSON."""
        return {
            "text": self.text,
            "digit": self.digit,
            "confidence": round(self.confidence, 4),
            "box": list(self.box),
        }


@dataclass(frozen=True)
class Other:
    """Something that is no digit.

    Attributes:
        kind: "mark" for a point, comma, minus or slash in a line, else "unknown".
        confidence: how sure it is that this is no digit.
        box: as of a digit.
    """

    kind: str
    confidence: float
    box: Box


@dataclass(frozen=True)
class Line:
    """Digits that stand in a row.

    Attributes:
        text: the digits, with a space at wide gaps, and around names longer than one character.
        digits: from left to right.
    """

    text: str
    digits: tuple[Digit, ...]


@dataclass(frozen=True)
class Reading:
    """What was read on one page.

    Attributes:
        width: of the picture, in pixels, after EXIF orientation.
        height: of the picture, likewise.
        page: its number in the file, from 1.
        lines: from top to bottom.
        others: what was found and is no digit.
        path: the file, where there is one.
        notice: what a user should know.
        pixels: (h, w, 3) uint8 RGB, the picture that was read, perhaps smaller than the file's.
        turned: by how many degrees the page was turned against the clock before its digits were
            recognized, so that their lines lay level.
        pages: how many pages the file has.
        error: why the page could not be read, if it is damaged; then it has no lines, and its
            width and height are 0.
    """

    width: int
    height: int
    page: int
    lines: tuple[Line, ...]
    others: tuple[Other, ...]
    path: str | None = None
    notice: str | None = None
    pixels: UInt8[np.ndarray, "h w 3"] | None = field(default=None, repr=False, compare=False)
    turned: float = 0.0
    pages: int = 1
    error: str | None = None

    @property
    def text(self) -> str:
        """All lines, one below the other."""
        return "\n".join(line.text for line in self.lines)

    @property
    def digits(self) -> list[Digit]:
        """All lines' digits, in reading order."""
        return [digit for line in self.lines for digit in line.digits]

    def draw(self) -> Image.Image:
        """Draws boxes and digits over the picture: digits blue, what is none orange, dashed.

        Raises:
            DigitwiseError: the reading was made without its picture.
        """
        if self.pixels is None:
            raise DigitwiseError(self.error or "the reading has no picture to draw on")
        return draw_reading(self.pixels, self)

    def save(self, path: str | Path, *, force: bool = False) -> None:
        """Draw boxes and digits over the picture, into an image file.

        Args:
            path: the image file; its suffix, such as .png or .jpg, decides the format. A file that
                Digitwise wrote is replaced.
            force: whether to replace a file that Digitwise did not write. The picture that was
                read is never replaced.

        Raises:
            DigitwiseError: the suffix is not that of an image format, or the file exists and must
                be kept.
            MachineError: the file cannot be written.
        """
        image_format = _format_of(Path(path))
        drawn = self.draw()
        with protected([self.path]), open_whole(Path(path), force=force) as file:
            drawn.save(file, format=image_format, **image_mark(image_format))

    def show(self) -> None:
        """Draws boxes and digits over the picture and shows it in the system's viewer."""
        self.draw().show()

    def to_dict(self) -> dict[str, Any]:
        """Returns the reading as plain data, for JSON."""
        path = None if self.path is None else printable(self.path)
        if self.error is not None:
            return {"path": path, "page": self.page, "error": self.error}
        document: dict[str, Any] = {
            "path": path,
            "page": self.page,
            "width": self.width,
            "height": self.height,
            "lines": [
                {
                    "text": line.text,
                    "digits": [digit.to_dict() for digit in line.digits],
                }
                for line in self.lines
            ],
            "others": [
                {
                    "kind": other.kind,
                    "confidence": round(other.confidence, 4),
                    "box": list(other.box),
                }
                for other in self.others
            ],
        }
        if self.notice:
            document["notice"] = self.notice
        return document


class Reader:
    """Reads handwritten digits.

    Args:
        bundle: what to read with; left out, the network that ships with the package.

    Raises:
        DigitwiseError: the bundle is none, or is not for 28×28 images.

    Example:
        >>> Reader().read("photo.jpg").text
    """

    def __init__(self, bundle: Bundle | str | Path = "pretrained") -> None:
        self.bundle = open_classifier(bundle)
        self.recognizer = Recognizer(self.bundle)

    def classify(
        self, crops: UInt8[np.ndarray, "n 28 28"], *, normalize: str = "auto"
    ) -> Classification:
        """Recognize crops of one character each.

        Args:
            crops: uint8 in [0, 255], of any polarity.
            normalize: "auto" converts crops that are clearly not in MNIST's form (bright ink on
                black, 20 pixels long, centered by mass) if the bundle was trained on MNIST;
                "always" converts all of them, "never" none: see `normalize_images`.

        Returns:
            The classification; its `normalized` says which crops were converted.

        Raises:
            DigitwiseError: the crops have another shape, dtype or range; the message says how to
                convert them.
        """
        check_crops(crops)
        if normalize == "auto" and not self.bundle.expects_mnist_form:
            normalize = "never"
        normal, normalized = normalize_images(crops, normalize)
        return replace(self.recognizer.classify(normal), normalized=normalized)

    def interruptible(self, check: Callable[[], None]) -> "Reader":
        """Return a copy of this reader that calls `check` regularly while it reads.

        Args:
            check: called before each batch of crops is recognized; its exceptions end the reading.
        """
        reader = copy.copy(self)
        reader.recognizer = copy.copy(self.recognizer)
        reader.recognizer.before_batch = check
        return reader

    def read(
        self, source: Source, *, is_ruled: bool = True, most_pixels: int = LARGEST_IMAGE
    ) -> Reading:
        """Reads a picture's first page; the notice says so where there are more.

        Args:
            source: a path, bytes, an open file, a Pillow image or an array.
            is_ruled: whether long lines may be the paper's and are left out; False where all ink
                was drawn by hand, as in a drawing box.
            most_pixels: what has more is refused before it is decoded.

        Raises:
            DigitwiseError: it is no picture that can be read.
        """
        first = open_picture(source, most_pixels)
        if first.pages > 1:
            notice = f"the first of {first.pages} pages was read; read_pages reads all"
            first = replace(first, notice=notice)
        return self._read_picture(first, source, is_ruled)

    def read_pages(self, source: Source) -> list[Reading]:
        """Return the readings of all pages: a list of what `iter_pages` yields.

        Raises:
            DigitwiseError: the source is not a picture that can be read.
        """
        return list(self.iter_pages(source))

    def iter_pages(self, source: Source) -> Iterator[Reading]:
        """Yield the reading of each page as soon as it is read; one page is in memory at a time.

        A damaged page among several yields a `Reading` with an `error` and no lines, and the pages
        after it are read.

        Args:
            source: a path, bytes, an open file, a Pillow image or an array.

        Raises:
            DigitwiseError: the source is not a picture that can be read.
        """
        for picture in open_pictures(source):
            if isinstance(picture, DamagedPage):
                page, pages, error = picture.page, picture.pages, picture.error
                yield Reading(0, 0, page, (), (), _path_of(source), pages=pages, error=error)
            else:
                yield self._read_picture(picture, source, True)

    def _read_picture(self, picture: Picture, source: Source, is_ruled: bool) -> Reading:
        """Reads one decoded page."""
        ink = page = find_ink(picture.pixels)
        if is_ruled:
            ink = clear_border(remove_rules(remove_frames(page)), page)
        skipped = Skipped()
        pieces = find_pieces(ink, skipped)
        degrees, known = uprightness(self.recognizer, pieces)
        if degrees:
            upright = turn(ink, degrees)
            if degrees % 90 and is_ruled:
                upright = remove_rules(remove_frames(upright))
            pieces, known = find_pieces(upright, skipped), []
        glyphs = find_glyphs(self.recognizer, pieces, known, skipped)
        place = _Placement(picture, ink, degrees)
        _leave_out_what_runs_off(glyphs, place)
        rows = _lines([glyph for glyph in glyphs if glyph.is_digit])
        others = _others(glyphs, rows, place)
        lines = tuple(
            Line(
                _text(row),
                tuple(
                    Digit(g.text, g.label, g.confidence, place.box(g.piece), g.image) for g in row
                ),
            )
            for row in rows
        )
        blank = None if page.mask.any() else _BLANK
        notices = [picture.notice, blank, skipped.notice]
        return Reading(
            picture.width,
            picture.height,
            picture.page,
            lines,
            others,
            _path_of(source),
            "; ".join(notice for notice in notices if notice) or None,
            picture.pixels,
            float(degrees),
            picture.pages,
        )


def _format_of(path: Path) -> str:
    """Return the image format for a file's suffix, in upper or lower case."""
    try:
        return _FORMATS[path.suffix.lower()]
    except KeyError:
        known = ", ".join(_FORMATS)
        raise DigitwiseError(f"{path}: unknown image format: use one of {known}") from None


def _path_of(source: Source) -> str | None:
    """Return a source's path; None if it has none."""
    return str(source) if isinstance(source, str | Path) else None


def _leave_out_what_runs_off(glyphs: list[Glyph], place: "_Placement") -> None:
    """Takes no stroke for a 1 that runs out of the picture where no digit but such strokes does."""
    running: list[Glyph] = []
    others: list[Glyph] = []
    for glyph in glyphs:
        if glyph.is_digit:
            runs = glyph.text == "1" and place.runs_off(glyph.piece)
            (running if runs else others).append(glyph)
    if len(others) < _ENOUGH or not running:
        return
    if not any(place.touches_edge(glyph.piece) for glyph in others):
        for glyph in running:
            glyph.reject()


def _rows(glyphs: list[Glyph]) -> list[list[Glyph]]:
    """Puts digits in rows, each from left to right, the rows from top to bottom."""
    rows: list[list[Glyph]] = []
    runs: list[tuple[float, float]] = []  # each row's digit height and slope so far
    usual, least = _usual_slope(glyphs), 0.0
    if glyphs:
        least = _LEAST_SIZE * float(np.median([glyph.piece.height for glyph in glyphs]))
    for glyph in sorted(glyphs, key=lambda glyph: glyph.piece.center[0]):
        x, y = glyph.piece.center
        best, nearest = None, math.inf
        for number, (row, (size, slope)) in enumerate(zip(rows, runs, strict=True)):
            last_x, last_y = row[-1].piece.center
            size = max(size, least)
            off = abs(y - last_y - slope * (x - last_x)) / size
            if off < 0.62 and x - last_x < 7 * size and off < nearest:
                best, nearest = number, off
        if best is None:
            rows.append([glyph])
            runs.append((float(glyph.piece.height), usual))
        else:
            rows[best].append(glyph)
            heights = sorted(other.piece.height for other in rows[best])
            slope = _slope(rows[best]) if len(rows[best]) > 2 else usual
            runs[best] = float(heights[len(heights) // 2]), slope
    return sorted(rows, key=lambda row: float(np.mean([g.piece.center[1] for g in row])))


def _lines(glyphs: list[Glyph]) -> list[list[Glyph]]:
    """Puts digits in lines, the left column's before the right column's.

    Columns are two or more lines on either side of a wide gap that runs from top to bottom.
    """
    if not glyphs:
        return []
    size = float(np.median([glyph.piece.height for glyph in glyphs]))
    columns: list[list[Glyph]] = []
    reach = -math.inf
    for glyph in sorted(glyphs, key=lambda glyph: glyph.piece.x):
        if glyph.piece.x - reach > _COLUMN_GAP * size:
            columns.append([])
        columns[-1].append(glyph)
        reach = max(reach, glyph.piece.right)
    rows = [_rows(column) for column in columns]
    if min(len(column) for column in rows) < 2:
        return _rows(glyphs)
    return list(itertools.chain(*rows))


def _usual_slope(glyphs: list[Glyph]) -> float:
    """Tells how steeply most of a page's lines run, from each digit to the next on its right."""
    centers = np.array([glyph.piece.center for glyph in glyphs])
    sizes = np.array([glyph.piece.height for glyph in glyphs])[:, np.newaxis]
    chosen = slice(None, None, -(-len(glyphs) // _SLOPE_SAMPLE) or 1)
    starts, sizes = centers[chosen], sizes[chosen]
    right, down = (centers[np.newaxis] - starts[:, np.newaxis]).transpose(2, 0, 1)
    near = (right > 0.2 * sizes) & (right < 2 * sizes) & (np.abs(down) < 0.5 * right)
    followed = np.flatnonzero(near.any(axis=1))
    if len(followed) < 5:
        return 0.0
    following = np.where(near, right, np.inf).argmin(axis=1)[followed]
    return float(np.median(down[followed, following] / right[followed, following]))


def _slope(row: list[Glyph]) -> float:
    """Fits how steeply a line runs at its end."""
    centers = [glyph.piece.center for glyph in row[-6:]]
    mean_x, mean_y = (sum(axis) / len(centers) for axis in zip(*centers, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in centers)
    return sum((x - mean_x) * (y - mean_y) for x, y in centers) / max(spread, 1e-6)


def _text(row: list[Glyph]) -> str:
    """Join a line's digits, with a space where the gap is far wider than the others.

    Names longer than one character have spaces around them.
    """
    gaps = [second.piece.x - first.piece.right for first, second in itertools.pairwise(row)]
    size = float(np.median([glyph.piece.height for glyph in row]))
    usual = float(np.median(gaps)) if gaps else 0.0
    wide = max(1.6 * size, 3 * usual)
    text = row[0].text
    for gap, (last, glyph) in zip(gaps, itertools.pairwise(row), strict=True):
        is_apart = gap > wide or len(last.text) > 1 or len(glyph.text) > 1
        text += (" " if is_apart else "") + glyph.text
    return text


def _others(glyphs: list[Glyph], rows: list[list[Glyph]], place: "_Placement") -> tuple[Other, ...]:
    """Reports what is no digit: a mark where it stands in a line, else unknown."""
    found = []
    lines = [_Extent(row) for row in rows]
    for glyph in glyphs:
        if glyph.is_digit:
            continue
        kind = "mark" if any(line.holds(glyph.piece) for line in lines) else "unknown"
        found.append(
            Other(kind, max(glyph.non_digit, 1 - glyph.confidence), place.box(glyph.piece))
        )
    return tuple(found)


class _Extent:
    """The extent of a line of digits on the page."""

    def __init__(self, row: list[Glyph]) -> None:
        self._size = float(np.median([glyph.piece.height for glyph in row]))
        self._left, self._right = row[0].piece.x, row[-1].piece.right
        self._centers = np.array([glyph.piece.center for glyph in row]).T

    def holds(self, piece: Piece) -> bool:
        """Check whether a small piece is between, before or after the line's digits."""
        size, (x, y) = self._size, piece.center
        if not self._left - size < x < self._right + size:
            return False
        small = piece.height < 0.6 * size or piece.width < 0.7 * size
        return small and abs(y - float(np.interp(x, *self._centers))) < 0.8 * size


class _Placement:
    """Brings boxes from the turned working page back to the picture."""

    def __init__(self, picture: Picture, ink: Ink, degrees: float) -> None:
        height, width = ink.mask.shape
        matrix, _, _ = rotation(width, height, degrees)
        self._back = cv2.invertAffineTransform(matrix).tolist()
        self._leans = bool(degrees % 90)
        self._picture = picture

    def box(self, piece: Piece) -> Box:
        """Bounds a piece's ink in the picture's pixels."""
        _, ink = cv2.threshold(piece.ink, 60, 255, cv2.THRESH_BINARY)
        x, y, width, height = cv2.boundingRect(ink)
        if not width:
            x, y, width, height = 0, 0, piece.width, piece.height
        points = [(x, y), (x + width - 1, y + height - 1)]
        if self._leans and ink.any():
            points = cv2.convexHull(cv2.findNonZero(ink)).reshape(-1, 2).tolist()
        across, down = (
            [a * (x + piece.x) + b * (y + piece.y) + c for x, y in points] for a, b, c in self._back
        )
        scale, picture = self._picture.scale, self._picture
        left, top = (max(0, math.floor(min(axis) * scale + _TINY)) for axis in (across, down))
        right = min(picture.width, math.ceil((max(across) + 1) * scale - _TINY))
        bottom = min(picture.height, math.ceil((max(down) + 1) * scale - _TINY))
        return left, top, max(1, right - left), max(1, bottom - top)

    def touches_edge(self, piece: Piece) -> bool:
        """Tells whether a piece reaches the picture's edge."""
        return any(self._touching(self.box(piece)))

    def runs_off(self, piece: Piece) -> bool:
        """Tells whether a piece reaches the picture's edge with its end, not with its side."""
        box = self.box(piece)
        sideways, upright = self._touching(box)
        return (sideways and box[2] > box[3]) or (upright and box[3] > box[2])

    def _touching(self, box: Box) -> tuple[bool, bool]:
        """Tells whether a box reaches the left or right edge, and the upper or lower one."""
        (x, y, width, height), picture = box, self._picture
        near = 2 * picture.scale
        return (
            x < near or x + width > picture.width - near,
            y < near or y + height > picture.height - near,
        )


def draw_reading(pixels: UInt8[np.ndarray, "h w 3"], reading: Reading) -> Image.Image:
    """Draws a reading over its picture.

    Args:
        pixels: the picture, at any size.
        reading: boxes in the whole picture's pixels.
    """
    canvas = Image.fromarray(pixels)
    scale = canvas.width / reading.width
    if canvas.width < 600:
        canvas = canvas.resize((600, max(1, round(canvas.height * 600 / canvas.width))))
        scale = canvas.width / reading.width
    pen = ImageDraw.Draw(canvas)
    heights = [digit.box[3] * scale for digit in reading.digits]
    label = max(13, min(40, round(0.3 * float(np.median(heights))))) if heights else 13
    thickness = max(2, canvas.width // 500)
    for other in reading.others:
        sign = "·" if other.kind == "mark" else "?"
        _draw_box(pen, other.box, scale, "#e07b39", thickness, sign, label)
    for line in reading.lines:
        is_crowded = any(len(digit.text) > 1 for digit in line.digits)
        for index, digit in enumerate(line.digits):
            is_below = is_crowded and index % 2 == 1
            name = _in_ascii(digit)
            _draw_box(pen, digit.box, scale, "#1f5fd0", thickness, name, label, is_below=is_below)
    return canvas


def _in_ascii(digit: Digit) -> str:
    """Return a class name for drawing: Pillow's built-in font has ASCII only.

    Accents are dropped; a name in another script becomes the number of its class.
    """
    plain = unicodedata.normalize("NFKD", digit.text).encode("ascii", "ignore").decode()
    return plain or f"#{digit.label}"


def _draw_box(
    pen: ImageDraw.ImageDraw,
    box: Box,
    scale: float,
    color: str,
    thickness: int,
    label: str,
    size: int,
    *,
    is_below: bool = False,
) -> None:
    """Draw one box with its label, of a size in pixels, on a tab above or below it.

    The tab is as wide as the label, and moves left if it would leave the picture.
    """
    x, y, width, height = (value * scale for value in box)
    pad = thickness
    pen.rectangle(
        (x - pad, y - pad, x + width + pad, y + height + pad), outline=color, width=thickness
    )
    font = ImageFont.load_default(size)
    tab_width = max(0.85 * size, pen.textlength(label, font=font) + 0.3 * size)
    left = max(0, min(x - pad, pen.im.size[0] - tab_width))
    top = y + height + pad if is_below else y - pad - 1.25 * size
    tab = (left, top, left + tab_width, top + 1.25 * size)
    pen.rectangle(tab, fill=color)
    pen.text((left + 0.16 * size, tab[1] + 0.02 * size), label, fill="white", font=font)

"""Reader.read(image) → Reading(lines → digits → digit, confidence, box)."""

import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from digitwise.bundle import Bundle, open_bundle
from digitwise.data.normalization import fit_to_mnist
from digitwise.errors import DigitwiseError
from digitwise.reading.images import Picture, Source, open_pictures
from digitwise.reading.recognizer import Classification, Recognizer
from digitwise.reading.segmentation import (
    Ink,
    Piece,
    clear_border,
    columns_of,
    find_ink,
    find_pieces,
    remove_rules,
    rotation,
    turn,
    turned_patch,
    union,
    without_frames,
)
from digitwise.storage import open_whole

Box = tuple[int, int, int, int]

_SAMPLE = 40  # pieces that decide which way up a page is
_CLEARLY_UPRIGHT = 0.8  # mean confidence at which no other turn is tried
_WORTH_TURNING = 0.6  # mean confidence below which a turn has found nothing, either
_LEVEL = 12  # degrees: rows that slope less are read as they are
_FAVOR = (0.04, 0.03)  # of mean confidence, for no turn at all, and for a quarter's
_SURE = 0.5  # confidence from which something is called a digit
_WIDE = 1.1  # width by height from which a piece may be two digits
_SPECK = 0.1  # of a digit's height: smaller is dirt
_CUT_COST = 1.2  # for cutting through ink as high as a digit
_PART_COST = 0.35  # for each further part
_MOST_JOINED = 300  # pieces; with more, a page is noise
_MOST_CUTS = 80


@dataclass(frozen=True)
class Digit:
    """One digit that was read.

    Attributes:
        digit: 0 to 9.
        confidence: the calibrated probability that it is this digit.
        box: x, y, width, height in the picture's pixels, after EXIF orientation.
    """

    digit: int
    confidence: float
    box: Box


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
        text: digits, and a space where a wide gap parts groups.
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
    """

    width: int
    height: int
    page: int
    lines: tuple[Line, ...]
    others: tuple[Other, ...]
    path: str | None = None
    notice: str | None = None
    pixels: UInt8[np.ndarray, "h w 3"] | None = field(default=None, repr=False, compare=False)

    @property
    def text(self) -> str:
        """All lines, one below the other."""
        return "\n".join(line.text for line in self.lines)

    def draw(self) -> Image.Image:
        """Draws boxes and digits over the picture: digits blue, what is none orange, dashed.

        Raises:
            DigitwiseError: the reading was made without its picture.
        """
        if self.pixels is None:
            raise DigitwiseError("the reading has no picture to draw on")
        return draw_reading(self.pixels, self)

    def save(self, path: str | Path) -> None:
        """Draws boxes and digits over the picture, into an image file.

        Raises:
            MachineError: the file cannot be written.
        """
        drawn = self.draw()
        with open_whole(Path(path)) as file:
            drawn.save(file, format=Image.registered_extensions().get(Path(path).suffix, "PNG"))

    def show(self) -> None:
        """Draws boxes and digits over the picture and shows it in the system's viewer."""
        self.draw().show()

    def to_dict(self) -> dict[str, Any]:
        """Returns the reading as plain data, for JSON."""
        document: dict[str, Any] = {
            "path": self.path,
            "page": self.page,
            "width": self.width,
            "height": self.height,
            "lines": [
                {
                    "text": line.text,
                    "digits": [
                        {
                            "digit": digit.digit,
                            "confidence": round(digit.confidence, 4),
                            "box": list(digit.box),
                        }
                        for digit in line.digits
                    ],
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


@dataclass
class _Glyph:
    """A piece with what it was recognized as."""

    piece: Piece
    digit: int
    confidence: float
    non_digit: float

    @property
    def is_digit(self) -> bool:
        return self.confidence >= _SURE


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
        self.bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self._recognizer = Recognizer(self.bundle)

    def classify(self, crops: UInt8[np.ndarray, "n 28 28"]) -> Classification:
        """Recognizes crops, one character each, that look as MNIST's images do.

        Args:
            crops: uint8, ink bright.
        """
        return self._recognizer.classify(crops)

    def read(self, source: Source) -> Reading:
        """Reads a picture's first page.

        Args:
            source: a path, bytes, an open file, a Pillow image or an array.

        Raises:
            DigitwiseError: it is no picture that can be read.
        """
        return self._read_picture(next(open_pictures(source)), source)

    def read_pages(self, source: Source) -> list[Reading]:
        """Reads all pages of a picture.

        Raises:
            DigitwiseError: it is no picture that can be read.
        """
        return [self._read_picture(picture, source) for picture in open_pictures(source)]

    def _read_picture(self, picture: Picture, source: Source) -> Reading:
        """Reads one decoded page."""
        page = find_ink(picture.pixels)
        ink = clear_border(remove_rules(page), page)
        degrees = self._uprightness(ink)
        upright = turn(ink, degrees)
        if degrees % 90:
            upright = remove_rules(upright)
        glyphs = self._glyphs(find_pieces(upright))
        rows = _rows([glyph for glyph in glyphs if glyph.is_digit])
        place = _Placement(picture, ink, degrees)
        others = _others(glyphs, rows, place)
        lines = tuple(
            Line(
                _text(row),
                tuple(Digit(g.digit, g.confidence, place.box(g.piece)) for g in row),
            )
            for row in rows
        )
        path = str(source) if isinstance(source, str | Path) else None
        return Reading(
            picture.width,
            picture.height,
            picture.page,
            lines,
            others,
            path,
            picture.notice,
            picture.pixels,
        )

    def _uprightness(self, ink: Ink) -> float:
        """Finds by how many degrees against the clock a page is to be turned to be upright."""
        pieces = without_frames(find_pieces(ink))[: 3 * _SAMPLE]
        if not pieces:
            return 0.0
        usual = float(np.median([_extent(piece) for piece in pieces[:_SAMPLE]]))
        pieces = [piece for piece in pieces if 0.5 * usual <= _extent(piece) <= 1.7 * usual][
            :_SAMPLE
        ]
        if not pieces:
            return 0.0
        slope = _row_direction(pieces)
        best, score = self._best_turn(pieces, [0.0])
        if score > _CLEARLY_UPRIGHT and abs(slope) < _LEVEL:
            return best
        turns = [0.0, 90.0, 180.0, 270.0]
        if abs(slope) > 4:
            turns += [(slope + quarter) % 360 for quarter in (0, 90, 180, 270)]
        best, score = self._best_turn(pieces, turns)
        if score > _CLEARLY_UPRIGHT:
            return best
        best, score = self._best_turn(pieces, [*turns, *np.arange(15.0, 360.0, 15.0).tolist()])
        return best if score > _WORTH_TURNING else 0.0

    def _best_turn(self, pieces: list[Piece], turns: list[float]) -> tuple[float, float]:
        """Finds by which turn pieces are recognized best, and how well."""
        crops = [fit_to_mnist(turned_patch(piece, turn)) for turn in turns for piece in pieces]
        found = self.classify(np.stack(crops))
        scores = found.confidence.reshape(len(turns), len(pieces)).mean(axis=1)
        favors = np.array([_FAVOR[0] if t == 0 else _FAVOR[1] * (t % 90 == 0) for t in turns])
        best = int((scores + favors).argmax())
        return turns[best], float(scores[best])

    def _glyphs(self, pieces: list[Piece]) -> list[_Glyph]:
        """Recognizes pieces, joining what was broken and parting what touches."""
        if not pieces:
            return []
        pieces = without_frames(pieces)
        glyphs = self._recognize(pieces)
        size = _digit_height(glyphs)
        glyphs = [glyph for glyph in glyphs if _extent(glyph.piece) >= _SPECK * size]
        glyphs = self._join(glyphs, size)
        glyphs = [part for glyph in glyphs for part in self._part(glyph, size)]
        tall = 0.38 * _digit_height(glyphs)
        for glyph in glyphs:
            if max(glyph.piece.height, glyph.piece.width) < tall:
                glyph.confidence, glyph.non_digit = 0.0, 1.0
        return glyphs

    def _recognize(self, pieces: list[Piece]) -> list[_Glyph]:
        """Recognizes each piece as it stands."""
        if not pieces:
            return []
        found = self.classify(np.stack([fit_to_mnist(piece.ink) for piece in pieces]))
        return [
            _Glyph(piece, int(digit), float(confidence), float(non_digit))
            for piece, digit, confidence, non_digit in zip(
                pieces, found.classes, found.confidence, found.non_digit, strict=True
            )
        ]

    def _join(self, glyphs: list[_Glyph], size: float) -> list[_Glyph]:
        """Joins strokes that make a digit only together."""
        while len(glyphs) <= _MOST_JOINED:
            pairs = [
                (i, j)
                for i, first in enumerate(glyphs)
                for j, second in enumerate(glyphs)
                if i < j and _may_belong(first.piece, second.piece, size)
            ]
            if not pairs:
                return glyphs
            joined = self._recognize([union([glyphs[i].piece, glyphs[j].piece]) for i, j in pairs])
            gains = [
                whole.confidence - _apart(glyphs[i], glyphs[j], size)
                for whole, (i, j) in zip(joined, pairs, strict=True)
            ]
            best = int(np.argmax(gains))
            if gains[best] <= 0:
                return glyphs
            i, j = pairs[best]
            glyphs = [g for k, g in enumerate(glyphs) if k not in (i, j)] + [joined[best]]
        return glyphs

    def _part(self, glyph: _Glyph, size: float) -> list[_Glyph]:
        """Cuts a piece into the digits that it is most probably made of, one or more."""
        piece = glyph.piece
        wide = piece.width / max(1, piece.height)
        if piece.height < 0.5 * size or piece.width < 0.35 * size:
            return [glyph]
        if glyph.confidence > 0.9 and wide < _WIDE:
            return [glyph]
        if wide > 14 or piece.height > 4 * size:
            return [glyph]
        cuts = _cut_columns(piece)
        spans = [
            (a, b)
            for a in range(len(cuts))
            for b in range(a + 1, len(cuts))
            if 0.1 * size <= cuts[b] - cuts[a] <= 1.25 * max(size, piece.height)
        ]
        if not spans:
            return [glyph]
        parts = self._recognize([columns_of(piece, cuts[a], cuts[b]) for a, b in spans])
        through = (piece.ink > 100).sum(axis=0) / max(1, piece.height)
        best: list[tuple[float, list[_Glyph]]] = [(0.0, []), *[(-math.inf, [])] * (len(cuts) - 1)]
        for (a, b), part in sorted(zip(spans, parts, strict=True), key=lambda pair: pair[0][1]):
            if best[a][0] == -math.inf or part.piece.height < 0.3 * piece.height:
                continue
            cost = _PART_COST + (_CUT_COST * float(through[cuts[a]]) if a else 0.0)
            score = best[a][0] + math.log(max(part.confidence, 1e-4)) - cost
            if score > best[b][0]:
                best[b] = (score, [*best[a][1], part])
        whole = math.log(max(glyph.confidence, 1e-4)) - _PART_COST
        score, chosen = best[-1]
        if score <= whole or sum(part.is_digit for part in chosen) < 0.75 * len(chosen):
            return [glyph]
        return chosen


def _row_direction(pieces: list[Piece]) -> float:
    """Finds in which direction neighbors stand, in degrees against the clock's turning, in ±90."""
    if len(pieces) < 3:
        return 0.0
    centers = np.array([piece.center for piece in pieces])
    sizes = np.array([max(piece.width, piece.height) for piece in pieces])
    away = centers[np.newaxis] - centers[:, np.newaxis]
    distance = np.hypot(away[..., 0], away[..., 1])
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argmin(axis=1)
    rows = np.arange(len(pieces))
    near = distance[rows, nearest] < 4 * sizes
    if near.sum() < 2:
        return 0.0
    steps = away[rows, nearest][near]
    doubled = 2 * np.arctan2(steps[:, 1], steps[:, 0])
    direction = np.degrees(np.arctan2(np.sin(doubled).mean(), np.cos(doubled).mean())) / 2
    return float(direction)


def _digit_height(glyphs: list[_Glyph]) -> float:
    """Estimates how tall the page's digits are: the median of those recognized, else of all."""
    tall = [glyph.piece.height for glyph in glyphs if glyph.is_digit]
    if not tall:
        tall = [glyph.piece.height for glyph in glyphs]
    largest = max(tall)
    return float(np.median([height for height in tall if height >= 0.25 * largest]))


def _extent(piece: Piece) -> int:
    """Measures a piece's longer side."""
    return max(piece.width, piece.height)


def _may_belong(first: Piece, second: Piece, size: float) -> bool:
    """Tells whether two pieces are near enough to be strokes of one digit."""
    gap_x = max(first.x, second.x) - min(first.right, second.right)
    gap_y = max(first.y, second.y) - min(first.bottom, second.bottom)
    if gap_x > 0.12 * size or gap_y > 0.3 * size:
        return False
    width = max(first.right, second.right) - min(first.x, second.x)
    height = max(first.bottom, second.bottom) - min(first.y, second.y)
    return width <= 1.3 * size and height <= 1.6 * size


def _apart(first: _Glyph, second: _Glyph, size: float) -> float:
    """Says how well two pieces stand by themselves: what a union has to beat."""
    small, large = sorted((first, second), key=lambda glyph: glyph.piece.height)
    if small.piece.height < 0.55 * size:
        return 0.55 * large.confidence  # a loose stroke is no digit, whatever it looks like
    return max(0.5, (small.confidence + large.confidence) / 2 + 0.1)


def _cut_columns(piece: Piece) -> list[int]:
    """Proposes where to cut a piece: where little ink stands above another, evenly besides."""
    ink = (piece.ink > 100).sum(axis=0).astype(np.float32)
    width = piece.width
    count = min(_MOST_CUTS, max(3, round(8 * width / max(1, piece.height))))
    stations = np.linspace(0, width, count + 1)
    chosen = {0, width}
    for left, right in itertools.pairwise(stations):
        start, end = max(2, int(left)), min(width - 2, max(int(right), int(left) + 1))
        if end > start:
            chosen.add(start + int(ink[start:end].argmin()))
    return sorted(chosen)


def _rows(glyphs: list[_Glyph]) -> list[list[_Glyph]]:
    """Puts digits in lines, each from left to right, the lines from top to bottom."""
    rows: list[list[_Glyph]] = []
    for glyph in sorted(glyphs, key=lambda glyph: glyph.piece.center[0]):
        x, y = glyph.piece.center
        best, nearest = None, math.inf
        for row in rows:
            size = float(np.median([other.piece.height for other in row]))
            last_x, last_y = row[-1].piece.center
            expected = last_y + _slope(row) * (x - last_x)
            off = abs(y - expected) / size
            if off < 0.62 and x - last_x < 7 * size and off < nearest:
                best, nearest = row, off
        if best is None:
            rows.append([glyph])
        else:
            best.append(glyph)
    return sorted(rows, key=lambda row: float(np.mean([g.piece.center[1] for g in row])))


def _slope(row: list[_Glyph]) -> float:
    """Fits how steeply a line runs so far; level until it has three digits."""
    if len(row) < 3:
        return 0.0
    x, y = np.array([glyph.piece.center for glyph in row[-6:]]).T
    spread = float(((x - x.mean()) ** 2).sum())
    return float(((x - x.mean()) * (y - y.mean())).sum()) / max(spread, 1e-6)


def _text(row: list[_Glyph]) -> str:
    """Writes a line's digits, with a space where the gap is far wider than the others."""
    gaps = [second.piece.x - first.piece.right for first, second in itertools.pairwise(row)]
    size = float(np.median([glyph.piece.height for glyph in row]))
    usual = float(np.median(gaps)) if gaps else 0.0
    wide = max(1.6 * size, 3 * usual)
    text = str(row[0].digit)
    for gap, glyph in zip(gaps, row[1:], strict=True):
        text += (" " if gap > wide else "") + str(glyph.digit)
    return text


def _others(
    glyphs: list[_Glyph], rows: list[list[_Glyph]], place: "_Placement"
) -> tuple[Other, ...]:
    """Reports what is no digit: a mark where it stands in a line, else unknown."""
    found = []
    for glyph in glyphs:
        if glyph.is_digit:
            continue
        kind = "mark" if any(_stands_in(glyph.piece, row) for row in rows) else "unknown"
        found.append(
            Other(kind, max(glyph.non_digit, 1 - glyph.confidence), place.box(glyph.piece))
        )
    return tuple(found)


def _stands_in(piece: Piece, row: list[_Glyph]) -> bool:
    """Tells whether something small stands between, before or after a line's digits."""
    size = float(np.median([glyph.piece.height for glyph in row]))
    x, y = piece.center
    left, right = row[0].piece.x, row[-1].piece.right
    level = float(np.interp(x, *np.array([g.piece.center for g in row]).T))
    small = piece.height < 0.6 * size or piece.width < 0.5 * size
    return small and left - size < x < right + size and abs(y - level) < 0.8 * size


class _Placement:
    """Brings boxes from the turned working page back to the picture."""

    def __init__(self, picture: Picture, ink: Ink, degrees: float) -> None:
        height, width = ink.mask.shape
        self._matrix, _, _ = rotation(width, height, degrees)
        self._picture = picture

    def box(self, piece: Piece) -> Box:
        """Bounds a piece's ink in the picture's pixels."""
        rows, columns = np.nonzero(piece.ink > 60)
        if not len(rows):
            rows, columns = np.array([0, piece.height - 1]), np.array([0, piece.width - 1])
        points = np.column_stack([columns + piece.x, rows + piece.y]).astype(np.float64)
        back = (points - self._matrix[:, 2]) @ np.linalg.inv(self._matrix[:, :2]).T
        scale, picture = self._picture.scale, self._picture
        left, top = np.floor(back.min(axis=0) * scale).astype(int)
        right, bottom = np.ceil((back.max(axis=0) + 1) * scale).astype(int)
        left, top = max(0, int(left)), max(0, int(top))
        right, bottom = min(picture.width, int(right)), min(picture.height, int(bottom))
        return left, top, max(1, right - left), max(1, bottom - top)


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
    thickness = max(2, canvas.width // 500)
    for other in reading.others:
        _draw_box(pen, other.box, scale, "#e07b39", thickness, "·" if other.kind == "mark" else "?")
    for line in reading.lines:
        for digit in line.digits:
            _draw_box(pen, digit.box, scale, "#1f5fd0", thickness, str(digit.digit))
    return canvas


def _draw_box(
    pen: ImageDraw.ImageDraw, box: Box, scale: float, color: str, thickness: int, label: str
) -> None:
    """Draws one box with its label on a tab above it."""
    x, y, width, height = (value * scale for value in box)
    pad = thickness
    pen.rectangle(
        (x - pad, y - pad, x + width + pad, y + height + pad), outline=color, width=thickness
    )
    size = max(13, min(40, round(0.3 * height)))
    font = ImageFont.load_default(size)
    tab = (x - pad, y - pad - 1.25 * size, x - pad + 0.85 * size, y - pad)
    pen.rectangle(tab, fill=color)
    pen.text((tab[0] + 0.16 * size, tab[1] + 0.02 * size), label, fill="white", font=font)

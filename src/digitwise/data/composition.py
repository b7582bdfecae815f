"""Compose pages whose characters are known, for a page network to learn from.

Every page is new, and depends on (seed, epoch, index) alone.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from digitwise.data.catalog import SIGNS
from digitwise.data.characters import (
    Digits,
    FontHand,
    Glyph,
    Hand,
    PenStrokes,
    random_letter,
)
from digitwise.data.fonts import HandwritingFont
from digitwise.data.normalization import surround
from digitwise.data.paper import cloud, draw_clutter, draw_rules, make_paper, photograph

TILE = 192  # pixels: the side of what a page network is trained on
LINE = 48, 384  # pixels: height and width of what a line network is trained on
LINE_UNIT = 28  # pixels: height of the digits in it
IGNORED = -1  # the label of characters that are cut off, or that cannot be told apart
_UNITS = 13.0, 64.0  # pixels: heights of digits
_LARGE_UNITS = 120.0, 450.0  # pixels: of digits that must be read at a coarser scale
_CROPPED = 0.06  # share of the tiles that show a line, or a character, cropped tightly
_PENS = 0.024, 0.21  # digit heights
_UNEVENNESS = 0.05, 0.08, 0.3
_SINKS = 0.0, 0.5, 0.5
_TILTS = 4.0, 16.0  # degrees by which pages are turned: most of them, and the others
_LINE_TILTS = 0.7, 2.0  # likewise, of lines that have been leveled
_CROPPED_LINES = 0.15  # share of the lines whose page ends close to them
_COARSE = 0.25  # share of the lines that have a lower resolution
_LINE_RISE = 0.012  # digit heights a character, by which leveled lines still rise or fall
_LEAST_VISIBLE = 0.65  # of a box; a character of which less can be seen is ignored
_INK = 60  # of 255; what is fainter does not count to a character's box
Random = np.random.Generator
Field = Float32[np.ndarray, "h w"]


@dataclass(frozen=True)
class Character:
    """A character on a page.

    Attributes:
        label: an index into CHARACTERS, or OTHER, or IGNORED.
        x: of the box's center, in pixels.
        y: likewise.
        width: of the box, in pixels.
        height: likewise.
        line: the number of the line that it stands in; the characters of a line are in order.
    """

    label: int
    x: float
    y: float
    width: float
    height: float
    line: int


@dataclass
class _Writing:
    """Ink on a page, and what it says.

    Attributes:
        unit: height of the digits, in pixels.
        pen: width of the strokes, in digit heights.
        stretch: width of the characters, relative to what it would be.
        slant: by which the characters lean, to the right if negative.
        hands: who writes digits and signs: the first that can.
        ink: its opacity.
        characters: what was written.
        line: the number of the current line.
        rise: by how many digit heights a character lines rise or fall.
        unevenness: deviation of the logarithm of the characters' sizes.
        sinks: by how much of what it is smaller a small character stands lower: half, so that all
            stand on one line.
    """

    unit: float
    pen: float
    stretch: float
    slant: float
    hands: list[Hand]
    ink: Field
    characters: list[Character] = field(default_factory=list)
    line: int = 0
    rise: float = 0.04
    unevenness: float = 0.06
    sinks: float = 0.0

    @property
    def width(self) -> int:
        """Of the page, in pixels."""
        return self.ink.shape[1]

    @property
    def height(self) -> int:
        """Of the page, in pixels."""
        return self.ink.shape[0]


class Composer:
    """Composes pages.

    Args:
        digits: handwritten digits.
        fonts: handwriting fonts; may be empty.
        seed: of all pages.
    """

    def __init__(self, digits: Digits, fonts: Sequence[HandwritingFont], seed: int) -> None:
        self._digits, self._seed = digits, seed
        self._fonts = [FontHand(font) for font in fonts]
        self._pen = PenStrokes()
        self._kinds: dict[Callable[[_Writing, Random], None], float] = {
            self._write_numbers: 0.29,
            self._write_amounts: 0.12,
            self._write_expressions: 0.15,
            self._fill_table: 0.08,
            self._fill_boxes: 0.08,
            self._write_one: 0.06,
            self._scatter: 0.06,
            self._write_words: 0.07,
            self._write_too_large: 0.05,
            _leave_empty: 0.04,
        }

    def compose(
        self, epoch: int, index: int, shape: tuple[int, int] = (TILE, TILE)
    ) -> tuple[UInt8[np.ndarray, "h w"], list[Character]]:
        """Compose a page.

        Args:
            epoch: with the index, the page's number.
            index: likewise.
            shape: height and width, in pixels.

        Returns:
            Gray levels, of any polarity, and the characters on the page.
        """
        random = np.random.default_rng([self._seed, epoch, index])
        writing = _Writing(
            unit=_between(*_UNITS, random),
            pen=_between(*_PENS, random),
            stretch=_between(0.75, 1.3, random),
            slant=random.normal(0, 0.15),
            hands=self._choose_hands(random),
            ink=np.zeros(shape, np.float32),
            unevenness=random.choice(_UNEVENNESS),
            sinks=random.choice(_SINKS),
        )
        kinds, shares = list(self._kinds), np.array(list(self._kinds.values()))
        kinds[random.choice(len(kinds), p=shares / shares.sum())](writing, random)
        while random.random() < 0.25:
            draw_clutter(writing.ink, writing.unit, random)
        pixels, characters = _print_on_paper(writing, _TILTS, random)
        if random.random() < _CROPPED:
            return _crop_tightly(pixels, characters, random)
        return pixels, characters

    def compose_line(
        self, epoch: int, index: int
    ) -> tuple[UInt8[np.ndarray, "h w"], list[Character]]:
        """Compose a single line, nearly level, in the middle of an image of the shape LINE.

        Args:
            epoch: with the index, the line's number.
            index: likewise.

        Returns:
            Gray levels, of any polarity, and the line's characters, from left to right.
        """
        random = np.random.default_rng([self._seed, epoch, index, 1])
        height, width = LINE
        writing = _Writing(
            unit=LINE_UNIT * np.exp(np.clip(random.normal(0, 0.12), -0.3, 0.3)),
            pen=_between(*_PENS, random),
            stretch=_between(0.75, 1.3, random),
            slant=random.normal(0, 0.15),
            hands=self._choose_hands(random),
            ink=np.zeros(LINE, np.float32),
            rise=_LINE_RISE,
            unevenness=random.choice(_UNEVENNESS),
            sinks=random.choice(_SINKS),
        )
        unit, middle = writing.unit, height / 2 + random.normal(0, 1.5)
        text, gaps = _line_text(random), ((-0.2, 0.05), (0.0, 0.15), (0.1, 0.5), (0.4, 1.2))
        gap = random.uniform(*gaps[random.integers(len(gaps))])
        text = text[: max(1, int((width / unit - 1) / (0.7 * writing.stretch + max(gap, 0) + 0.1)))]
        left = random.uniform(0.1, 0.8) * unit
        if random.random() < 0.3:
            left = random.uniform(0.1, max(0.2, width / unit - 0.9 * len(text))) * unit
        self._write(writing, text, left, middle, gap, random)
        for way in (-1, 1):
            if random.random() < 0.3:
                self._write(
                    writing,
                    _line_text(random),
                    random.uniform(-2, 3) * unit,
                    middle + way * random.uniform(1.15, 1.6) * unit,
                    gap,
                    random,
                )
        if random.random() < 0.2:
            _frame_line(writing, middle, gap, random)
        if random.random() < 0.1:
            draw_clutter(writing.ink, unit, random)
        pixels, characters = _print_on_paper(writing, _LINE_TILTS, random)
        if random.random() < _COARSE:  # a small line that was enlarged
            shrink = random.uniform(0.35, 0.8)
            small = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
            pixels = cv2.resize(small, LINE[::-1], interpolation=cv2.INTER_LINEAR)
        written = [each for each in characters if each.line == 0 and each.label != IGNORED]
        if written and random.random() < _CROPPED_LINES:
            pixels = _crop_page_around(pixels, written, random)
        return pixels, written

    def _choose_hands(self, random: Random) -> list[Hand]:
        """Choose who writes: people, or a font."""
        people: list[Hand] = [self._digits, self._pen]
        if self._fonts and random.random() < 0.3:
            return [self._fonts[random.integers(len(self._fonts))], *people]
        return people

    def _letter(self, writing: _Writing, in_word: bool, random: Random) -> Glyph | None:
        """Write a letter, by hand or in print."""
        letter = random_letter(random, in_word=in_word)
        if self._fonts and random.random() < 0.6:
            hand = self._fonts[random.integers(len(self._fonts))]
            return hand.write(letter, writing.pen, random)
        return self._pen.write(letter, writing.pen, random)

    def _write(
        self, writing: _Writing, text: str, left: float, middle: float, gap: float, random: Random
    ) -> float:
        """Write a line of characters.

        Args:
            writing: the page.
            text: digits, signs, spaces, and "a" for a letter; in words, "w".
            left: where it begins, in pixels.
            middle: its height on the page, in pixels.
            gap: between characters, in digit heights; negative if they overlap.
            random: the source of all random choices.

        Returns:
            Where it ends, in pixels.
        """
        rise, jitter = random.normal(0, writing.rise), abs(random.normal(0, 0.04))
        for number, character in enumerate(text):
            if character == " ":
                left += writing.unit * random.uniform(0.6, 1.2)
                continue
            glyph = self._write_glyph(writing, character, random)
            if glyph is None:
                continue
            size = float(np.exp(np.clip(random.normal(0, writing.unevenness), -0.7, 0.3)))
            offset = random.normal(0, jitter) + rise * number + (1 - size) * writing.sinks
            left = _put(writing, glyph, left, middle + offset * writing.unit, size, random)
            left += max(gap + random.normal(0, 0.08), -0.3) * writing.unit
        writing.line += 1
        return left

    def _write_glyph(self, writing: _Writing, character: str, random: Random) -> Glyph | None:
        """Write one character by the first hand that can."""
        if character in "aw":
            return self._letter(writing, character == "w", random)
        for hand in writing.hands:
            if hand is self._digits and character in SIGNS:
                continue
            glyph = hand.write(character, writing.pen, random)
            if glyph is not None:
                return glyph
        return None

    # What is written

    def _write_numbers(self, writing: _Writing, random: Random) -> None:
        """Write lines of numbers, touching, close or apart."""
        gaps = (-0.2, 0.05), (0.0, 0.15), (0.1, 0.5), (0.4, 1.5)
        gap = random.uniform(*gaps[random.integers(len(gaps))])
        spacing = random.uniform(1.25, 2.6) * writing.unit
        middle = random.uniform(-0.3, 1.0) * writing.unit
        while middle < writing.height + writing.unit / 2:
            left = random.uniform(-1.5, 1.5) * writing.unit
            while left < writing.width:
                text = _number(random)
                if random.random() < 0.06:
                    text = _word(random)
                left = self._write(writing, text, left, middle, gap, random)
                left += random.uniform(0.7, 2.5) * writing.unit
                if random.random() < 0.3:
                    break
            middle += spacing * random.uniform(0.9, 1.1)

    def _write_amounts(self, writing: _Writing, random: Random) -> None:
        """Write amounts with points and commas, fractions, and numbers with a minus sign."""
        gap, middle = random.uniform(-0.1, 0.3), random.uniform(0, 1.2) * writing.unit
        ends = [""] * 6 + ["-", "=", "/", "--", "aa"]
        while middle < writing.height:
            whole, cents = _number(random), f"{random.integers(100):02}"
            point, sign = ".,"[random.integers(2)], ("", "", "-", "+")[random.integers(4)]
            text = (
                f"{sign}{whole}{point}{cents}",
                f"{sign}{whole}{point}{_number(random)[:3]}",
                f"{whole[:2]}/{_number(random)[:2]}",
                f"{sign}{whole}",
                f"a{whole}{point}{cents}{ends[random.integers(len(ends))]}",
                f"{whole}a",
            )[random.integers(6)]
            left = random.uniform(-1, 2) * writing.unit
            left = self._write(writing, text, left, middle, gap, random)
            if random.random() < 0.3:
                left += random.uniform(0.8, 3) * writing.unit
                self._write(writing, _number(random), left, middle, gap, random)
            middle += random.uniform(1.3, 2.5) * writing.unit

    def _write_expressions(self, writing: _Writing, random: Random) -> None:
        """Write sums and other expressions."""
        gap, middle = random.uniform(0.0, 0.7), random.uniform(0, 1.2) * writing.unit
        while middle < writing.height:
            text = str(random.integers(0, 100))
            for _ in range(int(random.integers(1, 5))):
                term = str(random.integers(0, 100))
                if random.random() < 0.2:
                    term = f"({term}{'+-×'[random.integers(3)]}{random.integers(10)})"
                text += "+-×÷/"[random.integers(5)] + term
            text += ("", "=", f"={random.integers(100)}")[random.integers(3)]
            left = random.uniform(-3, 1) * writing.unit
            self._write(writing, text, left, middle, gap, random)
            middle += random.uniform(1.4, 3.0) * writing.unit

    def _fill_table(self, writing: _Writing, random: Random) -> None:
        """Write numbers into a table's cells."""
        self._fill_cells(writing, random, random.uniform(1.5, 5.0), is_form=False)

    def _fill_boxes(self, writing: _Writing, random: Random) -> None:
        """Write a digit into each box of a form."""
        self._fill_cells(writing, random, random.uniform(1.1, 1.6), is_form=True)

    def _fill_cells(self, writing: _Writing, random: Random, cell: float, *, is_form: bool) -> None:
        """Draw cells, as wide as `cell` digit heights, and write into most of them."""
        unit = writing.unit
        width, height = cell * unit, random.uniform(1.3, 2.0) * unit
        rules = np.zeros_like(writing.ink)
        pen = max(1, round(unit * random.uniform(0.02, 0.12)))
        first, top = random.uniform(-width, 0), random.uniform(-height, 0)
        apart = random.uniform(0, 0.2) * unit if is_form else 0.0
        while top < writing.height:
            left = first
            while left < writing.width:
                if not is_form or random.random() < 0.9:
                    corner = round(left), round(top)
                    opposite = round(left + width), round(top + height)
                    cv2.rectangle(rules, corner, opposite, 1.0, pen, cv2.LINE_AA)
                if random.random() < 0.75:
                    text = str(random.integers(10)) if is_form else _number(random)
                    text = text[: max(1, int(cell / 0.9))]
                    inset = random.uniform(0.05, 0.35) * unit
                    gap, middle = random.uniform(0, 0.15), top + height * random.uniform(0.4, 0.6)
                    self._write(writing, text, left + inset, middle, gap, random)
                left += width + apart
            top += height * (random.uniform(1.1, 1.8) if is_form else 1)
        np.maximum(writing.ink, rules * random.uniform(0.3, 1.0), out=writing.ink)

    def _write_one(self, writing: _Writing, random: Random) -> None:
        """Write one character."""
        text = SIGNS[random.integers(len(SIGNS))] if random.random() < 0.3 else _number(random)[0]
        left, middle = random.uniform(0.1, 0.8, 2) * (writing.width, writing.height)
        self._write(writing, text, left, middle, 0.0, random)

    def _scatter(self, writing: _Writing, random: Random) -> None:
        """Write single digits all over the page."""
        area = writing.width * writing.height / writing.unit**2
        for _ in range(int(random.integers(2, 4 + int(area / 4)))):
            left, middle = random.uniform(0, 1, 2) * (writing.width, writing.height)
            places = ((each.x, each.y) for each in writing.characters)
            if all(np.hypot(left - x, middle - y) > 1.3 * writing.unit for x, y in places):
                self._write(writing, str(random.integers(10)), left, middle, 0.0, random)

    def _write_words(self, writing: _Writing, random: Random) -> None:
        """Write words alone."""
        middle = random.uniform(0, 1) * writing.unit
        while middle < writing.height:
            left = random.uniform(-1, 1) * writing.unit
            while left < writing.width:
                left = self._write(writing, _word(random), left, middle, 0.08, random)
                left += 0.7 * writing.unit
            middle += random.uniform(1.4, 2.4) * writing.unit

    def _write_too_large(self, writing: _Writing, random: Random) -> None:
        """Write digits so large that they are no characters at this scale: what is seen is part."""
        unit = writing.unit
        writing.unit = _between(*_LARGE_UNITS, random)
        left, middle = random.uniform(-1, 0.6), random.uniform(-0.5, 1.5)
        size = writing.width
        self._write(writing, _number(random), left * size, middle * size, 0.1, random)
        writing.characters.clear()
        writing.unit = unit


def _leave_empty(writing: _Writing, random: Random) -> None:
    """Write nothing; draw what is not a character."""
    for _ in range(int(random.integers(0, 5))):
        draw_clutter(writing.ink, writing.unit, random)


def _line_text(random: Random) -> str:
    """Return what a line says, as `Composer._write` takes it."""
    kind = random.random()
    if kind < 0.45:
        return "".join(map(str, random.integers(0, 10, int(random.integers(1, 13)))))
    if kind < 0.6:
        sign, ends = ("", "", "-", "+", "a")[random.integers(5)], ("", "", "-", "=", "/", "--", "a")
        cents = f"{'.,'[random.integers(2)]}{_number(random)[:3]}"
        return f"{sign}{_number(random)}{cents}{ends[random.integers(len(ends))]}"
    if kind < 0.8:
        text = str(random.integers(0, 100))
        for _ in range(int(random.integers(1, 4))):
            term = str(random.integers(0, 100))
            if random.random() < 0.2:
                term = f"({term}{'+-×'[random.integers(3)]}{random.integers(10)})"
            text += "+-×÷/"[random.integers(5)] + term
        return text + ("", "=", f"={random.integers(100)}")[random.integers(3)]
    if kind < 0.9:
        return f"{_number(random)} {_number(random)}"
    if kind < 0.97:
        return f"{_word(random)} {_number(random)}" if random.random() < 0.5 else _word(random)
    return ""


def _frame_line(writing: _Writing, middle: float, gap: float, random: Random) -> None:
    """Draw a box around each digit's place, or around the line."""
    unit, pen = writing.unit, max(1, round(writing.unit * random.uniform(0.02, 0.1)))
    top, bottom = (round(middle + way * random.uniform(0.6, 0.9) * unit) for way in (-1, 1))
    dark = random.uniform(0.3, 1.0)
    if random.random() < 0.5:
        left, right = (round(at) for at in (random.uniform(-1, 0.1) * unit, writing.width))
        cv2.rectangle(writing.ink, (left, top), (right, bottom), dark, pen, cv2.LINE_AA)
        return
    at, step = random.uniform(-1, 0.2) * unit, (0.75 + gap) * unit
    while at < writing.width:
        corner, opposite = (round(at), top), (round(at + max(step, unit / 2)), bottom)
        cv2.rectangle(writing.ink, corner, opposite, dark, pen, cv2.LINE_AA)
        at += max(step, unit / 2)


def _between(low: float, high: float, random: Random) -> float:
    """Return a number whose logarithm is uniformly distributed."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _number(random: Random) -> str:
    """Return a number of one to eight digits."""
    return "".join(map(str, random.integers(0, 10, int(random.integers(1, 9)))))


def _word(random: Random) -> str:
    """Return a word of one to eight letters, as `Composer._write` takes it."""
    letters = int(random.integers(1, 9))
    return "w" * letters if letters > 2 else "a" * letters


def _put(
    writing: _Writing, glyph: Glyph, left: float, middle: float, size: float, random: Random
) -> float:
    """Put a glyph on the page; return its right edge."""
    unit = writing.unit * size
    height = max(2, round(glyph.height * unit))
    shape = glyph.ink.shape
    width = max(1, round(height * shape[1] / shape[0] * writing.stretch))
    shrinks = height < shape[0]
    ink = cv2.resize(
        glyph.ink, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    )
    slant = writing.slant + random.normal(0, 0.04)
    if abs(slant) > 0.03 and height > 4:
        reach = abs(slant) * height
        shear = np.array([[1, slant, max(0.0, -slant * height)], [0, 1, 0]], float)
        ink = cv2.warpAffine(ink, shear, (int(width + reach + 1), height))
    edge_x, edge_y, width, height = cv2.boundingRect((ink > _INK).astype(np.uint8))
    if not height:
        return left
    ink = ink[edge_y : edge_y + height, edge_x : edge_x + width]
    x, y = round(left), round(middle + glyph.top * unit) + edge_y
    x0, x1 = max(0, x), min(writing.width, x + width)
    y0, y1 = max(0, y), min(writing.height, y + height)
    if x0 < x1 and y0 < y1:
        opacity = (ink[y0 - y : y1 - y, x0 - x : x1 - x].astype(np.float32) - 30) * (1 / 170)
        region = writing.ink[y0:y1, x0:x1]
        np.maximum(region, np.minimum(opacity, 1), out=region)
        is_visible = (x1 - x0) * (y1 - y0) >= _LEAST_VISIBLE * width * height
        writing.characters.append(
            Character(
                glyph.label if is_visible else IGNORED,
                x + width / 2,
                y + height / 2,
                float(width),
                float(height),
                writing.line,
            )
        )
    return float(x + width)


def _print_on_paper(
    writing: _Writing, tilts: tuple[float, float], random: Random
) -> tuple[UInt8[np.ndarray, "h w"], list[Character]]:
    """Lay the ink on paper, turn the sheet a little, and take a picture of it."""
    ink, characters, shape = writing.ink, writing.characters, writing.ink.shape
    rules = draw_rules(shape, writing.unit, random) if random.random() < 0.4 else None
    turned = random.random()
    if turned < 0.7:
        degrees = random.normal(0, tilts[0] if turned < 0.5 else tilts[1])
        matrix = _perspective(shape, float(np.clip(degrees, -45, 45)), random)
        ink = cv2.warpPerspective(ink, matrix, shape[::-1])
        characters = [_moved(each, matrix, shape) for each in characters]
        if rules is not None and random.random() < 0.7:
            rules = cv2.warpPerspective(rules, matrix, shape[::-1])
    paper = make_paper(shape, random)
    strength = random.uniform(0.2, 1.0) if random.random() < 0.4 else random.uniform(0.6, 1.0)
    if random.random() < 0.2:  # a dry pen, chalk or a pencil
        grain = int(max(shape) / random.uniform(1, 4))
        gaps = cloud(shape, max(2, grain), random) < random.uniform(-1, 0)
        ink = ink * (1 - np.float32(random.uniform(0.2, 0.8)) * gaps)
    cover = ink * np.float32(strength)
    if rules is not None:
        cover = np.maximum(cover, rules * (1 - 0.3 * ink))
    if random.random() < 0.05:  # what is written on the other side
        other = cv2.GaussianBlur(ink[:, ::-1], (0, 0), writing.unit / 16)
        paper = paper * (1 - np.float32(random.uniform(0.03, 0.2)) * np.roll(other, 37, axis=0))
    dark = np.float32(random.uniform(0, 0.25) * paper.mean())
    return photograph(paper * (1 - cover) + dark * cover, random), characters


def _crop_tightly(
    pixels: UInt8[np.ndarray, "h w"], characters: list[Character], random: Random
) -> tuple[UInt8[np.ndarray, "h w"], list[Character]]:
    """Crop a page to one of its lines or characters; put it on blank ground of the page's size."""
    height, width = pixels.shape
    seen = [each for each in characters if each.label != IGNORED]
    if not seen:
        return pixels, characters
    chosen = seen[random.integers(len(seen))]
    if random.random() < 0.6:
        kept = [each for each in seen if each.line == chosen.line]
    else:
        kept = [chosen]
    margin = random.uniform(0, 4, 4)
    left = max(0, int(min(each.x - each.width / 2 for each in kept) - margin[0]))
    top = max(0, int(min(each.y - each.height / 2 for each in kept) - margin[1]))
    right = min(width, int(max(each.x + each.width / 2 for each in kept) + margin[2]) + 1)
    bottom = min(height, int(max(each.y + each.height / 2 for each in kept) + margin[3]) + 1)
    crop = np.ascontiguousarray(pixels[top:bottom, left:right])
    down = int(random.integers(0, height - (bottom - top) + 1))
    across = int(random.integers(0, width - (right - left) + 1))
    rest = height - (bottom - top) - down, width - (right - left) - across
    placed = surround(crop, (down, rest[0], across, rest[1]))
    moved = [
        replace(
            each,
            label=each.label if each in kept else IGNORED,
            x=each.x - left + across,
            y=each.y - top + down,
        )
        for each in characters
        if left < each.x + each.width / 2
        and each.x - each.width / 2 < right
        and top < each.y + each.height / 2
        and each.y - each.height / 2 < bottom
    ]
    return placed, moved


def _crop_page_around(
    pixels: UInt8[np.ndarray, "h w"], written: list[Character], random: Random
) -> UInt8[np.ndarray, "h w"]:
    """Let a line's page end close to its characters; what is beyond is blank."""
    height, width = pixels.shape
    left = int(random.uniform(0, max(0.0, min(each.x - each.width / 2 for each in written))))
    right = max(each.x + each.width / 2 for each in written)
    right = min(width, int(random.uniform(min(right, width), width)) + 1)
    above = int(random.uniform(0, max(0.0, min(each.y - each.height / 2 for each in written))))
    below = max(each.y + each.height / 2 for each in written)
    below = min(height, int(random.uniform(min(below, height), height)) + 1)
    page = np.ascontiguousarray(pixels[above:below, left:right])
    return surround(page, (above, height - below, left, width - right))


def _perspective(
    shape: tuple[int, ...], degrees: float, random: Random
) -> Float32[np.ndarray, "3 3"]:
    """Return a rotation about the center, seen from the side."""
    height, width = shape
    angle = np.deg2rad(degrees)
    cosine, sine = np.cos(angle), np.sin(angle)
    slopes = random.normal(0, 0.06, 2) / max(shape)
    turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [*slopes, 1]])
    center = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1.0]])
    return (np.linalg.inv(center) @ turn @ center).astype(np.float32)


def _moved(
    character: Character, matrix: Float32[np.ndarray, "3 3"], shape: tuple[int, ...]
) -> Character:
    """Move a character's box as a page's points are moved."""
    half = np.array([character.width, character.height]) / 2
    corners = np.array(list(itertools.product((-1, 1), repeat=2))) * half
    center = np.array([character.x, character.y])
    points = np.c_[center + corners, np.ones(4)] @ matrix.T
    points = points[:, :2] / points[:, 2:]
    low, high = points.min(axis=0), points.max(axis=0)
    inside = np.minimum(high, shape[::-1]) - np.maximum(low, 0)
    is_visible = np.prod(np.maximum(inside, 0)) >= _LEAST_VISIBLE * np.prod(high - low)
    (x, y), (width, height) = ((low + high) / 2).tolist(), (high - low).tolist()
    label = character.label if is_visible else IGNORED
    return replace(character, label=label, x=x, y=y, width=width, height=height)

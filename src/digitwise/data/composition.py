"""Compose pages whose characters are known, for a page network to learn from.

Every page is new, and depends on (seed, epoch, index) alone.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import UInt8

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
from digitwise.data.paper import draw_clutter
from digitwise.data.writing import (
    IGNORED,
    Character,
    Writing,
    crop_page_around,
    crop_tightly,
    print_on_paper,
    put_glyph,
)

TILE = 192  # pixels: the side of what a page network is trained on
LINE = 48, 384  # pixels: height and width of what a line network is trained on
LINE_UNIT = 28  # pixels: height of the digits in it
_UNITS = 13.0, 64.0  # pixels: heights of digits
_LARGE_UNITS = 120.0, 450.0  # pixels: of digits that must be read at a coarser scale
_CROPPED = 0.06  # share of the tiles that show a line, or a character, cropped tightly
_PENS = 0.024, 0.21  # digit heights
_UNEVENNESS = 0.05, 0.08, 0.3  # of the characters' sizes: one of these for a page
_SINKS = 0.0, 0.5, 0.5  # likewise, of small characters
_TILTS = 4.0, 16.0  # standard deviations of page rotation, in degrees: usual, large
_LINE_TILTS = 0.7, 2.0  # likewise, of deskewed lines
_CROPPED_LINES = 0.15  # share of the lines whose page ends close to them
_COARSE = 0.25  # share of the lines that have a lower resolution
_LINE_RISE = 0.012  # digit heights a character, by which leveled lines still rise or fall
Random = np.random.Generator


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
        self._kinds: dict[Callable[[Writing, Random], None], float] = {
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
        writing = Writing(
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
        pixels, characters = print_on_paper(writing, _TILTS, random)
        if random.random() < _CROPPED:
            return crop_tightly(pixels, characters, random)
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
        writing = Writing(
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
        pixels, characters = print_on_paper(writing, _LINE_TILTS, random)
        if random.random() < _COARSE:  # a small line that was enlarged
            shrink = random.uniform(0.35, 0.8)
            small = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
            pixels = cv2.resize(small, LINE[::-1], interpolation=cv2.INTER_LINEAR)
        written = [each for each in characters if each.line == 0 and each.label != IGNORED]
        if written and random.random() < _CROPPED_LINES:
            pixels = crop_page_around(pixels, written, random)
        return pixels, written

    def _choose_hands(self, random: Random) -> list[Hand]:
        """Choose who writes: people, or a font."""
        people: list[Hand] = [self._digits, self._pen]
        if self._fonts and random.random() < 0.3:
            return [self._fonts[random.integers(len(self._fonts))], *people]
        return people

    def _letter(self, writing: Writing, in_word: bool, random: Random) -> Glyph | None:
        """Write a letter, by hand or in print."""
        letter = random_letter(random, in_word=in_word)
        if self._fonts and random.random() < 0.6:
            hand = self._fonts[random.integers(len(self._fonts))]
            return hand.write(letter, writing.pen, random)
        return self._pen.write(letter, writing.pen, random)

    def _write(
        self, writing: Writing, text: str, left: float, middle: float, gap: float, random: Random
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
            left = put_glyph(writing, glyph, left, middle + offset * writing.unit, size, random)
            left += max(gap + random.normal(0, 0.08), -0.3) * writing.unit
        writing.line += 1
        return left

    def _write_glyph(self, writing: Writing, character: str, random: Random) -> Glyph | None:
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

    def _write_numbers(self, writing: Writing, random: Random) -> None:
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

    def _write_amounts(self, writing: Writing, random: Random) -> None:
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

    def _write_expressions(self, writing: Writing, random: Random) -> None:
        """Write sums and other expressions."""
        gap, middle = random.uniform(0.0, 0.7), random.uniform(0, 1.2) * writing.unit
        while middle < writing.height:
            text = _expression(4, random)
            left = random.uniform(-3, 1) * writing.unit
            self._write(writing, text, left, middle, gap, random)
            middle += random.uniform(1.4, 3.0) * writing.unit

    def _fill_table(self, writing: Writing, random: Random) -> None:
        """Write numbers into a table's cells."""
        self._fill_cells(writing, random, random.uniform(1.5, 5.0), is_form=False)

    def _fill_boxes(self, writing: Writing, random: Random) -> None:
        """Write a digit into each box of a form."""
        self._fill_cells(writing, random, random.uniform(1.1, 1.6), is_form=True)

    def _fill_cells(self, writing: Writing, random: Random, cell: float, *, is_form: bool) -> None:
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

    def _write_one(self, writing: Writing, random: Random) -> None:
        """Write one character."""
        text = SIGNS[random.integers(len(SIGNS))] if random.random() < 0.3 else _number(random)[0]
        left, middle = random.uniform(0.1, 0.8, 2) * (writing.width, writing.height)
        self._write(writing, text, left, middle, 0.0, random)

    def _scatter(self, writing: Writing, random: Random) -> None:
        """Write single digits all over the page."""
        area = writing.width * writing.height / writing.unit**2
        for _ in range(int(random.integers(2, 4 + int(area / 4)))):
            left, middle = random.uniform(0, 1, 2) * (writing.width, writing.height)
            places = ((each.x, each.y) for each in writing.characters)
            if all(np.hypot(left - x, middle - y) > 1.3 * writing.unit for x, y in places):
                self._write(writing, str(random.integers(10)), left, middle, 0.0, random)

    def _write_words(self, writing: Writing, random: Random) -> None:
        """Write words alone."""
        middle = random.uniform(0, 1) * writing.unit
        while middle < writing.height:
            left = random.uniform(-1, 1) * writing.unit
            while left < writing.width:
                left = self._write(writing, _word(random), left, middle, 0.08, random)
                left += 0.7 * writing.unit
            middle += random.uniform(1.4, 2.4) * writing.unit

    def _write_too_large(self, writing: Writing, random: Random) -> None:
        """Write digits so large that they are no characters at this scale: what is seen is part."""
        unit = writing.unit
        writing.unit = _between(*_LARGE_UNITS, random)
        left, middle = random.uniform(-1, 0.6), random.uniform(-0.5, 1.5)
        size = writing.width
        self._write(writing, _number(random), left * size, middle * size, 0.1, random)
        writing.characters.clear()
        writing.unit = unit


def _leave_empty(writing: Writing, random: Random) -> None:
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
        return _expression(3, random)
    if kind < 0.9:
        return f"{_number(random)} {_number(random)}"
    if kind < 0.97:
        return f"{_word(random)} {_number(random)}" if random.random() < 0.5 else _word(random)
    return ""


def _frame_line(writing: Writing, middle: float, gap: float, random: Random) -> None:
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


def _expression(longest: int, random: Random) -> str:
    """Return an expression of one to `longest` operations."""
    text = str(random.integers(0, 100))
    for _ in range(int(random.integers(1, longest + 1))):
        term = str(random.integers(0, 100))
        if random.random() < 0.2:
            term = f"({term}{'+-×'[random.integers(3)]}{random.integers(10)})"
        text += "+-×÷/"[random.integers(5)] + term
    return text + ("", "=", f"={random.integers(100)}")[random.integers(3)]


def _word(random: Random) -> str:
    """Return a word of one to eight letters, as `Composer._write` takes it."""
    letters = int(random.integers(1, 9))
    return "w" * letters if letters > 2 else "a" * letters

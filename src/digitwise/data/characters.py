"""Characters to compose pages from: handwritten digits and signs, and letters, which are neither.

A glyph knows where it stands on its line, so that what is written with several glyphs has the
sizes and heights that handwriting has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import cv2
import matplotlib
import numpy as np
from jaxtyping import Bool, UInt8

from digitwise.data.catalog import CHARACTERS, DIGITS, OTHER, SIGNS
from digitwise.data.fonts import HandwritingFont
from digitwise.data.formats import LabeledImages
from digitwise.data.styles import restyle, skeletons, write_allograph

_CLEAR = "AEFHKMNPRWXadefhkmnpruvwy%$#&@?!*"  # letters that look like no digit or sign
_LETTERS = _CLEAR + "BCDGIJLOQSTUVYZbcgijloqstxz:;"
_PRINTED = "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf"
_UNIT = 20  # pixels: the height of MNIST's digits
_MIDDLE = 14  # row and column of their centers
_RESTYLED = 0.2  # share of 0s, 1s, 7s and 9s that also occur with a stroke of other hands
_ALLOGRAPHS = 500  # digits of each class that are written from strokes
_THINNEST_SCANNED = 0.085  # digit heights: with thinner pens, digits are redrawn
_REDRAWN = 12_000  # digits whose skeletons are known
_FINE = 3  # pixels of a redrawn digit for each of MNIST's
_SCALE = 64  # pixels to a digit height, of signs
Random = np.random.Generator


@dataclass(frozen=True)
class Glyph:
    """A character as it was written.

    Attributes:
        ink: its ink, bright, cropped.
        top: from the middle of the line to the ink's upper edge, in digit heights.
        height: of the ink, in digit heights.
        label: an index into CHARACTERS, or OTHER.
    """

    ink: UInt8[np.ndarray, "h w"]
    top: float
    height: float
    label: int


@runtime_checkable
class Hand(Protocol):
    """Someone who writes characters."""

    def write(self, character: str, pen: float, random: Random) -> Glyph | None:
        """Write a character with a pen as thick as `pen` digit heights; None if it cannot."""
        ...


class Digits:
    """Handwritten digits of labeled sets, also with strokes and forms of other hands.

    Args:
        images: labeled 28×28 digits.
        seed: of the strokes and forms.
    """

    def __init__(self, images: LabeledImages, seed: int) -> None:
        random = np.random.default_rng([seed, 0])
        x, y = np.asarray(images.x), images.y
        restyled = np.flatnonzero(np.isin(y, (0, 1, 7, 9)) & (random.random(len(y)) < _RESTYLED))
        drawn = [
            (restyle(x[index], skeleton, int(y[index]), random), int(y[index]))
            for index, skeleton in zip(restyled.tolist(), skeletons(x[restyled]), strict=True)
        ]
        drawn += [
            (write_allograph(label, random), label)
            for label in (1, 3, 4, 5, 7, 9)
            for _ in range(_ALLOGRAPHS)
        ]
        self._x = np.concatenate([x, np.stack([image for image, _ in drawn])])
        labels = np.concatenate([y, [label for _, label in drawn]])
        self._of_class = [np.flatnonzero(labels == label) for label in range(10)]
        chosen = random.permutation(len(labels))[:_REDRAWN]
        self._skeletons = skeletons(self._x[chosen])
        self._skeletons_of_class = [np.flatnonzero(labels[chosen] == label) for label in range(10)]

    def write(self, character: str, pen: float, random: Random) -> Glyph | None:
        """Take a digit as it was scanned, or, for thin pens, redraw its skeleton."""
        label = DIGITS.index(character)
        if pen < _THINNEST_SCANNED:
            indices = self._skeletons_of_class[label]
            skeleton = self._skeletons[indices[random.integers(len(indices))]]
            image, size = _redraw(skeleton, pen), _FINE
        else:
            indices = self._of_class[label]
            image, size = self._x[indices[random.integers(len(indices))]], 1
        x, y, width, height = cv2.boundingRect((image > 40).astype(np.uint8))
        if not height:
            return None
        return Glyph(
            image[y : y + height, x : x + width],
            (y / size - _MIDDLE) / _UNIT,
            height / size / _UNIT,
            label,
        )


def _redraw(skeleton: Bool[np.ndarray, "28 28"], pen: float) -> UInt8[np.ndarray, "h w"]:
    """Draw along a skeleton's pixels with another pen."""
    canvas = np.zeros((28 * _FINE, 28 * _FINE), np.uint8)
    segments = []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        moved = np.zeros_like(skeleton)
        target = moved[: 28 - down, max(0, -right) : 28 - max(0, right)]
        target[:] = skeleton[down:, max(0, right) : 28 + min(0, right)]
        rows, columns = np.nonzero(skeleton & moved)
        start = np.column_stack([columns, rows])
        segments.append(np.stack([start, start + np.array([right, down])], axis=1))
    at = ((np.concatenate(segments) + 0.5) * _FINE * 16).astype(np.int32)
    thickness = max(1, round(pen * _UNIT * _FINE))
    cv2.polylines(canvas, list(at), False, 255, thickness, cv2.LINE_AA, shift=4)
    return cv2.GaussianBlur(canvas, (0, 0), 0.35 * _FINE)


class FontHand:
    """The hand of a font: digits, signs and letters.

    Args:
        font: the font; characters that it lacks are not written.
    """

    def __init__(self, font: HandwritingFont) -> None:
        self._font = font
        _, top, _, bottom = font.box("8")
        self._height, self._middle = bottom - top, (top + bottom) / 2
        self._known: dict[str, Glyph | None] = {}

    def write(
        self,
        character: str,
        pen: float,  # noqa: ARG002
        random: Random,  # noqa: ARG002
    ) -> Glyph | None:
        """Return the font's glyph, whatever the pen."""
        if character not in self._known:
            self._known[character] = self._draw(character)
        return self._known[character]

    def _draw(self, character: str) -> Glyph | None:
        form = "−" if character == "-" and self._font.draw("−") is not None else character
        ink = self._font.draw(form)
        if ink is None:
            return None
        top = (self._font.box(form)[1] - self._middle) / self._height
        return Glyph(ink, top, len(ink) / self._height, _label(character))


class PenStrokes:
    """A hand that draws the ten signs with geometric variety, and prints letters."""

    def __init__(self) -> None:
        folder = matplotlib.get_data_path()
        self._printed = [
            FontHand(HandwritingFont(Path(folder) / "fonts" / "ttf" / name)) for name in _PRINTED
        ]

    def write(self, character: str, pen: float, random: Random) -> Glyph | None:
        """Draw a sign, or print a letter with one of matplotlib's or OpenCV's fonts."""
        if character in SIGNS:
            return draw_sign(character, pen, random)
        if random.random() < 0.5:
            return self._printed[random.integers(len(self._printed))].write(character, pen, random)
        canvas = np.zeros((96, 96), np.uint8)
        face, thickness = int(random.integers(0, 8)), int(random.integers(1, 7))
        cv2.putText(canvas, character, (20, 66), face, 2.0, 255, thickness, cv2.LINE_AA)
        x, y, width, height = cv2.boundingRect(canvas)
        if not height:
            return None
        ink = canvas[y : y + height, x : x + width]
        return Glyph(ink, (y - 45) / 42, height / 42, _label(character))


def random_letter(random: Random, *, in_word: bool) -> str:
    """Return a letter or symbol; in words, also one that looks like a digit or a sign."""
    letters = _LETTERS if in_word else _CLEAR
    return letters[random.integers(len(letters))]


def _label(character: str) -> int:
    return CHARACTERS.index(character) if character in CHARACTERS else OTHER


def draw_sign(sign: str, pen: float, random: Random) -> Glyph:
    """Draw a sign with varied proportions.

    Args:
        sign: one of SIGNS.
        pen: the stroke's width in digit heights.
        random: the source of all random choices.
    """
    u = random.uniform
    half = u(0.2, 0.42)
    middle = u(-0.08, 0.14)
    tilt = random.normal(0, 0.04)

    def across(y: float, reach: float = half) -> list[tuple[float, float]]:
        return [(-reach, y + tilt), (0.0, y + random.normal(0, 0.02)), (reach, y - tilt)]

    match sign:
        case "+":
            tall, lean = half * u(0.8, 1.25), random.normal(0, 0.04)
            strokes = [across(middle), [(lean, middle - tall), (-lean, middle + tall)]]
        case "-":
            low = u(0.14, 0.4) if random.random() < 0.25 else middle
            strokes = [across(low, u(0.15, 0.5))]
        case "×":
            tall, rise = half * u(0.7, 1.2), half * u(0.7, 1.2)
            strokes = [
                [(-half, middle - tall), (half, middle + tall)],
                [(half, middle - rise), (-half, middle + rise)],
            ]
        case "÷":
            apart = u(0.16, 0.32)
            strokes = [
                across(middle),
                [(-0.02, middle - apart), (0.02, middle - apart)],
                [(-0.02, middle + apart), (0.02, middle + apart)],
            ]
        case "=":
            apart = u(0.07, 0.2)
            strokes = [across(middle - apart), across(middle + apart, half * u(0.8, 1.2))]
        case "(" | ")":
            tall, deep = u(0.5, 0.8), u(0.1, 0.3) * (-1 if sign == "(" else 1)
            turns = np.linspace(-1, 1, 9).tolist()
            strokes = [[(deep * (0.5 - turn * turn), middle + tall * turn) for turn in turns]]
        case "/":
            tall, wide = u(0.5, 0.8), u(0.15, 0.4)
            strokes = [
                [(wide, middle - tall), (random.normal(0, 0.03), middle), (-wide, middle + tall)]
            ]
        case ".":
            pen, low = pen * u(0.9, 1.6), u(0.38, 0.55)
            strokes = [[(-0.01, low), (0.01, low + u(-0.01, 0.02))]]
        case _:
            low = u(0.36, 0.52)
            strokes = [
                [
                    (u(0.0, 0.05), low),
                    (0.01, low + u(0.06, 0.12)),
                    (-u(0.02, 0.14), low + u(0.14, 0.3)),
                ]
            ]
    return _draw_strokes(strokes, pen, _label(sign), random)


def _draw_strokes(
    strokes: Sequence[Sequence[tuple[float, float]]], pen: float, label: int, random: Random
) -> Glyph:
    """Draw strokes whose points are (x, y) in digit heights from the middle of the line."""
    points = [np.array(stroke) + random.normal(0, 0.012, (len(stroke), 2)) for stroke in strokes]
    everything = np.concatenate(points)
    low, high = everything.min(axis=0) - pen, everything.max(axis=0) + pen
    width, height = (np.ceil((high - low) * _SCALE).astype(int) + 2).tolist()
    canvas = np.zeros((height, width), np.uint8)
    for stroke in points:
        at = np.round((stroke - low) * _SCALE * 16).astype(np.int32)
        thickness = max(1, round(pen * _SCALE))
        cv2.polylines(canvas, [at], False, 255, thickness, cv2.LINE_AA, shift=4)
    x, y, width, height = cv2.boundingRect(canvas)
    ink = canvas[y : y + height, x : x + width]
    return Glyph(ink, float(low[1]) + y / _SCALE, height / _SCALE, label)

"""Strokes of a pen, finger or mouse → pixels."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from digitwise.errors import DigitwiseError

MOST_POINTS = 20_000
LARGEST_SIDE = 4096
WIDEST_STROKE = 200.0
MOST_WORK = 200_000_000  # pixels that drawing touches: at worst 0.8 s of processor time
_FRACTION_BITS = 4  # of a pixel, in OpenCV's coordinates
_LEAST_PRESSURE = 0.1
_EDGE = 20  # pixels of a line's width that take as long to fill as its smooth edges

_Point = tuple[float, float, float]


def draw_strokes(
    strokes: Any, width: Any, height: Any, stroke_width: Any
) -> UInt8[np.ndarray, "h w"]:
    """Draws strokes as dark ink on white; takes them as they come from JSON, and checks them.

    Args:
        strokes: each a sequence of points [x, y] or [x, y, pressure], x and y in pixels from the
            upper left corner, pressure in [0, 1], 0.5 where it is left out.
        width: of the picture, in pixels.
        height: likewise.
        stroke_width: in pixels, of a stroke drawn with a pressure of 0.5.

    Raises:
        DigitwiseError: the sizes, a point or their number is not sensible, or drawing would take
            too long; nothing has been drawn then.
    """
    for name, side in (("width", width), ("height", height)):
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= LARGEST_SIDE:
            raise DigitwiseError(f"{name}: a whole number from 1 to {LARGEST_SIDE} is needed")
    if not _is_number(stroke_width) or not 0 < stroke_width <= WIDEST_STROKE:
        raise DigitwiseError(f"stroke_width: a number from 0 to {WIDEST_STROKE:g} is needed")
    check_count(strokes)
    parts: list[tuple[_Point, _Point]] = []
    for number, stroke in enumerate(strokes):
        points = [_point(point, number, max(width, height)) for point in stroke]
        parts += itertools.pairwise(points * 2 if len(points) == 1 else points)
    widths = [max(1, round(stroke_width * (start[2] + end[2]))) for start, end in parts]
    if sum(map(_work, parts, widths)) > MOST_WORK:
        raise DigitwiseError(
            f"strokes: drawing them would touch more than {MOST_WORK:,} pixels: send fewer or "
            "shorter strokes, or a smaller stroke_width"
        )
    paper = np.full((height, width), 255, np.uint8)
    for (start, end), thickness in zip(parts, widths, strict=True):
        _draw_part(paper, start, end, thickness)
    return paper


def check_count(strokes: Any) -> None:
    """Check that strokes are lists, and neither too many nor too long, without looking at points.

    Raises:
        DigitwiseError: they are not.
    """
    if not isinstance(strokes, Sequence) or isinstance(strokes, str):
        raise DigitwiseError("strokes: a list of strokes is needed, each a list of points")
    count = 0
    for number, stroke in enumerate(strokes):
        if not isinstance(stroke, Sequence) or isinstance(stroke, str):
            raise DigitwiseError(f"strokes: stroke {number} is no list of points")
        count += max(1, len(stroke))
        if count > MOST_POINTS:
            raise DigitwiseError(f"strokes: more than {MOST_POINTS:,} points")


def _is_number(value: object) -> bool:
    """Tells whether something from JSON is a finite number."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < 1e9  # a whole number may be too large for a float
        and math.isfinite(value)
    )


def _point(point: Any, number: int, side: int) -> _Point:
    """Takes a point, kept near the picture."""
    if (
        not isinstance(point, Sequence)
        or len(point) not in (2, 3)
        or not all(_is_number(value) for value in point)
    ):
        raise DigitwiseError(f"strokes: stroke {number} has a point that is no [x, y, pressure]")
    x, y = (min(max(float(value), -1.0 * side), 2.0 * side) for value in point[:2])
    pressure = min(max(float(point[2]), 0.0), 1.0) if len(point) == 3 else 0.5
    return x, y, max(pressure, _LEAST_PRESSURE)


def _work(part: tuple[_Point, _Point], thickness: int) -> float:
    """Estimate the pixels that drawing the line between two points touches."""
    (x, y, _), (to_x, to_y, _) = part
    return (math.hypot(to_x - x, to_y - y) + thickness) * (thickness + _EDGE)


def _draw_part(paper: UInt8[np.ndarray, "h w"], start: _Point, end: _Point, thickness: int) -> None:
    """Draws the line between two points, round at its ends."""
    ends = [
        (round(x * 2**_FRACTION_BITS), round(y * 2**_FRACTION_BITS)) for x, y, _ in (start, end)
    ]
    cv2.line(paper, ends[0], ends[1], 0, thickness, cv2.LINE_AA, _FRACTION_BITS)

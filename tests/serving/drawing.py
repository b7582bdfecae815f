"""Strokes to draw with: traced from images of digits, and recorded by hand."""

import cv2
import numpy as np

Strokes = list[list[tuple[float, float]]]  # x and y in digit heights, from the upper left corner

# Drawn by hand in a box one digit high, coordinates in hundredths; a European 1 and 7 among them.
_BY_HAND = {
    "0": [[(45, 2), (22, 10), (8, 38), (10, 70), (30, 97), (55, 92), (68, 62), (62, 24), (44, 3)]],
    "1": [[(5, 48), (22, 24), (40, 0), (41, 33), (39, 68), (42, 100)]],
    "2": [
        [(6, 24), (15, 6), (38, 0), (58, 12), (57, 34), (38, 60), (16, 84), (3, 98), (30, 95)],
        [(30, 95), (68, 99)],
    ],
    "3": [
        [(8, 8), (34, 0), (55, 12), (50, 34), (26, 46), (52, 54), (62, 74), (48, 94), (22, 100)],
        [(22, 100), (4, 90)],
    ],
    "4": [[(38, 0), (20, 34), (2, 62), (34, 64), (68, 62)], [(50, 38), (48, 70), (49, 100)]],
    "5": [
        [(14, 2), (11, 42), (34, 36), (58, 48), (62, 72), (44, 96), (18, 99), (2, 88)],
        [(14, 2), (62, 0)],
    ],
    "6": [
        [(48, 0), (24, 24), (8, 58), (12, 88), (36, 100), (58, 86), (56, 62), (34, 54), (11, 72)]
    ],
    "7": [[(2, 4), (34, 2), (64, 0), (48, 36), (32, 70), (24, 100)], [(20, 50), (58, 46)]],
    "8": [
        [(56, 12), (34, 0), (12, 14), (18, 34), (44, 52), (62, 74), (48, 96), (22, 98), (6, 78)],
        [(6, 78), (22, 54), (48, 34), (56, 12)],
    ],
    "9": [
        [(58, 18), (38, 2), (12, 14), (8, 38), (28, 52), (52, 38), (58, 18), (54, 60), (44, 100)]
    ],
}
BY_HAND: dict[str, Strokes] = {
    digit: [[(x / 100, y / 100) for x, y in stroke] for stroke in strokes]
    for digit, strokes in _BY_HAND.items()
}


def trace(image: np.ndarray) -> Strokes:
    """Traces a digit's skeleton as a pen would draw it.

    Args:
        image: (28, 28) uint8, ink bright.
    """
    large = cv2.resize(image, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    skeleton = _thin(large > 80)
    left = {(int(x), int(y)) for y, x in np.argwhere(skeleton)}
    strokes: list[list[tuple[int, int]]] = []
    while left:
        ends = [place for place in left if len(_near(place, left)) <= 1]
        place = min(ends or left, key=lambda at: (at[1], at[0]))
        stroke = [place]
        left.discard(place)
        while following := _near(place, left):
            place = min(following, key=lambda at: _turn(stroke, at))
            stroke.append(place)
            left.discard(place)
        strokes.append(stroke)
    strokes = [
        [*_joint(strokes, stroke, 0), *stroke, *_joint(strokes, stroke, -1)] for stroke in strokes
    ]
    whole = np.concatenate(strokes)
    corner, height = whole.min(axis=0), max(1, np.ptp(whole[:, 1]))
    kept = [stroke for stroke in strokes if len(stroke) > 3 or len(strokes) == 1]
    smooth = [cv2.approxPolyDP(np.array(stroke, np.int32), 1.2, False)[:, 0] for stroke in kept]
    return [[tuple(point) for point in ((stroke - corner) / height).tolist()] for stroke in smooth]


def _joint(
    strokes: list[list[tuple[int, int]]], stroke: list[tuple[int, int]], end: int
) -> list[tuple[int, int]]:
    """Finds where a stroke's end meets another, or its own other end."""
    own = stroke[6:] if end == 0 else stroke[:-6]
    others = own + [place for other in strokes if other is not stroke for place in other]
    if not others:
        return []
    away = np.abs(np.subtract(others, stroke[end])).max(axis=1)
    return [others[int(away.argmin())]] if away.min() <= 2 else []


def _near(place: tuple[int, int], places: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Lists the neighbors of a place, those that share a side first."""
    x, y = place
    sides = [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
    corners = [(x + 1, y + 1), (x - 1, y - 1), (x + 1, y - 1), (x - 1, y + 1)]
    return [other for other in sides + corners if other in places]


def _turn(stroke: list[tuple[int, int]], place: tuple[int, int]) -> float:
    """Tells how sharply a stroke turns that goes on to a place."""
    back = np.subtract(stroke[-1], stroke[max(0, len(stroke) - 5)])
    return float(-np.dot(back, np.subtract(place, stroke[-1])))


def _thin(ink: np.ndarray) -> np.ndarray:
    """Thins ink to lines of one pixel (Zhang and Suen, 1984)."""
    ink = np.pad(ink, 1).astype(np.uint8)
    changed = True
    while changed:
        changed = False
        for first in (True, False):
            around = [
                np.roll(ink, (-dy, -dx), (0, 1))
                for dx, dy in ((0, -1), (1, -1), (1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1))
            ]
            count = sum(around)
            rises = sum(
                (a == 0) & (b == 1) for a, b in zip(around, [*around[1:], around[0]], strict=True)
            )
            up, right, down, side = around[0], around[2], around[4], around[6]
            open_ = (
                ((up * right * down) == 0) & ((right * down * side) == 0)
                if first
                else ((up * right * side) == 0) & ((up * down * side) == 0)
            )
            gone = (ink == 1) & (count >= 2) & (count <= 6) & (rises == 1) & open_
            changed |= bool(gone.any())
            ink[gone] = 0
    return ink[1:-1, 1:-1].astype(bool)

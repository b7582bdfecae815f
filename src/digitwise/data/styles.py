"""Ways to write digits that MNIST's writers seldom used, drawn along a digit's own strokes.

Bars on 7s, upstrokes and feet on 1s, lightning-shaped and open 4s, curled tails of 9s, slashed and
dotted zeros: `restyle` adds them to real digits, along their skeletons, and `write_allograph`
writes whole digits from strokes.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from digitwise.data.normalization import fit_to_mnist

_INK = 90  # of 255, from which a pixel belongs to a stroke
_PAD = 16  # pixels around an image for strokes that leave it
_ZOOM = 3  # canvas pixels for each of the image's, while strokes are added
_BACK = 5  # skeleton pixels that give a stroke's direction at its end
_SIZE = 84  # pixels of a written digit's height
Image = UInt8[np.ndarray, "28 28"]
Canvas = UInt8[np.ndarray, "_ _"]
Points = Float[np.ndarray, "_ 2"]  # x and y
Point = Float[np.ndarray, "2"]
Random = np.random.Generator


def skeletons(x: UInt8[np.ndarray, "n h w"]) -> Bool[np.ndarray, "n h w"]:
    """Thin strokes to one pixel.

    The method is that of Zhang and Suen ("A fast parallel algorithm for thinning digital
    patterns", 1984), for all images at once.

    Args:
        x: images, ink bright.
    """
    ink = np.pad(x > _INK, ((0, 0), (1, 1), (1, 1)))
    changed = True
    while changed:
        changed = False
        for turn in (0, 1):
            up, right, down, left = (
                ink[:, :-2, 1:-1],
                ink[:, 1:-1, 2:],
                ink[:, 2:, 1:-1],
                ink[:, 1:-1, :-2],
            )
            ring = [
                up,
                ink[:, :-2, 2:],
                right,
                ink[:, 2:, 2:],
                down,
                ink[:, 2:, :-2],
                left,
                ink[:, :-2, :-2],
            ]
            neighbors = sum(pixel.view(np.uint8) for pixel in ring)
            steps = sum(
                (~first & second).view(np.uint8)
                for first, second in zip(ring, ring[1:] + ring[:1], strict=True)
            )
            removable = (neighbors >= 2) & (neighbors <= 6) & (steps == 1)
            if turn == 0:
                removable &= ~(up & right & down) & ~(right & down & left)
            else:
                removable &= ~(up & right & left) & ~(up & down & left)
            removable &= ink[:, 1:-1, 1:-1]
            if removable.any():
                ink[:, 1:-1, 1:-1] &= ~removable
                changed = True
    return ink[:, 1:-1, 1:-1]


def restyle(image: Image, skeleton: Bool[np.ndarray, "28 28"], label: int, random: Random) -> Image:
    """Give a digit a stroke that other hands write.

    Args:
        image: an MNIST-like digit, ink bright.
        skeleton: its strokes, one pixel wide.
        label: the digit, 0 to 9.
        random: the source of all random choices.

    Returns:
        The digit with the stroke, or as it was if its skeleton has no place for one.
    """
    rows, columns = np.nonzero(skeleton)
    if label not in _RESTYLES or len(rows) < 8 or np.ptp(rows) < 10:
        return image
    stroke = float(np.clip((image > _INK).sum() / len(rows), 1.0, 5.0))
    added = _RESTYLES[label](np.stack([columns, rows], 1).astype(float), random)
    if not added:
        return image
    around = np.pad(image, _PAD)
    canvas = cv2.resize(around, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_CUBIC)
    thickness = max(1, round(_ZOOM * stroke * random.uniform(0.7, 1.1)))
    for line in added:
        _draw(canvas, (line + _PAD + 0.5) * _ZOOM, thickness)
    return fit_to_mnist(canvas)


def write_allograph(label: int, random: Random) -> Image:
    """Write a digit in a form that MNIST's writers seldom used.

    Args:
        label: the digit, 0 to 9.
        random: the source of all random choices.
    """
    forms = _ALLOGRAPHS[label]
    strokes = forms[int(random.integers(len(forms)))](random)
    width = _SIZE * random.uniform(0.5, 1.0)
    slant = random.normal(0, 0.15)
    canvas = np.zeros((2 * _SIZE, 3 * _SIZE), np.uint8)
    thickness = max(2, round(_SIZE * random.uniform(0.05, 0.17)))
    for corners in strokes:
        points = np.asarray(corners, float) + random.normal(0, 0.025, (len(corners), 2))
        curve = _smooth(points)
        x = curve[:, 0] * width - (curve[:, 1] - 0.5) * slant * _SIZE + _SIZE
        _draw(canvas, np.stack([x, curve[:, 1] * _SIZE + _SIZE / 2], 1), thickness)
    return fit_to_mnist(canvas)


def _draw(canvas: Canvas, points: Points, thickness: int) -> None:
    """Draw a line through points, between pixels, with round ends."""
    at = np.round(points * 16).astype(np.int32)
    cv2.polylines(canvas, [at], False, 255, thickness, cv2.LINE_AA, shift=4)


def _smooth(points: Points) -> Points:
    """Run a Catmull-Rom spline through points; two points give a straight line."""
    if len(points) < 3:
        return points
    ends = np.concatenate([[2 * points[0] - points[1]], points, [2 * points[-1] - points[-2]]])
    t = np.linspace(0, 1, 8, endpoint=False)[:, np.newaxis]
    curve = [
        b
        + t * (c - a) / 2
        + t**2 * (2 * a - 5 * b + 4 * c - d) / 2
        + t**3 * (3 * (b - c) + d - a) / 2
        for a, b, c, d in zip(ends, ends[1:], ends[2:], ends[3:], strict=False)
    ]
    return np.concatenate([*curve, points[-1:]])


# Strokes that are added to a digit's skeleton; each takes its pixels as (n, 2), x and y


def _barred(pixels: Points, random: Random) -> list[Points]:
    """Cross the stem of a 7."""
    top, height = pixels[:, 1].min(), np.ptp(pixels[:, 1])
    row = top + height * random.uniform(0.38, 0.75)
    near = pixels[np.abs(pixels[:, 1] - row) < 1]
    if not len(near):
        return []
    middle = near.mean(axis=0)
    left, right = height * random.uniform(0.12, 0.38, 2)
    rise = random.normal(0.05, 0.15)
    bend = random.normal(0, 0.04) * height
    return [
        _smooth(
            np.array(
                [
                    middle + np.array([-left, rise * left]),
                    middle + np.array([0, bend]),
                    middle + np.array([right, -rise * right]),
                ]
            )
        )
    ]


def _upstroke_or_foot(pixels: Points, random: Random) -> list[Points]:
    """Start a 1 with an upstroke, set it on a foot, or both."""
    top = pixels[pixels[:, 1].argmin()]
    foot = pixels[pixels[:, 1].argmax()]
    height = foot[1] - top[1]
    added, kind = [], random.random()
    if kind < 0.8:
        fall = height * random.uniform(0.2, 1.0)
        reach = fall * random.uniform(0.35, 1.1)
        reach = min(reach, 0.65 * height)  # a longer, flatter one would be a 7's head
        end = top + np.array([-reach, fall])
        bend = (top + end) / 2 + random.normal(0, 0.05 * height, 2)
        bend[1] -= height * max(0, random.normal(0, 0.06))  # often an arch
        added.append(_smooth(np.array([top, bend, end])))
    if kind > 0.6:
        left, right = height * random.uniform(0.05, 0.4, 2)
        tilt = random.normal(0, 0.05) * height
        added.append(np.array([foot + np.array([-left, tilt]), foot + np.array([right, -tilt])]))
    return added


def _curled(pixels: Points, random: Random) -> list[Points]:
    """Curl the tail of a 9 to the left and up."""
    found = _lower_end(pixels)
    if found is None:
        return []
    end, heading = found
    height = np.ptp(pixels[:, 1])
    angle = np.arctan2(heading[1], heading[0])
    radius = height * random.uniform(0.1, 0.3)
    sweep = np.deg2rad(random.uniform(70, 230))
    straight = height * random.uniform(0, 0.25)
    points = [end, end + straight * heading]
    steps = 10
    for _ in range(steps):
        angle += sweep / steps
        step = radius * sweep / steps
        points.append(points[-1] + step * np.array([np.cos(angle), np.sin(angle)]))
        radius *= random.uniform(0.95, 1.12)
    return [np.array(points)]


def _lower_end(pixels: Points) -> tuple[Point, Point] | None:
    """Find where a digit's lowest stroke ends, and its direction there; None if it has no end."""
    present = {(int(x), int(y)) for x, y in pixels}
    ring = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    middle = pixels[:, 1].min() + 0.6 * np.ptp(pixels[:, 1])
    ends = [
        (x, y)
        for x, y in present
        if y > middle and sum((x + i, y + j) in present for i, j in ring) == 1
    ]
    if not ends:
        return None
    end = max(ends, key=lambda point: (point[1], point[0]))
    trail, seen = [end], {end}
    for _ in range(_BACK):
        x, y = trail[-1]
        following = [(x + i, y + j) for i, j in ring if (x + i, y + j) in present - seen]
        if not following:
            break
        trail.append(following[0])
        seen.add(following[0])
    heading = np.subtract(end, trail[-1]).astype(float)
    length = float(np.hypot(*heading))
    return (np.array(end, float), heading / length) if length else None


def _slashed_or_dotted(pixels: Points, random: Random) -> list[Points]:
    """Cross a zero with a slash, put a dot or a short stroke into it, or end it in a flourish."""
    if random.random() < 0.2:
        top = pixels[pixels[:, 1].argmin()]
        reach = np.ptp(pixels[:, 1]) * random.uniform(0.3, 0.8)
        rise = random.normal(0, 0.12) * reach
        return [np.array([top, top + np.array([reach, rise])])]
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    middle, half = (low + high) / 2, (high - low) / 2
    if random.random() < 0.75:
        reach = random.uniform(0.75, 1.35, 2)
        lean = random.uniform(0.55, 1.1)
        arm = np.array([half[0] * lean, -half[1]])
        if random.random() < 0.12:
            arm[0] = -arm[0]
        return [np.array([middle - reach[0] * arm, middle + reach[1] * arm])]
    arm = half * random.uniform(-0.12, 0.12, 2)
    return [np.array([middle - arm, middle + arm])]


_RESTYLES: dict[int, Callable[[Points, Random], list[Points]]] = {
    0: _slashed_or_dotted,
    1: _upstroke_or_foot,
    7: _barred,
    9: _curled,
}


# Whole digits from strokes: corners in a box of width and height 1, y downwards

Strokes = Sequence[Sequence[tuple[float, float]]]


def _lightning_4(random: Random) -> Strokes:
    """A long slanted stroke, a bar to the right, and a short stem across the bar."""
    u = random.uniform
    corner = (u(0.0, 0.2), u(0.5, 0.9))
    top = (u(0.3, 0.8), 0.0)
    knee = [corner] if random.random() < 0.6 else [corner, (corner[0] + 0.08, corner[1] + 0.04)]
    end = (u(0.8, 1.1), corner[1] + u(-0.12, 0.08))
    crossing = u(0.55, 0.85)
    stem_top = (crossing + u(-0.05, 0.15), corner[1] - u(0.08, 0.6))
    stem = [stem_top, (crossing + u(-0.15, 0.05), max(corner[1] + 0.05, u(0.85, 1.0)))]
    sharp = [[top, knee[0]], [knee[-1], end]] if random.random() < 0.5 else [[top, *knee, end]]
    return [*sharp, stem]


def _one_stroke_4(random: Random) -> Strokes:
    """Down, right, up and down again without lifting the pen."""
    u = random.uniform
    bar = u(0.45, 0.65)
    if random.random() < 0.3:  # no second stroke upwards
        turn = (u(0.6, 0.95), bar + u(-0.08, 0.05))
        return [[(u(0.4, 0.8), 0.0), (u(0.0, 0.15), bar)], [(0.08, bar), turn, (u(0.5, 0.9), 1.0)]]
    return [
        [
            (u(0.15, 0.45), 0.0),
            (u(0.0, 0.12), bar),
            (u(0.4, 0.55), bar + u(0.0, 0.08)),
            (u(0.75, 0.95), bar - u(0.05, 0.35)),
            (u(0.7, 0.9), bar + 0.1),
            (u(0.55, 0.85), 1.0),
        ]
    ]


def _curved_4(random: Random) -> Strokes:
    """A round left side that runs into the bar, and a stem across the bar."""
    u = random.uniform
    bar, stem = u(0.5, 0.7), u(0.55, 0.8)
    return [
        [
            (u(0.25, 0.5), u(0.0, 0.1)),
            (u(0.08, 0.2), 0.15),
            (u(0.0, 0.1), bar - 0.22),
            (u(0.15, 0.3), bar),
            (u(0.85, 1.1), bar - u(0.0, 0.2)),
        ],
        [(stem + u(0.0, 0.25), bar - u(0.05, 0.25)), (stem + u(-0.1, 0.05), 1.0)],
    ]


def _curled_9(random: Random) -> Strokes:
    """A loop, a stem, and a tail that curls to the left and up."""
    u = random.uniform
    right, waist = u(0.75, 0.95), u(0.3, 0.6)
    loop = [
        (right, u(0.1, 0.2)),
        (0.5, 0.0),
        (u(0.05, 0.2), waist / 2),
        (0.45, waist),
        (right, u(0.2, 0.35)),
    ]
    tail = [
        (right + u(-0.05, 0.08), u(0.6, 0.75)),
        (u(0.5, 0.7), 1.0),
        (u(0.1, 0.35), u(0.9, 1.0)),
        (u(-0.1, 0.2), u(0.68, 0.9)),
    ]
    if random.random() < 0.2:  # the tail curls to the right
        middle = right - u(0.1, 0.4)
        tail = [(middle, 0.75), (middle + u(0.0, 0.1), 1.0), (right + u(0.05, 0.3), u(0.88, 1.0))]
    return [[*loop, *tail[: random.integers(2, 5)]]]


def _open_9(random: Random) -> Strokes:
    """A loop written like a spiral and a tail to the lower left."""
    u = random.uniform
    return [
        [
            (u(0.6, 0.85), u(0.12, 0.3)),
            (0.45, 0.0),
            (u(0.0, 0.15), 0.25),
            (0.4, u(0.42, 0.52)),
            (u(0.8, 0.95), u(0.15, 0.3)),
            (u(0.75, 0.95), 0.55),
            (u(0.3, 0.6), 0.95),
            (u(0.0, 0.3), u(0.95, 1.05)),
        ]
    ]


def _upstroke_1(random: Random) -> Strokes:
    """A long upstroke, then the stem, sometimes on a foot."""
    u = random.uniform
    top, bottom = (u(0.5, 0.7), 0.0), (u(0.4, 0.75), 1.0)
    rise = u(0.25, 0.9)
    start = (top[0] - min(rise * u(0.5, 1.3), 0.8), rise)
    arch = ((start[0] + top[0]) / 2 - u(0, 0.1), rise / 2 - u(-0.05, 0.15))
    strokes = [[start, arch, top], [top, bottom]]
    if random.random() < 0.3:
        strokes.append([(bottom[0] - u(0.15, 0.4), 1.0), (bottom[0] + u(0.15, 0.4), 1.0)])
    return strokes


def _barred_7(random: Random) -> Strokes:
    """A head that may wave or start with a serif, a stem and a bar."""
    u = random.uniform
    corner = (u(0.75, 1.0), u(0.0, 0.08))
    head = [(u(0.0, 0.15), u(0.0, 0.12)), (0.45, u(-0.05, 0.1)), corner]
    stem = [corner, (u(0.45, 0.7), 0.5), (u(0.2, 0.55), 1.0)]
    if random.random() < 0.3:  # a hook at the lower end
        stem.append((stem[-1][0] + u(-0.3, 0.25), u(0.9, 1.02)))
    row = u(0.4, 0.75)
    middle = 0.6
    bar = [(middle - u(0.2, 0.4), row + u(-0.03, 0.1)), (middle + u(0.15, 0.4), row - u(0.0, 0.08))]
    strokes = [head, stem, bar]
    if random.random() < 0.4:
        strokes.append([head[0], (head[0][0] - u(0, 0.05), head[0][1] + u(0.08, 0.22))])
    return strokes


def _flat_3(random: Random) -> Strokes:
    """A flat top, a sharp waist and a round lower part."""
    u = random.uniform
    corner = (u(0.75, 0.95), u(0.0, 0.06))
    waist = (u(0.3, 0.5), u(0.35, 0.45))
    return [
        [(u(0.0, 0.15), u(0.0, 0.08)), corner],
        [corner, waist],
        [waist, (u(0.75, 0.9), u(0.5, 0.62)), (u(0.65, 0.85), 0.92), (0.35, 1.0), (0.0, 0.88)],
    ]


def _hooked_5(random: Random) -> Strokes:
    """A stem and a belly, with a roof that stands apart."""
    u = random.uniform
    neck = (u(0.2, 0.35), 0.08)
    return [
        [
            neck,
            (u(0.1, 0.25), 0.42),
            (u(0.6, 0.8), u(0.4, 0.5)),
            (0.9, 0.7),
            (0.55, 1.0),
            (0.0, 0.92),
        ],
        [(neck[0] + u(-0.05, 0.2), u(-0.04, 0.08)), (u(0.8, 1.1), u(-0.08, 0.06))],
    ]


def _roofed_5(random: Random) -> Strokes:
    """A short stem, a small belly below it, and a long roof."""
    u = random.uniform
    neck = (u(0.2, 0.5), 0.06)
    waist = u(0.3, 0.45)
    return [
        [
            neck,
            (neck[0] - u(0.0, 0.12), waist),
            (neck[0] + u(0.1, 0.25), waist + u(0.0, 0.12)),
            (neck[0] + u(0.05, 0.3), u(0.65, 0.8)),
            (neck[0] - u(0.0, 0.2), 1.0),
            (neck[0] - u(0.2, 0.45), u(0.85, 1.0)),
        ],
        [(neck[0] + u(-0.05, 0.05), 0.05), (u(0.9, 1.4), u(-0.08, 0.08))],
    ]


_ALLOGRAPHS: dict[int, Sequence[Callable[[Random], Strokes]]] = {
    1: (_upstroke_1,),
    3: (_flat_3,),
    4: (_lightning_4, _lightning_4, _one_stroke_4, _curved_4),
    5: (_hooked_5, _roofed_5),
    7: (_barred_7,),
    9: (_curled_9, _curled_9, _open_9),
}

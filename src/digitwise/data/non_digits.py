"""Make images that are not digits, for a network to learn to reject."""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Integer, UInt8

from digitwise.data.distortions import distort, ink_columns
from digitwise.data.fonts import NO_GLYPHS, Glyphs
from digitwise.data.normalization import SIDE, fit_to_mnist

_LETTERS = "AEHKMNPRWXdekmpwx@#%?!*=+~"  # none looks like a digit in any common hand
_HERSHEY = (
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_SIMPLEX,
    cv2.FONT_HERSHEY_SCRIPT_COMPLEX,
)
_FROM_FONTS = 0.2  # share of non-digits, if there are fonts
_TURNS = {  # digit: the quarter turns after which it is not a digit
    **dict.fromkeys((1, 2, 4, 5, 6, 8, 9), (1, 3)),
    **dict.fromkeys((3, 7), (1, 2, 3)),
}
Image = UInt8[np.ndarray, "28 28"]
Random = np.random.Generator


def non_digits(
    x: UInt8[np.ndarray, "n 28 28"],
    y: Integer[np.ndarray, " n"],
    count: int,
    random: Random,
    glyphs: Glyphs = NO_GLYPHS,
) -> UInt8[np.ndarray, "count 28 28"]:
    """Make images that are not digits: joined and rotated digits, letters, scribbles and shapes.

    Args:
        x: digits to make some of them from.
        y: their labels.
        count: how many to make.
        random: the source of all random choices.
        glyphs: characters of handwriting fonts.
    """
    chosen = random.integers(0, len(x), count)
    return np.stack([make_non_digit(x, y, int(index), random, glyphs) for index in chosen])


def make_non_digit(
    x: UInt8[np.ndarray, "n 28 28"],
    y: Integer[np.ndarray, " n"],
    index: int,
    random: Random,
    glyphs: Glyphs,
) -> Image:
    """Make one image that is not a digit.

    Args:
        x: digits to make it from.
        y: their labels.
        index: the digit to use, if a single one is needed.
        random: the source of all random choices.
        glyphs: characters of handwriting fonts.
    """
    if glyphs.non_digits and random.random() < _FROM_FONTS:
        return distort(glyphs.draw_non_digit(random), random)
    kind = random.random()
    if kind < 0.15 and int(y[index]) in _TURNS:
        turn = int(random.choice(_TURNS[int(y[index])]))
        return distort(np.ascontiguousarray(np.rot90(x[index], turn)), random)
    if kind < 0.38:
        return distort(_joined(x, y, index, random), random)
    if kind < 0.48:
        return distort(_letter(random), random)
    if kind < 0.60:
        return distort(_scribble(random), random)
    return _shape(random)


def _joined(
    x: UInt8[np.ndarray, "n 28 28"], y: Integer[np.ndarray, " n"], index: int, random: Random
) -> Image:
    """Join two or three digits; often one of them is a 1, which is easily missed."""
    count = 2 if random.random() < 0.8 else 3
    members = [index, *random.integers(0, len(x), count - 1)]
    ones = np.flatnonzero(y == 1)
    if len(ones) and random.random() < 0.3:
        members[1] = random.choice(ones)
    random.shuffle(members)
    is_uneven = random.random() < 0.4  # as when a 7 hangs far below a 4
    canvas = np.zeros((60, 120), np.uint8)  # holds three enlarged digits
    at = 4
    for image in x[members]:
        left, right = ink_columns(image)
        crop = image[:, left : right + 1]
        if is_uneven:
            height = int(SIDE * random.uniform(0.6, 1.2))
            width = max(1, int(crop.shape[1] * random.uniform(0.6, 1.2)))
            crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_AREA)
        reach = 8 if is_uneven else 3
        top = 12 + int(random.integers(-reach, reach + 1))
        region = canvas[top : top + len(crop), at : at + crop.shape[1]]
        np.maximum(region, crop, out=region)
        at = max(4, at + crop.shape[1] + int(random.integers(-3, 5 if is_uneven else 4)))
    return fit_to_mnist(canvas)


def _letter(random: Random) -> Image:
    """Draw a letter or a sign that looks like no digit."""
    canvas = np.zeros((96, 96), np.uint8)
    letter = _LETTERS[random.integers(len(_LETTERS))]
    font = _HERSHEY[random.integers(len(_HERSHEY))]
    thickness = int(random.integers(3, 10))
    cv2.putText(canvas, letter, (20, 66), font, 2.0, 255, thickness, cv2.LINE_AA)
    return fit_to_mnist(canvas)


def _scribble(random: Random) -> Image:
    """Draw a random line that crosses itself."""
    points = int(random.integers(5, 14))
    corners = random.uniform(12, 84, (points, 2))
    if random.random() < 0.5:
        fine = np.linspace(0, points - 1, points * 8)
        smooth = np.column_stack(
            [np.interp(fine, np.arange(points), corners[:, axis]) for axis in range(2)]
        )
        window = np.ones(9) / 9
        corners = np.column_stack(
            [np.convolve(smooth[:, axis], window, "valid") for axis in (0, 1)]
        )
    canvas = np.zeros((96, 96), np.uint8)
    outline = np.round(corners).astype(np.int32)
    cv2.polylines(canvas, [outline], False, 255, int(random.integers(3, 10)), cv2.LINE_AA)
    return fit_to_mnist(canvas)


def _shape(random: Random) -> Image:
    """Draw a silhouette, an object, a blob, a texture, a frame, a flat stroke, a grid or a face."""
    drawers: tuple[Callable[[UInt8[np.ndarray, "96 96"], Random], None], ...] = (
        _draw_blob,
        _draw_texture,
        _draw_silhouette,
        _draw_silhouette,
        _draw_silhouette,
        _draw_object,
        _draw_object,
        _draw_frame,
        _draw_flat_stroke,
        _draw_grid,
        _draw_face,
    )
    canvas = np.zeros((96, 96), np.uint8)
    drawers[random.integers(len(drawers))](canvas, random)
    if random.random() < 0.25:  # two together
        second = np.zeros((96, 96), np.uint8)
        drawers[random.integers(len(drawers))](second, random)
        canvas = np.maximum(canvas, second)
    if random.random() < 0.4:
        return fit_to_mnist(canvas)
    return cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _draw_blob(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Fill an irregular polygon."""
    angles = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(4, 12))))
    radii = random.uniform(14, 44, len(angles))
    corners = 48 + np.column_stack([np.cos(angles), np.sin(angles)]) * radii[:, np.newaxis]
    cv2.fillPoly(canvas, [np.round(corners).astype(np.int32)], int(random.integers(90, 256)))


def _draw_texture(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Fill a box or a blob with stripes and clouds of gray."""
    _draw_blob(canvas, random)
    if random.random() < 0.7:
        x, y = random.integers(4, 30, 2)
        width, height = random.integers(26, 62, 2)
        cv2.rectangle(canvas, (int(x), int(y)), (int(x + width), int(y + height)), 255, -1)
    if random.random() < 0.5:
        canvas[:] = np.maximum(canvas, canvas[:, ::-1])
    cells = int(random.integers(3, 16))
    cloud = cv2.resize(random.uniform(0.15, 1, (cells, cells)), (96, 96))
    canvas[:] = (canvas * cloud).astype(np.uint8)


def _draw_silhouette(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Fill a large shape, symmetric or with a flat base, as of an object in a photograph."""
    along = np.linspace(0, 1, 88)
    knots = int(random.integers(2, 7))
    profile = np.interp(along, np.linspace(0, 1, knots), random.uniform(0.15, 1.0, knots))
    half = 44 * profile * random.uniform(0.3, 1.0)
    across = np.abs(np.arange(88) - 43.5)
    if random.random() < 0.4:  # a base instead of an axis
        across, half = np.arange(88)[::-1].astype(float), 2 * half
    inside = across[np.newaxis] < half[:, np.newaxis]
    if random.random() < 0.35:  # a gap from one end, as between legs
        depth, width = random.uniform(0.2, 0.9), random.uniform(1, 8)
        inside &= (along[:, np.newaxis] < 1 - depth) | (across[np.newaxis] > width)
    gray = np.full((88, 88), random.uniform(60, 255))
    gray += cv2.resize(random.normal(0, random.uniform(0, 60), (6, 6)), (88, 88))
    if random.random() < 0.25:  # texture
        gray += random.normal(0, random.uniform(20, 80), (22, 22)).repeat(4, 0).repeat(4, 1)
    if random.random() < 0.4:  # stripes
        gray += random.uniform(20, 90) * (along * random.integers(3, 12) % 1 < 0.4)
    if random.random() < 0.25:  # lighter at the edges, as cloth is
        within = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 3)
        gray += random.uniform(40, 120) * (within < random.uniform(3, 12))
    shape = np.where(inside, np.clip(gray, 20, 255), 0).astype(np.uint8)
    canvas[4:92, 4:92] = np.rot90(shape, int(random.integers(4)))


def _draw_object(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Fill a part, and draw thin strokes from it, like handles, straps or legs."""
    x, y = random.uniform(4, 60, 2)
    width, height = random.uniform(14, 44, 2)
    if random.random() < 0.5:  # flat, like a sole
        x, width, height = random.uniform(4, 16), random.uniform(50, 80), random.uniform(4, 16)
    corners = np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])
    corners += random.normal(0, 7, corners.shape)
    gray = int(random.integers(80, 256))
    cv2.fillPoly(canvas, [np.round(corners).astype(np.int32)], gray, cv2.LINE_AA)
    for _ in range(int(random.integers(2, 7))):
        start = corners[random.integers(4)] + random.normal(0, 8, 2)
        knots = start + np.cumsum(random.normal(0, 22, (int(random.integers(2, 5)), 2)), axis=0)
        stroke = np.clip(np.concatenate([start[np.newaxis], knots]), 2, 94)
        pen = int(random.integers(2, 8))
        cv2.polylines(canvas, [np.round(stroke).astype(np.int32)], False, gray, pen, cv2.LINE_AA)


def _draw_frame(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Draw a box with one or two diagonals."""
    thickness = int(random.integers(2, 9))
    x, y = (int(value) for value in random.integers(8, 24, 2))
    right, bottom = (int(value) for value in random.integers(60, 90, 2))
    cv2.rectangle(canvas, (x, y), (right, bottom), 255, thickness)
    cv2.line(canvas, (x, y), (right, bottom), 255, thickness, cv2.LINE_AA)
    if random.random() < 0.5:
        cv2.line(canvas, (right, y), (x, bottom), 255, thickness, cv2.LINE_AA)


def _draw_flat_stroke(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Draw one or two roughly horizontal strokes."""
    for _ in range(int(random.integers(1, 3))):
        start, end = random.integers(8, 30), random.integers(60, 88)
        row, slope = random.integers(36, 60), random.integers(-14, 15)
        ends = (int(start), int(row - slope)), (int(end), int(row + slope))
        cv2.line(canvas, *ends, 255, int(random.integers(3, 14)), cv2.LINE_AA)


def _draw_grid(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Draw crossing lines."""
    thickness = int(random.integers(2, 7))
    for at in range(int(random.integers(4, 20)), 96, int(random.integers(14, 34))):
        cv2.line(canvas, (at, 6), (at, 90), 255, thickness)
        if random.random() < 0.8:
            cv2.line(canvas, (6, at), (90, at), 255, thickness)


def _draw_face(canvas: UInt8[np.ndarray, "96 96"], random: Random) -> None:
    """Draw a smiley."""
    thickness = int(random.integers(3, 7))
    cv2.circle(canvas, (48, 48), int(random.integers(30, 42)), 255, thickness, cv2.LINE_AA)
    for x in (36, 60):
        cv2.circle(canvas, (x, 38), int(random.integers(2, 6)), 255, -1, cv2.LINE_AA)
    bend = int(random.integers(0, 2)) * 180
    cv2.ellipse(canvas, (48, 56), (16, 10), bend, 20, 160, 255, thickness, cv2.LINE_AA)

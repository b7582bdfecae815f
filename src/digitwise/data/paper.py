"""Paper, rules, clutter and cameras: everything on a composed page that is not a character.

Images are float32: of paper, brightness in [0, 1]; of ink, opacity in [0, 1].
"""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

Random = np.random.Generator
Field = Float32[np.ndarray, "h w"]

_NOISE = np.random.default_rng(0).standard_normal((1024, 1024)).astype(np.float32)


def noise(shape: tuple[int, int], random: Random) -> Field:
    """Return standard normal noise.

    It is cut out of a larger field, which is much faster than drawing it; fields larger than
    1024 pixels repeat.
    """
    height, width = shape
    top, left = (int(start) for start in random.integers(0, len(_NOISE), 2))
    down = np.arange(top, top + height) % len(_NOISE)
    right = np.arange(left, left + width) % len(_NOISE)
    field = _NOISE if random.random() < 0.5 else _NOISE.T
    return field[down[:, np.newaxis], right]


def cloud(shape: tuple[int, int], cells: int, random: Random) -> Field:
    """Return smooth noise with a number of cells along the longer side."""
    height, width = shape
    longer = max(shape)
    coarse = noise(
        (max(2, round(cells * height / longer)), max(2, round(cells * width / longer))), random
    )
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def _coordinates(shape: tuple[int, int], angle: float) -> tuple[Field, Field]:
    """Return coordinates along and across a direction, in pixels from the center."""
    height, width = shape
    rows = np.arange(height, dtype=np.float32)[:, np.newaxis] - height / 2
    columns = np.arange(width, dtype=np.float32) - width / 2
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return columns * cosine + rows * sine, rows * cosine - columns * sine


def make_paper(shape: tuple[int, int], random: Random) -> Field:
    """Make paper, card or a board, with its grain, pattern, folds and light."""
    base = 1.0 if random.random() < 0.3 else random.uniform(0.4, 1.0)
    paper = np.full(shape, base, np.float32)
    if random.random() < 0.5:
        paper += np.float32(random.uniform(0, 0.06)) * cloud(
            shape, int(random.integers(2, 6)), random
        )
    if random.random() < 0.4:
        grain = int(max(shape) / random.uniform(2, 10))
        paper += np.float32(random.uniform(0, 0.06)) * cloud(shape, grain, random)
    if random.random() < 0.15:
        paper -= _security_pattern(shape, random)
    if random.random() < 0.12:
        paper += _folds(shape, random)
    if random.random() < 0.35:  # a shadow, or uneven light
        along, _ = _coordinates(shape, random.uniform(0, 2 * np.pi))
        along = along / max(shape) - np.float32(random.uniform(-0.4, 0.4))
        steepness = np.float32(np.exp(random.uniform(0.5, 4.5)))
        with np.errstate(over="ignore"):
            paper *= 1 - np.float32(random.uniform(0.1, 0.6)) / (1 + np.exp(-along * steepness))
    if random.random() < 0.08:
        _lay_on_table(paper, random)
    return np.clip(paper, 0.03, 1)


def _security_pattern(shape: tuple[int, int], random: Random) -> Field:
    """Make waves of fine lines, or small repeated marks, as on checks."""
    along, across = _coordinates(shape, random.uniform(0, np.pi))
    period, bend = random.uniform(3, 14), random.uniform(0, 6)
    wave = np.sin(2 * np.pi * (along + bend * np.sin(across / random.uniform(4, 30))) / period)
    if random.random() < 0.4:
        wave = wave * np.sin(2 * np.pi * across / random.uniform(3, 14))
    depth = np.float32(random.uniform(0.03, 0.25))
    return depth * (wave > random.uniform(-0.2, 0.8)).astype(np.float32)


def _folds(shape: tuple[int, int], random: Random) -> Field:
    """Make folds or ridges: a bright side, a dark side."""
    folds = np.zeros(shape, np.float32)
    for _ in range(int(random.integers(1, 4))):
        along, _ = _coordinates(shape, random.uniform(0, np.pi))
        along = (along - random.uniform(-0.4, 0.4) * max(shape)) / random.uniform(2, 12)
        folds += np.float32(random.uniform(-0.2, 0.2)) * along * np.exp(-np.abs(along))
    return folds


def _lay_on_table(paper: Field, random: Random) -> None:
    """Show the edge of the sheet, and a table beyond it."""
    along, across = _coordinates(paper.shape, random.uniform(0, 2 * np.pi))
    beyond = along > random.uniform(0.15, 0.5) * max(paper.shape)
    table = np.full(paper.shape, random.uniform(0.05, 0.9), np.float32)
    grain = np.sin(across / random.uniform(2, 20) + cloud(paper.shape, 6, random))
    table += np.float32(random.uniform(0, 0.12)) * grain
    table += np.float32(random.uniform(0, 0.15)) * cloud(
        paper.shape, int(random.integers(3, 40)), random
    )
    paper[beyond] = table[beyond]


def draw_rules(shape: tuple[int, int], unit: float, random: Random) -> Field:
    """Draw ruled or squared paper's lines.

    Args:
        shape: of the page.
        unit: height of the digits in pixels.
        random: the source of all random choices.
    """
    rules = np.zeros(shape, np.float32)
    thickness = max(1, round(unit * random.uniform(0.01, 0.08)))
    step, slope = unit * random.uniform(0.8, 2.6), random.normal(0, 0.03)
    squared, upright = random.random() < 0.35, random.random() < 0.25
    for is_upright in (False, True) if squared else (upright,):
        length, extent = shape if is_upright else shape[::-1]
        at = random.uniform(-step, step)
        while at < extent + step:
            ends = [(0, at - slope * length / 2), (length, at + slope * length / 2)]
            first, second = (
                tuple(round(16 * value) for value in (end[::-1] if is_upright else end))
                for end in ends
            )
            cv2.line(rules, first, second, 1.0, thickness, cv2.LINE_AA, shift=4)
            at += step
    return rules * np.float32(random.uniform(0.1, 0.75))


def draw_clutter(ink: Field, unit: float, random: Random) -> None:
    """Draw something that is not a character.

    A scribble, a frame, a shape, a long line, a stroke far too large, a bar code or a clock.
    """
    height, width = ink.shape
    dark, kind = random.uniform(0.4, 1.0), random.random()
    at = random.uniform(0, 1, 2) * (width, height)
    size = unit * random.uniform(1, 4)
    x, y = at.astype(int).tolist()
    pen = max(1, round(unit * random.uniform(0.03, 0.2)))
    if kind < 0.25:
        points = (at + random.normal(0, size / 2, (int(random.integers(4, 14)), 2))).astype(int)
        cv2.polylines(ink, [points.astype(np.int32)], False, dark, pen, cv2.LINE_AA)
    elif kind < 0.45:
        right, bottom = (at + random.uniform(size, 3 * size, 2)).astype(int).tolist()
        cv2.rectangle(ink, (x, y), (right, bottom), dark, pen, cv2.LINE_AA)
    elif kind < 0.57:
        points = (at + random.normal(0, size / 2, (6, 2))).astype(np.int32)
        cv2.fillPoly(ink, [cv2.convexHull(points)], dark, cv2.LINE_AA)
    elif kind < 0.72:
        angle, reach = random.uniform(0, np.pi), size * random.choice([1.0, 20.0])
        along = reach * np.array([np.cos(angle), np.sin(angle)])
        first, second = ((at + way * along).astype(int).tolist() for way in (-1, 1))
        cv2.line(ink, first, second, dark, pen, cv2.LINE_AA)
    elif kind < 0.84:
        radius = unit * random.uniform(2.5, 8)
        axes = (int(radius), int(radius * random.uniform(0.4, 1)))
        turn, sweep = random.uniform(0, 180), random.uniform(90, 360)
        thick = max(2, int(radius * random.uniform(0.05, 0.25)))
        cv2.ellipse(ink, (x, y), axes, turn, 0, sweep, dark, thick, cv2.LINE_AA)
    elif kind < 0.93:
        for _ in range(int(random.integers(6, 30))):
            bar = int(random.integers(1, 2 + round(0.15 * unit)))
            cv2.rectangle(ink, (x, y), (x + bar, y + int(size)), dark, -1)
            x += bar + int(random.integers(1, 2 + round(0.15 * unit)))
    else:
        radius = int(size)
        cv2.circle(ink, (x, y), radius, dark, pen, cv2.LINE_AA)
        for angle in np.arange(12) * np.pi / 6:
            way = np.array([np.cos(angle), np.sin(angle)])
            first, second = ((at + radius * part * way).astype(int).tolist() for part in (0.85, 1))
            cv2.line(ink, first, second, dark, pen, cv2.LINE_AA)
        for part in (0.5, 0.75):
            way = radius * part * np.array([np.cos(at[0]), np.sin(at[0] * part)])
            cv2.line(ink, (x, y), (at + way).astype(int).tolist(), dark, pen, cv2.LINE_AA)


def photograph(image: Field, random: Random) -> UInt8[np.ndarray, "h w"]:
    """Take a picture: blur, noise, contrast, a negative, thresholding, compression."""
    kind = random.random()
    if kind < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.4, 1.8))
    elif kind < 0.36:
        length = int(random.integers(3, 8))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1 / length
        image = cv2.filter2D(image, -1, kernel if random.random() < 0.5 else kernel.T)
    if random.random() < 0.4:
        sigma = np.float32(random.uniform(0.005, 0.09))
        image = image + sigma * noise(image.shape, random)
    if random.random() < 0.3:
        low, high = random.uniform(0, 0.3), random.uniform(0.6, 1.0)
        image = low + (high - low) * image
    if random.random() < 0.22:
        image = 1 - image
    pixels = np.clip(image * 255, 0, 255).astype(np.uint8)
    if random.random() < 0.05:  # a board or a scan that someone has thresholded
        window = 2 * int(random.integers(5, 25)) + 1
        pixels = cv2.adaptiveThreshold(
            pixels,
            255,
            cv2.ADAPTIVE_THRESH_MEAN_C,
            cv2.THRESH_BINARY,
            window,
            float(random.uniform(3, 15)),
        )
    if random.random() < 0.3:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(12, 80))]
        pixels = cv2.imdecode(cv2.imencode(".jpg", pixels, quality)[1], cv2.IMREAD_GRAYSCALE)
    return pixels

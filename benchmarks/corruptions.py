"""The fifteen corruptions of MNIST-C, applied to batches of digits.

Definitions and severities are those of Mu and Gilmer, "MNIST-C: A Robustness Benchmark for
Computer Vision" (2019). Each function takes (n, 28, 28) uint8, ink bright, and a random generator,
and returns the corrupted images in the same form.
"""

from collections.abc import Callable

import cv2
import numpy as np

Images = np.ndarray  # (n, 28, 28) uint8
Floats = np.ndarray  # (n, 28, 28) float32
Random = np.random.Generator
SIDE = 28
CENTER = 13.5
_ROWS, _COLUMNS = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)


def _quantized(x: Floats) -> Images:
    """Round values in [0, 1] to bytes."""
    return np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)


def _unit(x: Images) -> Floats:
    """Scale bytes to [0, 1]."""
    return x.astype(np.float32) / 255


def _blurred(x: Floats, sigma: float) -> Floats:
    """Blur with a Gaussian that is cut off at four standard deviations, edges repeated."""
    size = 2 * round(4 * sigma) + 1
    return np.stack(
        [
            cv2.GaussianBlur(image, (size, size), sigma, borderType=cv2.BORDER_REPLICATE)
            for image in x
        ]
    )


def _warped(x: Images, inverse: Callable[[int], np.ndarray]) -> Images:
    """Sample each image bilinearly at the places that its 2×2 map gives, about the center."""
    warped = []
    for number, image in enumerate(_unit(x)):
        matrix = np.asarray(inverse(number), np.float32)
        at = np.stack([_COLUMNS - CENTER, _ROWS - CENTER], -1) @ matrix.T + CENTER
        warped.append(cv2.remap(image, at.astype(np.float32), None, cv2.INTER_LINEAR))
    return _quantized(np.stack(warped))


def shot_noise(x: Images, random: Random) -> Images:
    """Count photons, at most three a pixel on average."""
    return _quantized(random.poisson(_unit(x) * 3) / 3)


def impulse_noise(x: Images, random: Random) -> Images:
    """Set 17% of the pixels to black or white."""
    draw = random.random(x.shape)
    return np.where(draw < 0.085, 0, np.where(draw < 0.17, 255, x)).astype(np.uint8)


def glass_blur(x: Images, random: Random) -> Images:
    """Blur, swap pixels with near ones twice over, blur again."""
    shuffled = np.floor(_blurred(_unit(x), 0.7) * 255)
    everything = np.arange(len(x))
    for _ in range(2):
        for row in range(SIDE - 1, 1, -1):
            for column in range(SIDE - 1, 1, -1):
                chosen = everything[random.random(len(x)) < 0.5]
                down, right = random.integers(-1, 1, (2, len(chosen)))
                other = (chosen, row + down, column + right)
                kept = shuffled[chosen, row, column].copy()
                shuffled[chosen, row, column] = shuffled[other]
                shuffled[other] = kept
    return _quantized(_blurred(shuffled / 255, 0.7))


def motion_blur(x: Images, random: Random) -> Images:
    """Smear along a direction within 45° of the horizontal, one-sided, sigma 3 and radius 10."""
    taps = np.arange(21)
    weights = np.exp(-(taps**2) / 18)
    weights /= weights.sum()
    angles = np.deg2rad(random.uniform(-45, 45, len(x)))
    down = np.ceil(np.outer(np.sin(angles), taps) - 0.5).astype(int)
    right = np.ceil(np.outer(np.cos(angles), taps) - 0.5).astype(int)
    blurred = np.zeros(x.shape)
    everything = np.arange(len(x))[:, np.newaxis, np.newaxis]
    for tap in taps:
        rows = np.clip(np.arange(SIDE) + down[:, tap, np.newaxis], 0, SIDE - 1)
        columns = np.clip(np.arange(SIDE) + right[:, tap, np.newaxis], 0, SIDE - 1)
        blurred += weights[tap] * x[everything, rows[:, :, np.newaxis], columns[:, np.newaxis]]
    return _quantized(blurred / 255)


def shear(x: Images, random: Random) -> Images:
    """Slant by 0.4 radians to one side."""
    angles = 0.4 * random.choice([-1, 1], len(x))
    return _warped(x, lambda n: np.array([[1, -np.sin(angles[n])], [0, np.cos(angles[n])]]))


def scale(x: Images, random: Random) -> Images:
    """Shrink to seven tenths."""
    return _warped(x, lambda _: np.eye(2) / 0.7)


def rotate(x: Images, random: Random) -> Images:
    """Rotate by 0.4 radians to one side."""
    angles = 0.4 * random.choice([-1, 1], len(x))
    return _warped(
        x,
        lambda n: np.array(
            [[np.cos(angles[n]), -np.sin(angles[n])], [np.sin(angles[n]), np.cos(angles[n])]]
        ),
    )


def brightness(x: Images, random: Random) -> Images:
    """Add half of the range."""
    return _quantized(_unit(x) + 0.5)


def translate(x: Images, random: Random) -> Images:
    """Shift by three pixels along both axes."""
    padded = np.pad(x, ((0, 0), (3, 3), (3, 3)))
    top, left = random.choice([0, 6], (2, len(x)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (SIDE, SIDE), axis=(1, 2))
    return windows[np.arange(len(x)), top, left]


def stripe(x: Images, random: Random) -> Images:
    """Invert the left and the right quarter."""
    striped = x.copy()
    striped[:, :, :7] = 255 - striped[:, :, :7]
    striped[:, :, 21:] = 255 - striped[:, :, 21:]
    return striped


def fog(x: Images, random: Random) -> Images:
    """Mix with three parts of a plasma fractal with a decay of 1.4."""
    fogged = []
    for image in _unit(x):
        brightest = image.max()
        mixed = image + 3 * _plasma(256, 1.4, random)[:SIDE, :SIDE]
        fogged.append(mixed * brightest / (brightest + 3))
    return _quantized(np.stack(fogged))


def _plasma(side: int, decay: float, random: Random) -> np.ndarray:
    """Draw a height map in [0, 1] by the diamond-square algorithm, on a torus."""
    heights = np.zeros((side, side))
    step, spread = side, 100.0

    def perturbed(total: np.ndarray) -> np.ndarray:
        return total / 4 + spread * random.uniform(-spread, spread, total.shape)

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        rows = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = perturbed(rows + np.roll(rows, -1, 1))
        middles = heights[half::step, half::step]
        above = middles + np.roll(middles, 1, 0)
        heights[::step, half::step] = perturbed(above + corners + np.roll(corners, -1, 1))
        left = middles + np.roll(middles, 1, 1)
        heights[half::step, ::step] = perturbed(left + corners + np.roll(corners, -1, 0))
        step, spread = half, spread / decay
    heights -= heights.min()
    return heights / heights.max()


def spatter(x: Images, random: Random) -> Images:
    """Splash mud on the image."""
    liquid = _blurred(random.normal(0.65, 0.3, x.shape).astype(np.float32), 1)
    mud = _blurred((liquid > 0.65).astype(np.float32), 1.5)
    mud[mud < 0.8] = 0
    return _quantized(_unit(x) * (1 - mud) + mud * 63 / 255)


def dotted_line(x: Images, random: Random) -> Images:
    """Draw a dotted line from the left edge to the right."""
    lines = []
    for _ in x:
        first, last = random.integers(0, 27, 2)
        line = _stroke(0, first, 27, last)
        line[:, np.arange(SIDE) // 2 % 2 == 0] = 0
        lines.append(line)
    return _quantized(_unit(x) + np.stack(lines))


def zigzag(x: Images, random: Random) -> Images:
    """Draw a zigzag line with teeth two pixels high from one side to the other."""
    lines = []
    for _ in x:
        first, last, tooth = 2, 25, 2.0
        row = float(random.integers(0, 27))
        rise = float(random.integers(-5, 5))
        angle = np.arctan(rise / (last - first))
        length = (last - first) / np.cos(angle)
        along = [
            0.0,
            *((2 * i + 1) * tooth for i in range(int((length - tooth) // (2 * tooth)) + 1)),
        ]
        across = [0.0, *((-1) ** i * tooth for i in range(len(along) - 1))]
        whole = 2 * tooth * (length // (2 * tooth))
        if length != whole:
            along.append(length)
            across.append(across[-1] / (2 * (length - whole)))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        columns, rows = turn @ np.array([along, across]) + [[first], [row]]
        line = np.zeros((SIDE, SIDE))
        for i in range(1, len(along)):
            line = np.minimum(line + _stroke(columns[i - 1], rows[i - 1], columns[i], rows[i]), 1)
        lines.append(line)
    return _quantized(_unit(x) + np.stack(lines))


def _stroke(column: float, row: float, last_column: float, last_row: float) -> np.ndarray:
    """Draw a soft line between two columns; its strength falls off as log(1 − d / 2.3) + 1."""
    if last_column == column:
        return np.zeros((SIDE, SIDE))
    slope = (last_row - row) / (last_column - column)
    away = np.abs(_ROWS - (slope * (_COLUMNS - column) + row))
    line = np.clip(np.log(1 - np.clip(away, 0, 2.3 - 1e-6) / 2.3) + 1, 0, 1)
    line[:, : int(np.floor(column))] = 0
    line[:, int(np.ceil(last_column)) :] = 0
    return line


def canny_edges(x: Images, random: Random) -> Images:
    """Keep edges alone: Canny's detector with sigma 1 and thresholds 0.1 and 0.2."""
    edges = []
    for image in _unit(x):
        smooth = cv2.GaussianBlur(image, (9, 9), 1, borderType=cv2.BORDER_CONSTANT)
        across, down = (
            np.round(1000 * cv2.Sobel(smooth, cv2.CV_32F, *axis)).astype(np.int16)
            for axis in ((1, 0), (0, 1))
        )
        edges.append(cv2.Canny(across, down, 100, 200, L2gradient=True))
    return np.stack(edges)


CORRUPTIONS: dict[str, Callable[[Images, Random], Images]] = {
    function.__name__: function
    for function in (
        shot_noise,
        impulse_noise,
        glass_blur,
        motion_blur,
        shear,
        scale,
        rotate,
        brightness,
        translate,
        stripe,
        fog,
        spatter,
        dotted_line,
        zigzag,
        canny_edges,
    )
}

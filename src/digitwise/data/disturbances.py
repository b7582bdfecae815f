"""Noise, fog, stripes, lines and blur over a digit's image, for training to be robust to them.

The kinds are those of MNIST-C (Mu and Gilmer, "MNIST-C: A Robustness Benchmark for Computer
Vision", 2019), with strengths and shapes drawn at random.
"""

from collections.abc import Callable

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from digitwise.data.normalization import SIDE

Image = UInt8[np.ndarray, "28 28"]
Random = np.random.Generator


def disturb(image: Image, random: Random) -> Image:
    """Disturb an image in one way, drawn at random.

    Args:
        image: an MNIST-like digit, ink bright.
        random: the source of all random choices.
    """
    return _KINDS[random.choice(len(_KINDS), p=_SHARES)](image, random)


def _clipped(values: Float[np.ndarray, "28 28"]) -> Image:
    """Round to bytes."""
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _impulses(image: Image, random: Random) -> Image:
    """Set some pixels to black or white."""
    share, white = random.uniform(0.02, 0.3), random.uniform(0.3, 0.7)
    draw = random.random(image.shape)
    noisy = np.where(draw < share * white, 255, image)
    return np.where(draw > 1 - share * (1 - white), 0, noisy).astype(np.uint8)


def _grain(image: Image, random: Random) -> Image:
    """Add Gaussian noise, or the noise of few photons."""
    if random.random() < 0.5:
        return _clipped(image + random.normal(0, random.uniform(10, 70), image.shape))
    photons = random.uniform(2, 20)
    return _clipped(random.poisson(image / 255 * photons) / photons * 255)


def _inverted(image: Image, random: Random) -> Image:
    """Invert stripes: at the edges, across, or in several bands."""
    stripes = np.zeros(SIDE, bool)
    kind = random.random()
    if kind < 0.6:
        left, right = random.integers(2, 12, 2)
        stripes[:left] = True
        stripes[SIDE - right :] = random.random() < 0.8
    elif kind < 0.8:
        start = random.integers(0, 20)
        stripes[start : start + random.integers(3, 12)] = True
    else:
        stripes = (np.arange(SIDE) // random.integers(2, 8)) % 2 == random.integers(0, 2)
    are_vertical = random.random() < 0.75
    result = image.copy()
    if are_vertical:
        result[:, stripes] = 255 - result[:, stripes]
    else:
        result[stripes] = 255 - result[stripes]
    return result


def _foggy(image: Image, random: Random) -> Image:
    """Mix with a cloud, bright and rough."""
    cloud = np.zeros((SIDE, SIDE), np.float32)
    weight = 1.0
    decay = random.uniform(0.45, 0.75)
    for cells in (2, 3, 5, 9, 17, 28):
        layer = random.uniform(-1, 1, (cells, cells)).astype(np.float32)
        cloud += weight * cv2.resize(layer, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        weight *= decay
    low, high = float(cloud.min()), float(cloud.max())
    base, spread = random.uniform(0.0, 0.6), random.uniform(0.1, 0.5)
    cloud = base + spread * (cloud - low) / max(high - low, 1e-6)
    strength = random.uniform(0.22, 0.6)
    return _clipped(255 * (strength * image / 255 + (1 - strength) * cloud))


def _brighter(image: Image, random: Random) -> Image:
    """Brighten everything, so that the ink is clipped."""
    return _clipped(image + random.uniform(30, 160))


def _dimmer(image: Image, random: Random) -> Image:
    """Lower the contrast, on a gray background."""
    contrast, background = random.uniform(0.2, 0.7), random.uniform(0, 120)
    return _clipped(image * contrast + background)


def _crossed(image: Image, random: Random) -> Image:
    """Draw a straight, dotted or zigzag line across."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    start, end = random.uniform(0, SIDE, 2)
    if random.random() < 0.5:
        end = start + random.uniform(-6, 6)
    steps = int(random.integers(2, 20))
    x = np.linspace(random.uniform(-1, 5), random.uniform(22, 29), steps)
    y = np.linspace(start, end, steps) + random.uniform(0.5, 3) * (-1.0) ** np.arange(steps)
    if random.random() < 0.3:
        y = np.linspace(start, end, steps)
    points = np.stack([x, y], 1)
    if random.random() < 0.25:
        points = points[:, ::-1]
    fixed = np.round(points * 16).astype(np.int32)
    thickness = 1 if random.random() < 0.7 else 2
    cv2.polylines(canvas, [fixed], False, int(random.integers(150, 256)), thickness, cv2.LINE_AA, 4)
    if random.random() < 0.5:
        canvas = cv2.GaussianBlur(canvas, (3, 3), random.uniform(0.4, 0.9))
        canvas = _clipped(canvas * random.uniform(1.0, 1.8))
    if random.random() < 0.3:
        gap = int(random.integers(1, 4))
        canvas[:, np.arange(SIDE) // gap % 2 == 0] = 0
    return cv2.add(image, canvas)


def _outlined(image: Image, random: Random) -> Image:
    """Keep only the outlines of the strokes."""
    if random.random() < 0.7:
        smooth = cv2.GaussianBlur(image, (0, 0), random.uniform(0.6, 1.2))
        low = random.uniform(20, 60)
        return cv2.Canny(smooth, low, low * random.uniform(1.5, 3), L2gradient=True)
    ink = (image > random.uniform(60, 140)).astype(np.uint8) * 255
    return cv2.morphologyEx(ink, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))


def _spattered(image: Image, random: Random) -> Image:
    """Cover blotches with dark gray."""
    liquid = cv2.GaussianBlur(random.normal(0, 1, (SIDE, SIDE)), (0, 0), random.uniform(0.7, 2))
    level = np.quantile(liquid, random.uniform(0.5, 0.9))
    mud = cv2.GaussianBlur((liquid > level).astype(np.float32), (0, 0), random.uniform(0.5, 1.5))
    mud[mud < random.uniform(0.3, 0.9)] = 0
    return _clipped(image * (1 - mud) + random.uniform(0, 110) * mud)


def _blurred(image: Image, random: Random) -> Image:
    """Blur in all directions, or smear in one."""
    if random.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), random.uniform(0.7, 1.6))
    length, angle = int(random.integers(4, 12)), random.uniform(0, np.pi)
    kernel = np.zeros((25, 25), np.float32)
    tip = (round(12 + length * np.cos(angle)), round(12 + length * np.sin(angle)))
    cv2.line(kernel, (12, 12), tip, 1.0, 1, cv2.LINE_AA)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def _shattered(image: Image, random: Random) -> Image:
    """Swap pixels with near ones, as through ground glass."""
    reach = random.uniform(0.5, 1.6)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)
    at = [
        axis + random.uniform(-reach, reach, axis.shape).astype(np.float32)
        for axis in (columns, rows)
    ]
    moved = cv2.remap(image, at[0], at[1], cv2.INTER_NEAREST)
    return cv2.GaussianBlur(moved, (3, 3), random.uniform(0.4, 0.9))


_WEIGHTED: tuple[tuple[float, Callable[[Image, Random], Image]], ...] = (
    (3, _impulses),
    (1, _grain),
    (3, _inverted),
    (4, _foggy),
    (2, _brighter),
    (1, _dimmer),
    (3, _crossed),
    (3, _outlined),
    (1, _spattered),
    (1, _blurred),
    (1, _shattered),
)
_KINDS = [kind for _, kind in _WEIGHTED]
_SHARES = np.array([weight for weight, _ in _WEIGHTED]) / sum(weight for weight, _ in _WEIGHTED)

"""Distort images of single characters as other hands, pens and cameras do."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from digitwise.data.normalization import INK_SIDE, MASS_CENTER, SIDE, fit_to_mnist

_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_COLUMNS, _ROWS = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
TAILED = (4, 6, 7, 9)
LOOPED = (0, 8)  # some writers leave them open at the top
_STRETCHED = 0.6  # width of a 1, as a share of its height
_INK = 80  # of 255
Image = UInt8[np.ndarray, "28 28"]
Random = np.random.Generator


def distort(image: Image, random: Random) -> Image:
    """Distort a character as another hand and pen would: affine, elastic, stroke width, blur."""
    image = _warp(image, random)
    draw = random.random()
    if draw < 0.20:
        image = cv2.dilate(image, _kernel(random))
    elif draw < 0.34:
        image = cv2.erode(image, np.ones((2, 2), np.uint8))
    draw = random.random()
    if draw < 0.12:
        image = cv2.GaussianBlur(image, (3, 3), random.uniform(0.4, 1.0))
    elif draw < 0.30:
        image = _coarsen(image, random)
    if random.random() < 0.08:
        image = _with_remnant(image, random)
    if random.random() < 0.04:
        image = _interrupt(image, random)
    if random.random() < 0.08:
        image = _dim(image, random)
    return image


def _warp(image: Image, random: Random) -> Image:
    """Rotate, scale, shear and shift; bend the strokes of some, and enlarge one end.

    The elastic distortion is that of Simard, Steinkraus and Platt ("Best Practices for
    Convolutional Neural Networks Applied to Visual Document Analysis", 2003), on a coarse grid.
    """
    strength = 0.4 if random.random() < 0.3 else 1.0  # many hands resemble MNIST's
    angle = np.deg2rad(strength * random.uniform(-15, 15))
    scale_x, scale_y = random.uniform(0.8, 1.15, 2) ** strength
    if random.random() < 0.2 * strength:
        scale_x *= random.uniform(0.7, 1.3)  # narrow and wide hands, and stretched boxes
    shear = strength * random.uniform(-0.3, 0.3)
    cosine, sine = np.cos(angle), np.sin(angle)
    turned = np.array([[cosine, -sine], [sine, cosine]]) @ np.array([[1, shear], [0, 1]])
    matrix = turned @ np.diag([scale_x, scale_y])
    middle = np.array([SIDE / 2, SIDE / 2])
    shift = middle - matrix @ middle + random.uniform(-2, 2, 2)
    affine = np.column_stack([matrix, shift])
    if random.random() >= 0.35:
        return cv2.warpAffine(image, affine, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    field = random.normal(0, random.uniform(0.3, 1.0), (5, 5, 2)).astype(np.float32)
    bend = cv2.resize(field, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    inverse = cv2.invertAffineTransform(affine)
    map_x = inverse[0, 0] * _COLUMNS + inverse[0, 1] * _ROWS + inverse[0, 2] + bend[..., 0]
    map_y = inverse[1, 0] * _COLUMNS + inverse[1, 1] * _ROWS + inverse[1, 2] + bend[..., 1]
    if random.random() < 0.6:
        map_y = _uneven(map_y, random.uniform(0.6, 1.5))
    if random.random() < 0.3:
        map_x = _uneven(map_x, random.uniform(0.75, 1.33))
    return cv2.remap(
        image, map_x.astype(np.float32), map_y.astype(np.float32), interpolation=cv2.INTER_LINEAR
    )


def _uneven(at: Float[np.ndarray, "28 28"], power: float) -> Float[np.ndarray, "28 28"]:
    """Enlarge one end of a digit and shrink the other: small loops and long tails."""
    along = (at - MASS_CENTER) / INK_SIDE + 0.5
    inside = (along > 0) & (along < 1)
    bent = (np.clip(along, 0, 1) ** power - 0.5) * INK_SIDE + MASS_CENTER
    return np.where(inside, bent, at)


def _kernel(random: Random) -> UInt8[np.ndarray, "k k"]:
    """Choose a structuring element to thicken strokes with."""
    if random.random() < 0.5:
        return np.ones((2, 2), np.uint8)
    return _CROSS


def _coarsen(image: Image, random: Random) -> Image:
    """Lower the resolution: shrink, then enlarge, most often as the page reader does."""
    side = int(random.integers(9, 20))
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    if random.random() < 0.7:
        return fit_to_mnist(small)
    return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)


def _with_remnant(image: Image, random: Random) -> Image:
    """Leave part of a neighbor's stroke, of a ruled line or of a box at the digit's edge."""
    along_rows = random.random() < 0.35
    upright = np.ascontiguousarray(image.T) if along_rows else image.copy()
    left, right = ink_columns(upright)
    side = left - 1 if random.random() < 0.5 else right + 1
    top, length = random.integers(3, 18), random.integers(3, 9)
    if along_rows and random.random() < 0.5:  # underlined, or written on a ruled line
        top, length = random.integers(0, 9), random.integers(14, 28)
    ends = (int(side), int(top)), (int(side + random.integers(-2, 3)), int(top + length))
    marked = cv2.line(upright, *ends, int(random.integers(120, 256)), 1, cv2.LINE_AA)
    return np.ascontiguousarray(marked.T) if along_rows else marked


def _interrupt(image: Image, random: Random) -> Image:
    """Erase a row or a column, as if a ruled line had been removed."""
    cut = image.copy()
    at, width = int(random.integers(7, 21)), int(random.integers(1, 3))
    band = np.s_[at : at + width] if random.random() < 0.7 else np.s_[:, at : at + width]
    cut[band] = (cut[band] * random.uniform(0, 0.5)).astype(np.uint8)
    return cut


def _dim(image: Image, random: Random) -> Image:
    """Fade the ink unevenly, with some noise."""
    faded = image * random.uniform(0.55, 0.95)
    noise = random.normal(0, random.uniform(3, 14), image.shape) * (image > 0)
    return np.clip(faded + noise, 0, 255).astype(np.uint8)


def vary(image: Image, random: Random) -> Image:
    """Rotate, scale, shear and shift a digit slightly; bend half of them, and change some pens."""
    angle = np.deg2rad(random.uniform(-8, 8))
    cosine, sine = np.cos(angle), np.sin(angle)
    shear, scales = random.uniform(-0.1, 0.1), random.uniform(0.93, 1.08, 2)
    matrix = np.array([[cosine, -sine], [sine, cosine]]) @ [[1, shear], [0, 1]] @ np.diag(scales)
    from_middle = np.stack([_COLUMNS, _ROWS], -1) - (SIDE - 1) / 2 + random.uniform(-1, 1, 2)
    at = from_middle @ matrix.T + (SIDE - 1) / 2
    if random.random() < 0.5:
        field = random.normal(0, random.uniform(0.2, 0.6), (5, 5, 2)).astype(np.float32)
        at += cv2.resize(field, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    varied = cv2.remap(image, at.astype(np.float32), None, interpolation=cv2.INTER_LINEAR)
    if random.random() < 0.4:
        pen = cv2.dilate if random.random() < 0.5 else cv2.erode
        share = random.uniform(0.1, 0.8)
        varied = cv2.addWeighted(pen(varied, _CROSS), share, varied, 1 - share, 0)
    return varied


def lengthen_tail(image: Image, label: int, random: Random) -> Image:
    """Lengthen a digit's tail, the lower end, or a 6's upper end, to about twice, often leaning."""
    upright = image[::-1] if label == 6 else image
    rows = np.flatnonzero((upright > _INK).any(axis=1))
    if len(rows) < 12:
        return image
    waist = rows[0] + len(rows) * random.uniform(0.45, 0.6)
    longer, lean = random.uniform(1.4, 2.8), random.uniform(-0.35, 0.15)
    at_x, at_y = np.meshgrid(
        np.arange(-SIDE // 2, SIDE + SIDE // 2, dtype=np.float32),
        np.arange(3 * SIDE, dtype=np.float32),
    )
    below = np.maximum(at_y - waist, 0)
    drawn = cv2.remap(
        np.ascontiguousarray(upright),
        (at_x - lean * below).astype(np.float32),
        (at_y - below + below / longer).astype(np.float32),
        interpolation=cv2.INTER_LINEAR,
    )
    return fit_to_mnist(np.ascontiguousarray(drawn[::-1]) if label == 6 else drawn)


def open_loop(image: Image, random: Random) -> Image:
    """Open the loop of a 0 or an 8 somewhere in its upper third."""
    rows, columns = np.nonzero(image > _INK)
    if not len(rows):
        return image
    top, height = int(rows.min()), int(np.ptp(rows)) + 1
    at = random.choice(np.flatnonzero(rows < top + max(2, height // 3)))
    gap = np.zeros_like(image)
    cv2.circle(gap, (int(columns[at]), int(rows[at])), int(random.integers(2, 5)), 255, -1)
    return np.where(cv2.GaussianBlur(gap, (3, 3), 0) > 127, 0, image).astype(np.uint8)


def cut_from_neighbor(image: Image, neighbor: Image, random: Random) -> Image:
    """Add a neighbor that touches or overlaps, and cut it off again imprecisely."""
    mirrored = random.random() < 0.5
    own, other = (item[:, ::-1] if mirrored else item for item in (image, neighbor))
    left, right = ink_columns(own)
    other_left, other_right = ink_columns(other)
    canvas = np.zeros((SIDE + 8, 3 * SIDE), np.uint8)
    canvas[4 : 4 + SIDE, : right + 1] = own[:, : right + 1]
    most = (other_right - other_left) // 4  # a whole 1 is not a remnant
    start = max(left + 1, right + 1 - min(int(random.integers(-1, 4)), most))
    remnant = min(int(random.integers(-2, 3)), most)
    top, end = 4 + int(random.integers(-4, 5)), start + other_right + 1 - other_left
    region = canvas[top : top + SIDE, start:end]
    np.maximum(region, other[:, other_left : other_right + 1], out=region)
    cut = canvas[:, : max(left + 2, right + 1 + remnant)]
    return fit_to_mnist(np.ascontiguousarray(cut[:, ::-1] if mirrored else cut))


def is_stretched(image: Image) -> bool:
    """Return whether a 1 is as wide as if its box had been stretched to a fixed shape."""
    rows, columns = ((image > _INK).any(axis=axis) for axis in (1, 0))
    return bool(columns.sum() > _STRETCHED * rows.sum())


def narrow(image: Image, scale: float) -> Image:
    """Narrow a digit.

    Args:
        image: the digit.
        scale: the new width, as a share of the old one.
    """
    press = np.array([[scale, 0, (1 - scale) * MASS_CENTER], [0, 1, 0]])
    return fit_to_mnist(cv2.warpAffine(image, press, (SIDE, SIDE), flags=cv2.INTER_AREA))


def ink_columns(image: Image) -> tuple[int, int]:
    """Return the first and the last column with ink."""
    columns = np.flatnonzero((image > 60).any(axis=0))
    return (int(columns[0]), int(columns[-1])) if len(columns) else (0, SIDE - 1)

"""One box of ink to 28×28 as MNIST's makers made it; loading and reading both use it."""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

SIDE = 28
INK_SIDE = 20
MASS_CENTER = 14  # where MNIST's own images have it (measured: 14.00 ± 0.29), not 13.5


def fit_to_mnist(ink: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "28 28"]:
    """Brings a picture of one character to the form that MNIST's images have.

    The long side of the ink is fitted to 20 pixels with anti-aliasing, and the result is placed
    with its center of mass in the middle of a 28×28 field, as the set's makers describe it
    (LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998).

    Args:
        ink: grey values, ink bright on a dark ground, of any size.

    Returns:
        The normalized image; all zeros where there is no ink.
    """
    field = np.zeros((SIDE, SIDE), np.uint8)
    box = _ink_box(ink)
    if box is None:
        return field
    top, bottom, left, right = box
    fitted = _fit_long_side(_stretch(ink)[top:bottom, left:right])
    height, width = fitted.shape
    moments = cv2.moments(fitted)
    mass_x = moments["m10"] / moments["m00"] if moments["m00"] else (width - 1) / 2
    mass_y = moments["m01"] / moments["m00"] if moments["m00"] else (height - 1) / 2
    x = int(np.clip(round(MASS_CENTER - mass_x), 0, SIDE - width))
    y = int(np.clip(round(MASS_CENTER - mass_y), 0, SIDE - height))
    field[y : y + height, x : x + width] = fitted
    return field


def ink_bright(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Turns a picture of one character so that its ink is bright.

    The median of the outermost rows and columns is taken for the ground; where the ground is
    brighter than what stands on it, the picture is inverted.
    """
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ground = float(np.median(edge))
    if ground - float(grey.min()) > float(grey.max()) - ground:
        return np.asarray(255 - grey, np.uint8)
    return grey


def _ink_box(ink: UInt8[np.ndarray, "h w"]) -> tuple[int, int, int, int] | None:
    """Bounds the pixels that clearly differ from the ground: top, bottom, left, right."""
    ground = int(ink.min())
    threshold = ground + max(1, (int(ink.max()) - ground) // 5)
    rows = np.flatnonzero((ink >= threshold).any(axis=1))
    columns = np.flatnonzero((ink >= threshold).any(axis=0))
    if not len(rows) or int(ink.max()) == ground:
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _stretch(ink: UInt8[np.ndarray, "h w"]) -> Float32[np.ndarray, "h w"]:
    """Stretches grey values so that the ground is 0 and the brightest ink 255."""
    ground = int(ink.min())
    return (ink.astype(np.float32) - ground) * np.float32(255 / (int(ink.max()) - ground))


def _fit_long_side(crop: Float32[np.ndarray, "h w"]) -> UInt8[np.ndarray, "fitted_h fitted_w"]:
    """Scales a crop so that its longer side measures 20 pixels."""
    scale = INK_SIDE / max(crop.shape)
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(crop, size, interpolation=method)
    return np.clip(np.rint(resized), 0, 255).astype(np.uint8)

"""Convert images of one character to MNIST's form; loading and reading both use it."""

from typing import Any

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from digitwise.errors import unknown_name

SIDE = 28
INK_SIDE = 20
MASS_CENTER = 14  # where MNIST's own images have it (measured: 14.00 ± 0.29), not 13.5
_STROKE_RANGE = (1.7, 3.8)  # pixels of 20: nine in ten of MNIST's digits (measured: 1.66 to 3.78)
_FINE = 4  # of these pixels make one of 20, while stroke weight is changed
_USUAL_STROKE = (2.2, 3.9)  # roughly measured, so many pixels are within the range for certain
_DARK_GROUND = 16  # of 255; JPEG leaves as much around a white digit on black
_BROADER_THAN_STROKES = 0.4  # of the picture's shorter side
_FAINT_INK = 0.6  # of the threshold, what stays of a stroke's soft edge
NORMALIZE = ("auto", "always", "never")
_EVEN_BACKGROUND = 24  # gray levels around the median of the edge
_EVEN_SHARE = 0.9  # of the edge's pixels
_LARGEST_INK = 25  # pixels of an ink box's longer side: slanted and thick digits measure up to 25
_OFF_CENTER = 0.6  # pixels: MNIST's own images are at most so far off
_MOST_PIECES = 2  # a digit in more pieces is noise, or crossed by lines
_BROAD, _FILLED = 10, 0.6  # pixels of the shorter side, and share of ink: a shape, not strokes
_NEIGHBORS = np.ones((3, 3), np.uint8)
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_INK = 110  # of 255, from which a pixel belongs to a stroke


def fit_to_mnist(ink: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "28 28"]:
    """Brings a picture of one character to the form that MNIST's images have.

    The long side of the ink is fitted to 20 pixels with anti-aliasing, and the result is placed
    with its center of mass in the middle of a 28×28 field, as the set's makers describe it
    (LeCun, Cortes and Burges, "The MNIST database of handwritten digits", 1998). Strokes that are
    thinner or thicker than MNIST's are first brought to the nearest weight that MNIST has.

    Args:
        ink: grey values, ink bright on a dark ground, of any size.

    Returns:
        The normalized image; all zeros where there is no ink.
    """
    field = np.zeros((SIDE, SIDE), np.uint8)
    box = _ink_box(ink)
    if box is None:
        return field
    fitted = _fit_long_side(_with_usual_stroke(_stretch(ink, box)), INK_SIDE)
    height, width = fitted.shape
    moments = cv2.moments(fitted)
    mass_x = moments["m10"] / moments["m00"] if moments["m00"] else (width - 1) / 2
    mass_y = moments["m01"] / moments["m00"] if moments["m00"] else (height - 1) / 2
    x = min(max(round(MASS_CENTER - mass_x), 0), SIDE - width)
    y = min(max(round(MASS_CENTER - mass_y), 0), SIDE - height)
    field[y : y + height, x : x + width] = fitted
    return field


def fit_all_to_mnist(images: Any) -> UInt8[np.ndarray, "n 28 28"]:
    """Bring each of several images to MNIST's form: see `fit_to_mnist`.

    Args:
        images: a sequence of gray images of any sizes, ink bright; an array, or images on disk.
    """
    fitted = np.empty((len(images), SIDE, SIDE), np.uint8)
    for number, image in enumerate(images):
        fitted[number] = fit_to_mnist(np.ascontiguousarray(image))
    return fitted


def normalize_images(
    x: UInt8[np.ndarray, "n 28 28"], normalize: str = "auto"
) -> tuple[UInt8[np.ndarray, "n 28 28"], Bool[np.ndarray, " n"]]:
    """Convert images of one character each to MNIST's form: see `fit_to_mnist`.

    Args:
        x: gray levels of 28×28 images, any background.
        normalize: "auto" converts those that are clearly not in MNIST's form: on an even background
            that is not black, too small, too large, or not centered by mass. Images with noise, of
            several pieces, or of filled shapes stay as they are, since they are not clearly one
            character. "always" converts all, "never" none.

    Returns:
        The images, and which of them were converted.

    Raises:
        DigitwiseError: `normalize` is none of the three.
    """
    if normalize not in NORMALIZE:
        raise unknown_name("value for normalize", str(normalize), NORMALIZE)
    if normalize == "auto":
        converted = np.array([not _is_in_mnist_form(image) for image in x], bool)
    else:
        converted = np.full(len(x), normalize == "always")
    if not converted.any():
        return x, converted
    result = x.copy()
    for index in np.flatnonzero(converted):
        result[index] = fit_to_mnist(lift_ink(ink_bright(np.ascontiguousarray(x[index]))))
    return result, converted


def _is_in_mnist_form(image: UInt8[np.ndarray, "28 28"]) -> bool:
    """Return whether an image is in MNIST's form, or cannot be brought to it reliably."""
    edge = _edge(image).astype(np.int16)
    background = float(np.median(edge))
    if background > _DARK_GROUND:
        is_even = np.mean(np.abs(edge - background) <= _EVEN_BACKGROUND) >= _EVEN_SHARE
        return bool(not is_even or image.max() == image.min())
    box = _ink_box(image)
    if box is None:
        return True
    side = max(image[box].shape)
    moments = cv2.moments(image)
    off_center = max(
        abs(moments[moment] / moments["m00"] - MASS_CENTER) for moment in ("m10", "m01")
    )
    is_usual_size = INK_SIDE - 1 <= side <= _LARGEST_INK
    is_centered = off_center <= _OFF_CENTER or side > INK_SIDE + 1
    if is_usual_size and is_centered:
        return True
    ink = (image >= max(1, int(image.max()) // 5)).astype(np.uint8)
    pieces = cv2.connectedComponents(ink, connectivity=8)[0] - 1
    is_filled = min(ink[box].shape) > _BROAD and ink[box].mean() > _FILLED
    return bool(pieces > _MOST_PIECES or is_filled)


def surround(
    page: UInt8[np.ndarray, "h w"], margins: tuple[int, int, int, int]
) -> UInt8[np.ndarray, "new_h new_w"]:
    """Add blank margins to a page, as bright as most of its edge.

    Args:
        page: gray levels.
        margins: pixels above, below, to the left and to the right.
    """
    paper = float(np.median(_edge(page)))
    return cv2.copyMakeBorder(page, *margins, cv2.BORDER_CONSTANT, value=paper)


def ink_bright(grey: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Turns a picture of one character so that its ink is bright.

    The median of the outermost rows and columns is taken for the ground; where the ground is
    brighter than what stands on it, the picture is inverted.
    """
    ground = float(np.median(_edge(grey)))
    if ground - float(grey.min()) > float(grey.max()) - ground:
        return np.asarray(255 - grey, np.uint8)
    return grey


def lift_ink(ink: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Takes the paper away behind one character that was cut out of a scan or a photograph.

    What is broader than strokes is paper; Otsu's threshold (1979) over what rises above it tells
    ink. A picture whose ground is nearly black, as MNIST's is, is returned as it is.

    Args:
        ink: grey values, ink brighter than its ground.
    """
    if np.median(_edge(ink)) <= _DARK_GROUND:
        return ink
    broad = _disk(max(3, round(_BROADER_THAN_STROKES * min(ink.shape))))
    side = len(broad)
    around = cv2.copyMakeBorder(ink, side, side, side, side, cv2.BORDER_REPLICATE)
    paper = cv2.morphologyEx(around, cv2.MORPH_OPEN, broad)[side:-side, side:-side]
    risen = cv2.subtract(ink, paper)
    level, _ = cv2.threshold(risen, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return cv2.threshold(risen, _FAINT_INK * level, 255, cv2.THRESH_TOZERO)[1]


def _edge(image: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, " n"]:
    """Takes a picture's outermost rows and columns."""
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def _ink_box(ink: UInt8[np.ndarray, "h w"]) -> tuple[slice, slice] | None:
    """Bounds the pixels that clearly differ from the ground: rows and columns."""
    ground, brightest, _, _ = cv2.minMaxLoc(ink)
    if brightest == ground:
        return None
    least = ground + max(1, (brightest - ground) // 5)
    x, y, width, height = cv2.boundingRect(cv2.threshold(ink, least - 1, 255, cv2.THRESH_BINARY)[1])
    return slice(y, y + height), slice(x, x + width)


def _stretch(
    ink: UInt8[np.ndarray, "h w"], box: tuple[slice, slice]
) -> UInt8[np.ndarray, "new_h new_w"]:
    """Takes what is in a box, its grey values stretched: the ground is 0, the brightest ink 255."""
    ground, brightest, _, _ = cv2.minMaxLoc(ink)
    scale = 255 / (brightest - ground)
    return cv2.convertScaleAbs(ink[box], alpha=scale, beta=-ground * scale)


def _fit_long_side(
    crop: UInt8[np.ndarray, "h w"], side: int
) -> UInt8[np.ndarray, "fitted_h fitted_w"]:
    """Scales a crop so that its longer side measures as many pixels."""
    scale = side / max(crop.shape)
    size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return cv2.resize(crop, size, interpolation=method)


def _with_usual_stroke(crop: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "new_h new_w"]:
    """Thickens strokes that are thinner than MNIST's, thins those that are thicker."""
    thin, thick = _USUAL_STROKE
    if thin < INK_SIDE / max(crop.shape) * _rough_stroke_width(crop) < thick:
        return crop
    fine = _fit_long_side(crop, _FINE * INK_SIDE)
    width = _stroke_width(fine)
    thinnest, thickest = (_FINE * bound for bound in _STROKE_RANGE)
    change = round(max(thinnest - width, 0) - min(max(width - thickest, 0), width / 2))
    if abs(change) < 2:
        return crop
    around = _with_margin(fine, abs(change))
    if change > 0:
        weighted = cv2.dilate(around, _disk(change + 1))
    else:
        weighted = cv2.erode(around, _disk(1 - change))
    box = _ink_box(weighted)
    return crop if box is None else weighted[box]


def _rough_stroke_width(crop: UInt8[np.ndarray, "h w"]) -> float:
    """Guesses how wide strokes are, in pixels: twice their area by the length of their outline."""
    _, ink = cv2.threshold(_with_margin(crop, 1), _INK, 255, cv2.THRESH_BINARY)
    area = cv2.countNonZero(ink)
    outline = area - cv2.countNonZero(cv2.erode(ink, _CROSS))
    return 2 * area / outline if outline else 0.0


def _stroke_width(fine: UInt8[np.ndarray, "h w"]) -> float:
    """Measures how wide strokes are, in pixels: twice the usual distance from ridge to ground."""
    _, ink = cv2.threshold(_with_margin(fine, 1), _INK, 255, cv2.THRESH_BINARY)
    distance = cv2.distanceTransform(ink, cv2.DIST_L2, 3)
    ridge = cv2.compare(distance, cv2.dilate(distance, _NEIGHBORS), cv2.CMP_GE) & ink
    widths = np.sort(distance[ridge > 0])
    return 2 * float(widths[len(widths) // 2]) - 1 if len(widths) else 0.0


def _with_margin(image: UInt8[np.ndarray, "h w"], margin: int) -> UInt8[np.ndarray, "new_h new_w"]:
    """Adds empty pixels on all sides."""
    return cv2.copyMakeBorder(image, margin, margin, margin, margin, cv2.BORDER_CONSTANT)


def _disk(diameter: int) -> UInt8[np.ndarray, "k k"]:
    """Makes a round kernel."""
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))

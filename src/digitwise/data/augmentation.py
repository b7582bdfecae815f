"""Vary batches of training images: other hands, pens and cameras, and non-digits."""

import numpy as np
from jaxtyping import Integer, UInt8

from digitwise.data.distortions import (
    LOOPED,
    TAILED,
    cut_from_neighbor,
    distort,
    is_stretched,
    lengthen_tail,
    narrow,
    open_loop,
    vary,
)
from digitwise.data.disturbances import disturb
from digitwise.data.fonts import NO_GLYPHS, Glyphs
from digitwise.data.non_digits import make_non_digit
from digitwise.data.styles import restyle, skeletons, write_allograph

NON_DIGIT_SHARE = 1 / 6  # of a reader's training images
_RESTYLED = {0: 0.15, 1: 0.4, 7: 0.35, 9: 0.25}  # shares of each digit's images
_WRITTEN = {1: 0.15, 3: 0.07, 4: 0.16, 5: 0.08, 7: 0.1, 9: 0.13}
_FROM_FONTS = 0.06
_DISTURBED = 0.12
Random = np.random.Generator


def augment_digits(x: UInt8[np.ndarray, "n 28 28"], random: Random) -> UInt8[np.ndarray, "n 28 28"]:
    """Vary digits as MNIST's own writers do: slightly in shape and position, and in the pen.

    Args:
        x: MNIST-like images, ink bright.
        random: the source of all random choices.
    """
    return np.stack([vary(image, random) for image in x])


def augment_shifts(x: UInt8[np.ndarray, "n h w"], random: Random) -> UInt8[np.ndarray, "n h w"]:
    """Shift images by up to two pixels in each direction, and blank a small square in each.

    New pixels at the edge are 0. The square is that of DeVries and Taylor ("Improved Regularization
    of Convolutional Neural Networks with Cutout", 2017), a quarter of the image high.
    """
    count, height, width = x.shape
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down, right = random.integers(0, 5, (2, count))
    shifted = windows[np.arange(count), down, right]
    side = height // 4
    top, left = random.integers(0, height, count), random.integers(0, width, count)
    rows, columns = np.arange(height), np.arange(width)
    hidden_rows = np.abs(np.subtract.outer(top, rows)) <= side // 2
    hidden_columns = np.abs(np.subtract.outer(left, columns)) <= side // 2
    shifted[hidden_rows[:, :, np.newaxis] & hidden_columns[:, np.newaxis]] = 0
    return shifted


def augment(
    x: UInt8[np.ndarray, "n 28 28"],
    y: Integer[np.ndarray, " n"],
    classes: int | None,
    random: Random,
    glyphs: Glyphs = NO_GLYPHS,
) -> tuple[UInt8[np.ndarray, "n 28 28"], UInt8[np.ndarray, " n"]]:
    """Vary digits as hands and cameras all over the world do, and turn some into non-digits.

    Some digits get the strokes of other hands (`styles`), some are replaced by digits that are
    written from strokes or drawn with fonts; then all are distorted (`distortions`), and some are
    covered with noise, fog or lines (`disturbances`).

    Args:
        x: MNIST-like images, ink bright.
        y: their labels.
        classes: the number of digit classes, which is the label of non-digits (a sixth of the
            images); None for no non-digits.
        random: the source of all random choices.
        glyphs: characters of handwriting fonts.

    Returns:
        As many images, with their labels.
    """
    images, labels = np.empty_like(x), y.astype(np.uint8)
    becomes_non_digit = random.random(len(x)) < NON_DIGIT_SHARE
    restyled = np.flatnonzero(random.random(len(x)) < [_RESTYLED.get(int(label), 0) for label in y])
    from_fonts = _FROM_FONTS if glyphs.digits else 0.0
    strokes = dict(zip(restyled.tolist(), skeletons(x[restyled]), strict=True))
    for index in range(len(x)):
        if classes is not None and becomes_non_digit[index]:
            image, labels[index] = make_non_digit(x, y, index, random, glyphs), classes
        else:
            label, choice = int(y[index]), random.random()
            if choice < from_fonts:
                image, labels[index] = glyphs.draw_digit(random)
            elif choice < from_fonts + _WRITTEN.get(label, 0):
                image = write_allograph(label, random)
            else:
                image = x[index]
                if label == 1 and is_stretched(image) and random.random() < 0.5:
                    image = narrow(image, random.uniform(0.25, 0.65))
                if index in strokes:
                    image = restyle(image, strokes[index], label, random)
                elif label in TAILED and random.random() < 0.15:
                    image = lengthen_tail(image, label, random)
                elif label in LOOPED and random.random() < 0.12:
                    image = open_loop(image, random)
                if random.random() < 0.10:
                    image = cut_from_neighbor(image, x[random.integers(len(x))], random)
            image = distort(image, random)
        if random.random() < _DISTURBED:
            image = disturb(image, random)
        images[index] = image
    return images, labels

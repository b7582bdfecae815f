"""The tutorial's third step, a function each: channel axis, scale, one-hot labels, validation."""

import numpy as np
from jaxtyping import Float32, Integer, Shaped, UInt8

from digitwise.errors import DigitwiseError, wrong_type


def add_channel(x: Shaped[np.ndarray, "n h w"]) -> Shaped[np.ndarray, "n h w 1"]:
    """Adds the channel axis that a convolution expects: (n, h, w) → (n, h, w, 1).

    Args:
        x: grey images of any dtype.

    Returns:
        A view of `x`; nothing is copied.

    Raises:
        DigitwiseError: the images have a channel axis already, or are no images.
    """
    _check_array(x)
    if x.ndim != 3:
        raise DigitwiseError(f"images have the shape (n, height, width), not {x.shape}")
    return x[..., np.newaxis]


def mean_image(x: UInt8[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "h w c"]:
    """Averages the training images, for `normalize` to subtract.

    Args:
        x: uint8 images in [0, 255].

    Returns:
        Their mean, float32 in [0, 1].

    Raises:
        DigitwiseError: there are no images, or a value is NaN or outside [0, 255].
    """
    _check_array(x)
    if not len(x):
        raise DigitwiseError("there are no images to average: give at least one")
    _check_pixels(x)
    return (x.mean(axis=0, dtype=np.float64) / 255).astype(np.float32)


def normalize(
    x: Shaped[np.ndarray, "n h w c"],
    mean: Float32[np.ndarray, "h w c"] | None = None,
) -> Float32[np.ndarray, "n h w c"]:
    """Scales grey values from [0, 255] to float32 in [0, 1].

    Args:
        x: images in [0, 255], uint8 or float without NaN.
        mean: the training images' `mean_image`, to be subtracted after scaling: the tutorial's
            other way. The result then lies in [-1, 1]. Subtract the *training* set's mean from
            test images too.

    Raises:
        DigitwiseError: a value is NaN or outside [0, 255], or the mean has another shape.
    """
    _check_array(x)
    _check_pixels(x)
    scaled = np.multiply(x, np.float32(1 / 255), dtype=np.float32)
    if mean is not None:
        if np.shape(mean) != x.shape[1:]:
            raise DigitwiseError(
                f"the mean has the shape {np.shape(mean)}, the images {x.shape[1:]}: use "
                "mean_image(x) of the training images"
            )
        scaled -= mean
    return scaled


def _check_array(x: object) -> None:
    """Check that images are an array.

    Raises:
        DigitwiseError: they are something else.
    """
    if not isinstance(x, np.ndarray) or not x.ndim:
        raise wrong_type("x", x, "an array of images, as load_data() returns it")


def _check_pixels(x: Shaped[np.ndarray, "..."]) -> None:
    """Check that pixels are numbers in [0, 255], and were not scaled to [0, 1] before.

    Raises:
        DigitwiseError: they are not; the message says how to convert them.
    """
    if x.dtype == np.uint8:
        return
    if x.dtype == bool:
        raise DigitwiseError("pixels are bool, not in [0, 255]: use x.astype(np.uint8) * 255")
    if x.dtype.kind not in "iuf":
        raise DigitwiseError(f"pixels must be numbers in [0, 255], not {x.dtype}")
    if not x.size:
        return
    if not (x.min() >= 0 and x.max() <= 255):
        raise DigitwiseError("pixels must be numbers in [0, 255]: found NaN or a value outside")
    if x.dtype.kind == "f" and 0 < x.max() <= 1:
        raise DigitwiseError("pixels are already in [0, 1]: pass them as loaded, in [0, 255]")


def one_hot(y: Integer[np.ndarray, " n"], classes: int = 10) -> Float32[np.ndarray, "n classes"]:
    """Encodes labels as rows with a one at the label's index: 8 → a one at index 8.

    Args:
        y: labels in [0, classes).
        classes: how many classes there are.

    Raises:
        DigitwiseError: a label is outside [0, classes), or `classes` is not a count.
    """
    y = np.asarray(y)
    if isinstance(classes, bool) or not isinstance(classes, int | np.integer) or classes < 1:
        raise DigitwiseError(f"classes must be an integer of at least 1, not {classes!r}")
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise DigitwiseError(f"labels are whole numbers of shape (n,), not {y.dtype} of {y.shape}")
    if len(y) and (y.min() < 0 or y.max() >= classes):
        raise DigitwiseError(
            f"labels must lie in 0–{classes - 1}: found {int(y.min())} to {int(y.max())}"
        )
    encoded = np.zeros((len(y), classes), np.float32)
    encoded[np.arange(len(y)), y] = 1
    return encoded


def preprocess(
    x: Shaped[np.ndarray, "n h w"],
    y: Integer[np.ndarray, " labels"],
    classes: int = 10,
) -> tuple[Float32[np.ndarray, "n h w 1"], Float32[np.ndarray, "n classes"]]:
    """Turns loaded arrays into what the network trains on: the tutorial's whole third step.

    Args:
        x: images, uint8 in [0, 255], as `load_data` returns them.
        y: labels in [0, classes).
        classes: how many classes there are.

    Returns:
        Images (n, h, w, 1), float32 in [0, 1], and one-hot labels (n, classes), float32.

    Raises:
        DigitwiseError: counts differ, a pixel is NaN, or a label is out of range.
    """
    x, y = np.asarray(x), np.asarray(y)
    if not x.ndim or not y.ndim:
        raise DigitwiseError("images and labels must be arrays: give what load_data() returns")
    if len(x) != len(y):
        raise DigitwiseError(f"{len(x)} images but {len(y)} labels: they must be as many")
    return normalize(add_channel(x)), one_hot(y, classes)


def split(
    y: Integer[np.ndarray, " n"], held_out: int, seed: int = 0
) -> tuple[Integer[np.ndarray, " kept"], Integer[np.ndarray, " held"]]:
    """Splits a set in two, each class in proportion (a stratified split).

    Args:
        y: the labels.
        held_out: how many examples the second part gets.
        seed: decides which; the same seed always gives the same split.

    Returns:
        Indices into `y`, each part sorted: first what is kept, then what is held out.

    Raises:
        DigitwiseError: `held_out` is negative, or leaves nothing to keep; labels or seed are wrong.
    """
    y = np.asarray(y)
    if y.ndim != 1:
        raise DigitwiseError(f"labels have shape {y.shape}, not (n,): give the labels, not images")
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise DigitwiseError(f"seed must be an integer of at least 0, not {seed!r}")
    if not isinstance(held_out, int | np.integer) or not 0 <= held_out < len(y):
        raise DigitwiseError(
            f"cannot hold out {held_out} of {len(y)} examples: give a whole number below {len(y)}"
        )
    y = np.asarray(y)
    labels, counts = np.unique(y, return_counts=True)
    shares = counts * (held_out / len(y))
    quota = np.floor(shares).astype(int)
    by_remainder = np.argsort(-(shares - quota), kind="stable")
    quota[by_remainder[: held_out - quota.sum()]] += 1
    random = np.random.default_rng(seed)
    held = np.zeros(len(y), bool)
    for label, share in zip(labels, quota, strict=True):
        members = np.flatnonzero(y == label)
        held[random.permutation(members)[:share]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)

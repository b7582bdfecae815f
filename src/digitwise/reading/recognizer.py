"""28×28 batch → calibrated class probabilities, by ONNX Runtime."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from digitwise.bundle import Bundle, Classification
from digitwise.errors import DigitwiseError


class Recognizer:
    """A bundle's network, ready for crops.

    Args:
        bundle: trained on 28×28 grey images.
    """

    before_batch: Callable[[], None] | None = None  # called before crops are recognized

    def __init__(self, bundle: Bundle) -> None:
        if bundle.input_shape != (28, 28, 1):
            raise DigitwiseError(f"{bundle.path}: reads {bundle.input_shape}, not (28, 28, 1)")
        self.bundle = bundle

    def classify(self, crops: UInt8[np.ndarray, "n 28 28"]) -> Classification:
        """Recognizes crops that look as MNIST's images do: see `fit_to_mnist`.

        Args:
            crops: uint8, ink bright; not checked, see `check_crops` and `normalize_images`.
        """
        if self.before_batch is not None:
            self.before_batch()
        return self.bundle.classify(crops)


def check_crops(crops: Any) -> None:
    """Check the shape, dtype and range of crops: (n, 28, 28), uint8, up to 255.

    Raises:
        DigitwiseError: they do not; the message says how to convert them.
    """
    if not isinstance(crops, np.ndarray):
        kind = type(crops).__name__
        raise DigitwiseError(f"crops must be a NumPy array, not {kind}: use np.asarray(crops)")
    if crops.ndim != 3 or crops.shape[1:] != (28, 28):
        fixes = {(28, 28): "use crops[np.newaxis]", (len(crops), 28, 28, 1): "use crops[..., 0]"}
        fix = fixes.get(crops.shape, "use Reader.read for other pictures")
        raise DigitwiseError(f"crops have shape {crops.shape}, not (n, 28, 28): {fix}")
    if crops.dtype != np.uint8:
        raise DigitwiseError(f"crops are {crops.dtype}, not uint8 in [0, 255]: {_to_uint8(crops)}")
    if crops.max(initial=0) == 1:
        raise DigitwiseError("crops hold only 0 and 1, not values up to 255: use crops * 255")


def _to_uint8(crops: np.ndarray) -> str:
    """Say how to convert crops of another dtype to uint8."""
    if crops.dtype == bool:
        return "use crops.astype(np.uint8) * 255"
    if crops.dtype.kind not in "iuf":
        return "use an array of numbers"
    low, high = (float(crops.min()), float(crops.max())) if crops.size else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        return "replace NaN and infinite values, with np.nan_to_num(crops), and convert to uint8"
    if low < 0 or high > 255:
        return f"scale values from [{low:g}, {high:g}] to [0, 255] and convert to uint8"
    if crops.dtype.kind == "f" and high <= 1:
        return "use (crops * 255).astype(np.uint8)"
    return "use crops.astype(np.uint8)"

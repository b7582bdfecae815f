"""28×28 batch → calibrated class probabilities, by ONNX Runtime."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from digitwise.bundle import Bundle
from digitwise.errors import DigitwiseError


@dataclass(frozen=True)
class Classification:
    """What crops were recognized as.

    Attributes:
        classes: the most probable class of each crop, an index into the bundle's classes.
        probabilities: of each class, rows that sum to 1, calibrated.
        non_digit: how probable it is that the crop is none of the classes; all 0 for a network
            that was not trained to tell.
    """

    classes: Integer[np.ndarray, " n"]
    probabilities: Float32[np.ndarray, "n classes"]
    non_digit: Float32[np.ndarray, " n"]

    @property
    def confidence(self) -> Float32[np.ndarray, " n"]:
        """The probability of each crop's class, being a digit at all included."""
        return self.probabilities.max(axis=1, initial=0) * (1 - self.non_digit)


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
        rejection = bundle.record.get("rejection") or {}
        self.threshold = float(rejection.get("threshold", 1.0))

    def classify(self, crops: UInt8[np.ndarray, "n 28 28"]) -> Classification:
        """Recognizes crops that look as MNIST's images do: see `fit_to_mnist`.

        Args:
            crops: uint8, ink bright.
        """
        if self.before_batch is not None:
            self.before_batch()
        scaled = np.multiply(crops[..., np.newaxis], np.float32(1 / 255), dtype=np.float32)
        outputs = self.bundle.outputs(scaled)
        digits = outputs[:, : len(self.bundle.classes)]
        whole = digits.sum(axis=1, keepdims=True)
        return Classification(
            digits.argmax(axis=1),
            digits / np.maximum(whole, 1e-30),
            np.maximum(1 - whole[:, 0], 0),
        )

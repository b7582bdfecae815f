"""Recognize digits that are stored transposed, rotated, mirrored or inverted.

EMNIST's files are transposed, and many sets have dark ink on a light background. A network trained
on them as they are scores well on their own test set and misreads every page. The pretrained
network knows how digits look, so it is used to detect the layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from digitwise.bundle import Bundle, as_digit, is_dark_on_light, open_bundle
from digitwise.data.mapped import Images
from digitwise.data.normalization import SIDE, fit_all_to_mnist
from digitwise.data.preprocessing import add_channel, normalize

_SAMPLE = 300  # images to decide from
_FEWEST, _FEWEST_CLASSES = 30, 3  # digits for a meaningful accuracy
_CLEARLY_RIGHT, _CLEARLY_WRONG = 0.8, 0.5  # accuracy of the pretrained network
_SHAPES = {
    (False, 0): "",
    (True, 1): "transposed",
    (False, 1): "rotated 90° clockwise",
    (False, 2): "upside down",
    (False, 3): "rotated 90° counterclockwise",
    (True, 0): "mirrored left to right",
    (True, 3): "transposed and upside down",
    (True, 2): "mirrored top to bottom",
}


@dataclass(frozen=True)
class Layout:
    """How images are stored, other than upright with bright ink on a dark background.

    Attributes:
        is_mirrored: whether to mirror them left to right, before rotating.
        quarter_turns: how many times to rotate them 90° counterclockwise.
        is_inverted: whether their ink is dark.
        accuracy: the pretrained network's accuracy on a sample in this layout.
        stored_accuracy: its accuracy on the same images as stored.
    """

    is_mirrored: bool
    quarter_turns: int
    is_inverted: bool
    accuracy: float = 0.0
    stored_accuracy: float = 0.0

    def undo(self, x: UInt8[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n new_h new_w"]:
        """Convert images to upright, with bright ink.

        Args:
            x: images as stored.
        """
        upright = x[:, :, ::-1] if self.is_mirrored else x
        upright = np.rot90(upright, self.quarter_turns, axes=(1, 2))
        return np.ascontiguousarray(255 - upright if self.is_inverted else upright)

    @property
    def description(self) -> str:
        """How the images are stored, in words."""
        shape = _SHAPES[self.is_mirrored, self.quarter_turns]
        ink = "with dark ink on a light background" if self.is_inverted else ""
        return " ".join(words for words in (shape, ink) if words)


def find_layout(
    x: Images, y: Integer[np.ndarray, " n"], classes: Sequence[str] | None
) -> Layout | None:
    """Detect how digits are stored, from the pretrained network's predictions on a sample.

    Args:
        x: (n, h, w) uint8 images of any size.
        y: their labels.
        classes: the labels' names; None if each label is its own name.

    Returns:
        The layout in which the pretrained network recognizes the digits, if it clearly does not
        recognize them as stored. None for digits that are stored like MNIST's, and for anything
        else: clothes, letters, too few digits.
    """
    names = list(classes or map(str, range(int(y.max()) + 1)))
    numbers = [as_digit(name) for name in names]
    values = np.array([-1 if number is None else number for number in numbers])
    digits = np.flatnonzero(values[y] >= 0)
    chosen = np.sort(np.random.default_rng(0).permutation(digits)[:_SAMPLE])
    truth = values[y[chosen]]
    if len(chosen) < _FEWEST or len(np.unique(truth)) < _FEWEST_CLASSES:
        return None
    bundle = open_bundle(Path(__file__).parents[1] / "pretrained")
    sample = np.asarray(x[chosen])
    stored = _accuracy(bundle, sample, truth)
    is_inverted = is_dark_on_light(sample)  # a robust network reads dark ink, too
    if stored > _CLEARLY_WRONG and not is_inverted:
        return None
    layouts = [Layout(*shape, is_inverted) for shape in _SHAPES]
    accuracies = [_accuracy(bundle, layout.undo(sample), truth) for layout in layouts]
    best = int(np.argmax(accuracies))
    if accuracies[best] < _CLEARLY_RIGHT:
        return None
    found = layouts[best]
    return Layout(
        found.is_mirrored, found.quarter_turns, found.is_inverted, accuracies[best], stored
    )


def _accuracy(
    bundle: Bundle, x: UInt8[np.ndarray, "n h w"], truth: Integer[np.ndarray, " n"]
) -> float:
    """Return a network's accuracy on images."""
    if x.shape[1:] != (SIDE, SIDE):
        x = fit_all_to_mnist(x)
    return float((bundle.predict(normalize(add_channel(x))).argmax(axis=1) == truth).mean())

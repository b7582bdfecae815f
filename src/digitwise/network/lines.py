"""The line network: reads a line of characters as a whole, without cutting it into characters.

Convolutions look at the line column by column. Connectionist temporal classification (Graves and
others, 2006) trains them to give the line's characters, wherever they are; in addition, cross
entropy at the characters' centers, which composed lines know, makes them learn sooner, and place
each character at its center.
"""

from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8

from digitwise.data.catalog import OTHER
from digitwise.data.composition import LINE, Composer
from digitwise.network.backend import keras
from digitwise.network.composed import Objective, composed_task
from digitwise.network.fitting import Task
from digitwise.network.settings import TrainingSettings

layers = keras.layers

COLUMN = 4  # pixels of a line to one column of the answer
BLANK = OTHER + 1  # the class of columns without a character
_CENTER_WEIGHT = 0.5  # of the characters' centers in the loss
_LARGEST_GRADIENT = 20.0  # norm; larger ones are scaled down
_VALIDATION = 2048  # lines


def build_line_network() -> "keras.Model":
    """Declare the line network.

    Returns:
        A functional model, built and not compiled. It takes lines (n, 48, width, 1), float32 in
        [0, 1], of any width that is a multiple of 4, and gives (n, width / 4, 22): for each
        column, the logits of the ten digits, of the ten signs, of other characters, and of none.
    """
    line = keras.Input((LINE[0], None, 1))
    x = _convolve(_convolve(line, 24, 5, 2), 32)
    x = _convolve(_convolve(x, 64, 3, 2), 64)
    x = _convolve(_convolve(x, 112, 3, (2, 1)), 112)
    x = _convolve(x, 144, 3, (2, 1))
    x = _convolve(layers.ZeroPadding2D((0, 1))(x), 176, padding="valid")  # one row is left
    for _ in range(2):
        x = layers.Add()([x, _convolve(x, 176, (1, 5))])
    logits = layers.Reshape((-1, BLANK + 1))(layers.Conv2D(BLANK + 1, 1)(x))
    return keras.Model(line, logits, name="line")


def _convolve(
    x: Any, filters: int, kernel: Any = 3, strides: Any = 1, padding: str = "same"
) -> Any:
    """Convolution, batch normalization, relu."""
    x = layers.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=False)(x)
    return layers.Activation("relu")(layers.BatchNormalization(momentum=0.98)(x))


def line_loss(targets: Any, logits: Any) -> Any:
    """Return the mean negative log-likelihood of the lines, and of the characters' centers.

    Args:
        targets: (n, longest, 2): labels of the lines' characters, and the columns of their centers;
            -1 after each line's last.
        logits: (n, columns, 22).
    """
    ops = keras.ops
    targets = ops.cast(targets, "int32")
    labels, centers = targets[..., 0], targets[..., 1]
    lengths = ops.sum(ops.cast(labels >= 0, "int32"), axis=1)
    columns = ops.zeros_like(lengths) + ops.shape(logits)[1]
    lines = ops.ctc_loss(ops.maximum(labels, 0), logits, lengths, columns, mask_index=BLANK)
    at = ops.clip(centers, 0, ops.shape(logits)[1] - 1)[..., np.newaxis]
    likely = ops.log_softmax(ops.take_along_axis(logits, at, axis=1), axis=-1)
    known = ops.take_along_axis(likely, ops.maximum(labels, 0)[..., np.newaxis], axis=2)[..., 0]
    errors = -ops.sum(known * ops.cast(labels >= 0, known.dtype), axis=1)
    return ops.mean(lines + _CENTER_WEIGHT * errors)


class LineAccuracy(keras.metrics.Mean):  # type: ignore[misc]
    """The share of lines whose most probable columns give exactly their characters."""

    def update_state(self, targets: Any, logits: Any, sample_weight: Any = None) -> None:
        """Count a batch of targets and answers."""
        ops = keras.ops
        labels = ops.cast(targets, "int32")[..., 0]
        best = ops.cast(ops.argmax(logits, axis=-1), "int32")
        before = ops.pad(best[:, :-1], ((0, 0), (1, 0)), constant_values=BLANK)
        begins = ops.logical_and(best != BLANK, best != before)
        number = ops.cumsum(ops.cast(begins, "int32"), axis=1) - 1
        longest = ops.shape(labels)[1]
        expected = ops.take_along_axis(labels, ops.clip(number, 0, longest - 1), axis=1)
        is_right = ops.logical_or(
            ops.logical_not(begins), ops.logical_and(best == expected, number < longest)
        )
        lengths = ops.sum(ops.cast(labels >= 0, "int32"), axis=1)
        exact = ops.logical_and(ops.all(is_right, axis=1), number[:, -1] + 1 == lengths)
        super().update_state(ops.cast(exact, "float32"), sample_weight=sample_weight)


def line_task(settings: TrainingSettings, composer: Composer, held_out: Composer) -> Task:
    """Return the task of reading lines.

    Args:
        settings: decide the outcome; an epoch shows `training_images` lines.
        composer: of the training lines.
        held_out: of the validation lines, with other digits and fonts.
    """
    return composed_task(
        settings,
        lambda epoch, indices: _compose(composer, epoch, indices),
        _compose(held_out, 0, range(_VALIDATION)),
        Objective(line_loss, LineAccuracy(name="accuracy"), _LARGEST_GRADIENT),
    )


def _compose(
    composer: Composer, epoch: int, indices: range
) -> tuple[UInt8[np.ndarray, "n h w"], Int32[np.ndarray, "n longest 2"]]:
    """Compose lines, with the labels and columns of their characters."""
    composed = [composer.compose_line(epoch, index) for index in indices]
    longest = max(1, *(len(characters) for _, characters in composed))
    targets = np.full((len(composed), longest, 2), -1, np.int32)
    for row, (_, characters) in zip(targets, composed, strict=True):
        for target, each in zip(row, characters, strict=False):
            target[:] = each.label, each.x / COLUMN
    return np.stack([line for line, _ in composed]), targets

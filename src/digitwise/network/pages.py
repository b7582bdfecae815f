"""The page network: finds and reads characters all over a page.

It is fully convolutional: at a quarter of the page's resolution it gives a score map for each kind
of character, and the logarithm of the size of the box. The method is that of Zhou, Wang and
Krähenbühl ("Objects as Points", 2019).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float16, Float32, UInt8

from digitwise.data.catalog import OTHER
from digitwise.data.composition import TILE, Composer
from digitwise.data.writing import IGNORED, Character
from digitwise.network.backend import keras
from digitwise.network.composed import Objective, composed_task
from digitwise.network.fitting import Task
from digitwise.network.settings import TrainingSettings

layers = keras.layers

STRIDE = 4  # pixels of the page to one of the score maps
KINDS = OTHER + 1
_SHARPNESS = 0.12  # sigma of a center's Gaussian, in widths and heights of the box
_FOCUS, _LENIENCE = 2, 4  # alpha and beta of the paper's focal loss
_SIZE_WEIGHT = 0.3  # of the error of the size in the loss
_RARE = 0.01  # score of a place before training
_LARGEST_GRADIENT = 5.0  # norm; larger ones are scaled down
_VALIDATION = 512  # tiles


def build_page_network() -> "keras.Model":
    """Declare the page network.

    Returns:
        A functional model, built and not compiled. It takes pages (n, height, width, 1), float32
        in [0, 1], whose sides are multiples of 32, and gives (n, height / 4, width / 4, 23): the
        logits of the ten digits, of the ten signs and of other characters, then the natural
        logarithms of the box's width and height in pixels.
    """
    page = keras.Input((None, None, 1))
    fourth = _convolve(_convolve(_convolve(page, 24, 5, 2), 40, 3, 2), 40)
    eighth = _convolve(_convolve(_convolve(fourth, 80, 3, 2), 80), 80)
    sixteenth = _convolve(_convolve(_convolve(eighth, 128, 3, 2), 128), 128)
    coarsest = _convolve(_convolve(sixteenth, 144, 3, 2), 144)
    x = _convolve(_merge(coarsest, sixteenth, 96), 96)
    x = _convolve(_merge(x, eighth, 80), 80)
    x = _convolve(_merge(x, fourth, 48), 64)
    rare = keras.initializers.Constant(float(np.log(_RARE / (1 - _RARE))))
    scores = layers.Conv2D(KINDS, 1, bias_initializer=rare)(x)
    usual = keras.initializers.Constant(float(np.log(25)))
    size = layers.Conv2D(2, 1, bias_initializer=usual)(x)
    return keras.Model(page, layers.Concatenate()([scores, size]), name="page")


def _convolve(x: Any, filters: int, kernel: int = 3, strides: int = 1) -> Any:
    """Convolution, batch normalization, relu."""
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False)(x)
    return layers.Activation("relu")(layers.BatchNormalization(momentum=0.98)(x))


def _merge(coarse: Any, fine: Any, filters: int) -> Any:
    """Enlarge the coarser of two layers twice, and add the finer one."""
    enlarged = layers.UpSampling2D(2, interpolation="nearest")(_convolve(coarse, filters, 1))
    return layers.Add()([enlarged, _convolve(fine, filters, 1)])


def page_targets(
    characters: Sequence[Character], shape: tuple[int, int]
) -> Float32[np.ndarray, "h4 w4 c"]:
    """Draw what a page network should answer.

    Args:
        characters: on the page.
        shape: the page's height and width, in pixels.

    Returns:
        At a quarter of the resolution: a map for each kind of character, 1 at the centers, falling
        off as Gaussians; the logarithms of width and height at the centers; 1 where there is a
        center; and 0 where a place is to be ignored, else 1.
    """
    height, width = shape[0] // STRIDE, shape[1] // STRIDE
    maps = np.zeros((height, width, KINDS + 4), np.float32)
    maps[..., -1] = 1
    for each in characters:
        x, y = each.x / STRIDE - 0.5, each.y / STRIDE - 0.5
        half_width, half_height = each.width / STRIDE / 2, each.height / STRIDE / 2
        if each.label == IGNORED:
            left, right = int(max(0, x - half_width)), int(max(0, x + half_width + 2))
            top, bottom = int(max(0, y - half_height)), int(max(0, y + half_height + 2))
            maps[top:bottom, left:right, -1] = 0
            continue
        column, row = round(x), round(y)
        if not (0 <= column < width and 0 <= row < height):
            continue
        across, down = (max(0.6, 2 * _SHARPNESS * half) for half in (half_width, half_height))
        reach = int(3 * max(across, down)) + 1
        top, bottom = max(0, row - reach), min(height, row + reach + 1)
        left, right = max(0, column - reach), min(width, column + reach + 1)
        rows, columns = np.arange(top, bottom) - row, np.arange(left, right) - column
        bell = np.exp(-0.5 * ((rows / down)[:, np.newaxis] ** 2 + (columns / across) ** 2))
        region = maps[top:bottom, left:right, each.label]
        np.maximum(region, bell, out=region)
        size = np.log(max(each.width, 1)), np.log(max(each.height, 1))
        maps[row, column, KINDS:] = (*size, 1, 1)
    return maps


def page_loss(targets: Any, answers: Any) -> Any:
    """Return the focal loss of the scores, plus the error of the sizes, per character.

    Args:
        targets: as `page_targets` draws them, in a batch.
        answers: the network's.
    """
    ops = keras.ops
    heat, size = targets[..., :KINDS], targets[..., KINDS : KINDS + 2]
    is_center, counts = targets[..., -2:-1], targets[..., -1:]
    logits, found = answers[..., :KINDS], answers[..., KINDS:]
    score = ops.sigmoid(logits)
    positive = ops.cast(heat > 0.999, "float32")
    hit = positive * (1 - score) ** _FOCUS * ops.softplus(-logits)
    miss = (1 - positive) * (1 - heat) ** _LENIENCE * score**_FOCUS * ops.softplus(logits)
    characters = ops.maximum(ops.sum(positive * counts), 1.0)
    error = ops.sum(is_center * ops.abs(found - size))
    return (ops.sum((hit + miss) * counts) + _SIZE_WEIGHT * error) / characters


class CenterAccuracy(keras.metrics.Mean):  # type: ignore[misc]
    """The share of characters at whose center the right kind has the highest score."""

    def update_state(self, targets: Any, answers: Any, sample_weight: Any = None) -> None:  # noqa: ARG002
        """Count a batch of targets and answers."""
        ops = keras.ops
        heat, logits = targets[..., :KINDS], answers[..., :KINDS]
        is_right = ops.equal(ops.argmax(logits, axis=-1), ops.argmax(heat, axis=-1))
        super().update_state(ops.cast(is_right, "float32"), sample_weight=targets[..., -2])


def page_task(settings: TrainingSettings, composer: Composer, held_out: Composer) -> Task:
    """Return the task of finding and reading characters.

    Args:
        settings: decide the outcome; an epoch shows `training_images` tiles.
        composer: of the training tiles.
        held_out: of the validation tiles, with other digits and fonts.
    """
    return composed_task(
        settings,
        lambda epoch, indices: _compose(composer, epoch, indices),
        _compose(held_out, 0, range(_VALIDATION)),
        Objective(page_loss, CenterAccuracy(name="accuracy"), _LARGEST_GRADIENT),
    )


def _compose(
    composer: Composer, epoch: int, indices: range
) -> tuple[UInt8[np.ndarray, "n h w"], Float16[np.ndarray, "n h4 w4 c"]]:
    """Compose tiles, with their targets."""
    composed = [composer.compose(epoch, index) for index in indices]
    targets = [page_targets(characters, (TILE, TILE)) for _, characters in composed]
    return np.stack([tile for tile, _ in composed]), np.stack(targets).astype(np.float16)

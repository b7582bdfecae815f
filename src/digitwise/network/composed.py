"""The task of learning from pages or lines that are composed while training runs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from digitwise.network.backend import keras
from digitwise.network.fitting import Gate, Task, untuned
from digitwise.network.optimizers import build_optimizer
from digitwise.network.settings import TrainingSettings

Examples = tuple[np.ndarray, np.ndarray]  # uint8 images (n, height, width), and their targets

_CHUNK = 4  # batches that are composed at a time


@dataclass(frozen=True)
class Objective:
    """What a network is trained by.

    Attributes:
        loss: of a batch of targets and answers.
        metric: named "accuracy".
        largest_gradient: the norm to which larger gradients are scaled down.
    """

    loss: Callable[[Any, Any], Any]
    metric: Any
    largest_gradient: float


def composed_task(
    settings: TrainingSettings,
    compose: Callable[[int, range], Examples],
    held_out: Examples,
    objective: Objective,
) -> Task:
    """Return the task of learning from composed examples.

    Args:
        settings: decide the outcome; an epoch shows `training_images` examples.
        compose: makes the examples of an epoch with some indices. Targets of different chunks may
            differ in their second axis; they are filled up with -1.
        held_out: the validation examples.
        objective: what the network is trained by.
    """
    import tensorflow as tf

    images, targets = held_out
    size, filler = settings.batch_size, np.array(-1, targets.dtype)

    def compile_model(model: Any) -> None:
        steps = settings.total_epochs * settings.steps_per_epoch
        optimizer = build_optimizer(settings.recipe, steps)
        optimizer.global_clipnorm = objective.largest_gradient
        model.compile(
            optimizer=optimizer,
            loss=objective.loss,
            metrics=[objective.metric],
            jit_compile=False,
        )

    def batches(epoch: Callable[[], int], gate: Gate) -> Any:
        def chunks() -> Iterator[Examples]:
            number, count = epoch(), settings.training_images
            for start in range(0, count, size * _CHUNK):
                yield compose(number, range(start, min(start + size * _CHUNK, count)))

        signature = (
            tf.TensorSpec((None, *images.shape[1:]), images.dtype),
            tf.TensorSpec((None, None, *targets.shape[2:]), targets.dtype),
        )
        return (
            tf.data.Dataset.from_generator(
                lambda: gate.through(chunks()), output_signature=signature
            )
            .prefetch(1)
            .unbatch()
            .padded_batch(size, padding_values=(np.uint8(0), filler))
            .map(_scale)
            .prefetch(4)
            .apply(tf.data.experimental.assert_cardinality(settings.steps_per_epoch))
            .with_options(untuned())
        )

    held = tf.data.Dataset.from_tensor_slices(held_out)
    validation = held.batch(size).map(_scale).with_options(untuned())
    return Task(compile_model, batches, validation)


def _scale(images: Any, targets: Any) -> tuple[Any, Any]:
    """Convert images and targets to what the network and its loss take."""
    scaled = keras.ops.cast(images, "float32")[..., np.newaxis] * (1 / 255)
    return scaled, keras.ops.cast(targets, "float32")

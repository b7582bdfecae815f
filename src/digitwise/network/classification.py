"""What a classifier of single images is trained on: shuffled, varied images and their labels."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer, Shaped, UInt8

from digitwise.data.augmentation import augment, augment_digits, augment_shifts
from digitwise.data.fonts import NO_GLYPHS, Glyphs
from digitwise.data.formats import LabeledImages
from digitwise.data.mapped import Images
from digitwise.data.preprocessing import add_channel, normalize, preprocess
from digitwise.network.backend import keras
from digitwise.network.fitting import Gate, Task, leaves_of, untuned
from digitwise.network.optimizers import build_optimizer
from digitwise.network.settings import TrainingSettings

Chunk = tuple[UInt8[np.ndarray, "k b h w"], Shaped[np.ndarray, "k b ..."]]  # batches, labels
Teacher = Callable[[UInt8[np.ndarray, "n h w"]], Float32[np.ndarray, "n outputs"]]

_TEACHERS_SHARE = 0.8  # of what is learned; the rest are the labels
_STEPS_PER_EXECUTION = 50  # batches that run without coming back to Python
_CHUNK = 64  # batches that are gathered at a time
_SETTLING_IMAGES, _SETTLING_BATCH = 10_000, 1000  # that batch normalization settles by


def classification_task(
    outputs: int,
    settings: TrainingSettings,
    train: LabeledImages,
    shown: Integer[np.ndarray, " shown"],
    validation: LabeledImages,
    teacher: Teacher | None = None,
    glyphs: Glyphs = NO_GLYPHS,
) -> Task:
    """Return the task of classifying images.

    Args:
        outputs: number of classes.
        settings: decide the outcome.
        train: the training images; they may lie on disk, and are taken from there by the batch.
        shown: indices of those that an epoch shows.
        validation: what early stopping looks at; may be empty.
        teacher: returns probabilities to learn in addition to the labels.
        glyphs: characters of handwriting fonts, for augmentation.
    """
    settles = settings.recipe.augmentation in ("digits", "shifts")
    return Task(
        compile=lambda model: _compile(model, settings),
        batches=lambda epoch, gate: _batches(
            train, shown, outputs, settings, epoch, teacher, gate, glyphs
        ),
        validation=_validation(validation, outputs),
        finish=(lambda model: _settle_normalization(model, train.x, shown, settings.seed))
        if settles
        else None,
    )


def _compile(model: "keras.Sequential", settings: TrainingSettings) -> None:
    """Compiles a model by its recipe."""
    recipe = settings.recipe
    model.compile(
        optimizer=build_optimizer(recipe, settings.total_epochs * settings.steps_per_epoch),
        loss=keras.losses.CategoricalCrossentropy(
            label_smoothing=0.0 if settings.teachers else recipe.label_smoothing
        ),
        metrics=["accuracy"],
        steps_per_execution=min(_STEPS_PER_EXECUTION, settings.steps_per_epoch),
        jit_compile=False,  # on the CPU it was measured five times slower
    )
    answer = np.full((1, model.output_shape[-1]), 1 / model.output_shape[-1], np.float32)
    model.compute_metrics(None, answer, answer)  # a step that had to build them is traced twice
    model.reset_metrics()


def _settle_normalization(
    model: "keras.Sequential",
    images: UInt8[Images, "n h w"],
    shown: Integer[np.ndarray, " shown"],
    seed: int,
) -> None:
    """Recompute batch normalization's means and variances on unaugmented training images.

    Those kept while training are of the last few batches alone, and of images that were varied
    more than those to be recognized are. The method is the precise batch normalization of Wu and
    Johnson ("Rethinking 'Batch' in BatchNorm", 2021).

    Args:
        model: trained; its statistics are changed.
        images: the training images.
        shown: indices of those that an epoch shows; ten thousand of them are taken.
        seed: decides which.
    """
    normalizations = [
        layer for layer in leaves_of(model) if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in normalizations]
    chosen = np.random.default_rng(seed).permutation(shown)[:_SETTLING_IMAGES]
    batches = np.array_split(chosen, -(-len(chosen) // _SETTLING_BATCH))
    for step, batch in enumerate(batches):
        for layer in normalizations:
            layer.momentum = step / (step + 1)  # the running mean is then that of all batches
        model(normalize(add_channel(images[batch])), training=True)
    for layer, momentum in zip(normalizations, momenta, strict=True):
        layer.momentum = momentum


def _batches(
    images: LabeledImages,
    shown: Integer[np.ndarray, " shown"],
    outputs: int,
    settings: TrainingSettings,
    epoch: Callable[[], int],
    teacher: Teacher | None,
    gate: Gate,
    glyphs: Glyphs,
) -> Any:
    """Return batches of the training images, reshuffled each epoch.

    Args:
        images: the training set, kept in uint8.
        shown: indices of those that an epoch shows.
        outputs: number of classes.
        settings: batch size and seed; the order of an epoch comes from (seed, epoch) alone.
        epoch: tells which epoch is about to run.
        teacher: returns probabilities to learn in addition to the labels.
        gate: no more is gathered once it is closed.
        glyphs: characters of handwriting fonts, for augmentation.

    Returns:
        A tf.data.Dataset of float32 images in [0, 1] and labels as probabilities.
    """
    import tensorflow as tf

    size = settings.batch_size

    def chunks() -> Iterator[Chunk]:
        random = np.random.default_rng([settings.seed, epoch()])
        order = shown[random.permutation(len(shown))[: settings.training_images]]
        whole = len(order) // size * size
        for start in range(0, whole, size * _CHUNK):
            yield gather(order[start : min(start + size * _CHUNK, whole)], size, random)
        if whole < len(order):
            yield gather(order[whole:], len(order) - whole, random)

    def gather(chosen: Integer[np.ndarray, " n"], size: int, random: np.random.Generator) -> Chunk:
        x, y = _varied(images.x[chosen], images.y[chosen], settings, outputs, random, glyphs)
        if teacher is not None:
            hard = np.eye(outputs, dtype=np.float32)[y]
            y = _TEACHERS_SHARE * teacher(x) + (1 - _TEACHERS_SHARE) * hard
        return x.reshape(-1, size, *x.shape[1:]), y.reshape(-1, size, *y.shape[1:])

    @tf.autograph.experimental.do_not_convert  # plain tensor operations, nothing to convert
    def prepare(x: Any, y: Any) -> tuple[Any, Any]:
        scaled = tf.cast(x, tf.float32)[..., tf.newaxis] * (1 / 255)
        return scaled, tf.one_hot(y, outputs) if teacher is None else y

    labels = (
        tf.TensorSpec((None, None), tf.uint8)
        if teacher is None
        else tf.TensorSpec((None, None, outputs), tf.float32)
    )
    return (
        tf.data.Dataset.from_generator(
            lambda: gate.through(chunks()),
            output_signature=(
                tf.TensorSpec((None, None, *images.x.shape[1:]), tf.uint8),
                labels,
            ),
        )
        .prefetch(1)
        .unbatch()
        .map(prepare)
        .prefetch(8)
        .apply(tf.data.experimental.assert_cardinality(settings.steps_per_epoch))
        .with_options(untuned())
    )


def _validation(images: LabeledImages, outputs: int) -> Any:
    """Feeds the images held out, None where there are none."""
    import tensorflow as tf

    if not len(images.y):
        return None
    batches = tf.data.Dataset.from_tensor_slices(preprocess(*images, outputs)).batch(1000)
    return batches.with_options(untuned())


def _varied(
    x: UInt8[np.ndarray, "n h w"],
    y: UInt8[np.ndarray, " n"],
    settings: TrainingSettings,
    outputs: int,
    random: np.random.Generator,
    glyphs: Glyphs,
) -> tuple[UInt8[np.ndarray, "n h w"], UInt8[np.ndarray, " n"]]:
    """Varies images as the recipe says."""
    match settings.recipe.augmentation:
        case "reading":
            return augment(x, y, outputs - 1, random, glyphs)
        case "handwriting":
            return augment(x, y, None, random, glyphs)
        case "digits":
            return augment_digits(x, random), y
        case "shifts":
            return augment_shifts(x, random), y
    return x, y

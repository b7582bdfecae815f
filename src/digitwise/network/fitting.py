"""Compile and fit, with everything that makes a broken-off training continue to the same end."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer, Shaped, UInt8

from digitwise.data.augmentation import augment, augment_digits, augment_shifts
from digitwise.data.fonts import NO_GLYPHS, Glyphs
from digitwise.data.formats import LabeledImages
from digitwise.data.mapped import Images
from digitwise.data.preprocessing import add_channel, normalize, preprocess
from digitwise.errors import DigitwiseError
from digitwise.network.backend import keras
from digitwise.network.checkpoints import (
    Checkpoint,
    TrainingState,
    assign,
    copy_values,
    read_latest,
    restore_checkpoint,
    take_checkpoint,
    write_checkpoint,
)
from digitwise.network.diagnosis import explain_nan
from digitwise.network.optimizers import build_optimizer
from digitwise.network.progress import ProgressDisplay
from digitwise.network.runs import OnEpoch, Run
from digitwise.network.settings import TrainingSettings

Chunk = tuple[UInt8[np.ndarray, "k b h w"], Shaped[np.ndarray, "k b ..."]]  # batches, labels
Teacher = Callable[[UInt8[np.ndarray, "n h w"]], Float32[np.ndarray, "n outputs"]]

_TEACHERS_SHARE = 0.8  # of what is learned; the rest are the labels
_STEPS_PER_EXECUTION = 50  # batches that run without coming back to Python
_CHUNK = 64  # batches that are gathered at a time
_SETTLING_IMAGES, _SETTLING_BATCH = 10_000, 1000  # that batch normalization settles by


def fit(
    model: "keras.Sequential",
    settings: TrainingSettings,
    train: LabeledImages,
    shown: Integer[np.ndarray, " shown"],
    validation: LabeledImages,
    run: Run,
    teacher: Teacher | None = None,
    on_epoch: OnEpoch | None = None,
    glyphs: Glyphs = NO_GLYPHS,
) -> TrainingState:
    """Trains a model from the run's last checkpoint on.

    Args:
        model: a built network; it is compiled here, and left float32 with the final weights.
        settings: decide the outcome.
        train: the training images; they may lie on disk, and are taken from there by the batch.
        shown: indices of those that an epoch shows.
        validation: what early stopping looks at; may be empty.
        run: where checkpoints and history go.
        teacher: gives the probabilities that are learned besides the labels.
        on_epoch: is told each epoch's figures, once they are kept.
        glyphs: characters of handwriting fonts, for augmentation.

    Returns:
        Where the training ended.

    Raises:
        DigitwiseError: the last checkpoint is damaged or another network's.
        MachineError: the disk is full or permission is missing; checkpoints are as they were.
    """
    outputs = model.output_shape[-1]
    checkpoint = read_latest(run.checkpoints)
    state = checkpoint.state
    with _computing_in(model, settings.precision):
        started = time.perf_counter() - state.seconds  # as if earlier sessions had just ended
        _compile(model, settings)
        restore_checkpoint(model, checkpoint)
        keeper = _Keeper(run, settings, checkpoint, started, on_epoch)
        if not state.stopped and state.epoch < settings.total_epochs:
            with ProgressDisplay(settings, state.epoch) as display, _Gate() as gate:
                model.fit(
                    _batches(
                        train, shown, outputs, settings, lambda: state.epoch, teacher, gate, glyphs
                    ),
                    initial_epoch=state.epoch,
                    epochs=settings.total_epochs,
                    validation_data=_validation(validation, outputs),
                    shuffle=False,  # the batches come shuffled
                    verbose=0,
                    callbacks=[keeper, display],
                )
    if settings.patience is not None and keeper.best:
        assign(model.variables, keeper.best)
    if settings.recipe.augmentation in ("digits", "shifts"):
        _settle_normalization(model, train.x, shown, settings.seed)
    state.seconds = time.perf_counter() - started
    return state


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


@contextlib.contextmanager
def _computing_in(model: "keras.Sequential", precision: str) -> Iterator[None]:
    """Lets a float32 model compute in bfloat16 for a while; its variables stay float32.

    The last layer keeps to float32, since a loss wants exact probabilities. Afterwards the model
    is as it was, and forgets the functions that were compiled meanwhile.
    """
    before = [(layer, layer.dtype_policy) for layer in _leaves(model)]
    if precision == "bfloat16":
        for layer, policy in before[:-1]:
            if policy.name == "float32":
                layer.dtype_policy = "mixed_bfloat16"
    try:
        yield
    finally:
        for layer, policy in before:
            layer.dtype_policy = policy
        model.train_function = model.test_function = model.predict_function = None


def _settle_normalization(
    model: "keras.Sequential",
    images: UInt8[Images, "n h w"],
    shown: Integer[np.ndarray, " shown"],
    seed: int,
) -> None:
    """Takes batch normalization's means and variances anew, from training images as they are.

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
        layer for layer in _leaves(model) if isinstance(layer, keras.layers.BatchNormalization)
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


def _leaves(model: Any) -> list[Any]:
    """Lists a model's layers in order, those of models inside it in their place."""
    return [
        leaf
        for layer in model.layers
        for leaf in (_leaves(layer) if isinstance(layer, keras.Model) else [layer])
    ]


class _Gate:
    """Lets chunks of images through to TensorFlow's thread until training ends, in whatever way.

    Leaving the gate waits for the chunk that is being gathered: Python waits for ever, or aborts,
    where it exits while that thread is still in a generator.
    """

    def __init__(self) -> None:
        self._gathering = threading.Lock()
        self._closed = False

    def __enter__(self) -> "_Gate":
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        with self._gathering:
            pass

    def through(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        """Passes chunks on while the gate is open."""
        while (chunk := self._next(chunks)) is not None:
            yield chunk

    def _next(self, chunks: Iterator[Chunk]) -> Chunk | None:
        """Lets a chunk be gathered; None when all are, or the gate is closed."""
        with self._gathering:
            return None if self._closed else next(chunks, None)


def _batches(
    images: LabeledImages,
    shown: Integer[np.ndarray, " shown"],
    outputs: int,
    settings: TrainingSettings,
    epoch: Callable[[], int],
    teacher: Teacher | None,
    gate: _Gate,
    glyphs: Glyphs,
) -> Any:
    """Feeds the training images, shuffled anew each epoch.

    Args:
        images: the training set, kept in uint8.
        shown: indices of those that an epoch shows.
        outputs: how many classes the network tells apart.
        settings: batch size and seed; the order of an epoch comes from (seed, epoch) alone.
        epoch: tells which epoch is about to run.
        teacher: gives the probabilities that are learned besides the labels.
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
        .with_options(_untuned())
    )


def _validation(images: LabeledImages, outputs: int) -> Any:
    """Feeds the images held out, None where there are none."""
    import tensorflow as tf

    if not len(images.y):
        return None
    batches = tf.data.Dataset.from_tensor_slices(preprocess(*images, outputs)).batch(1000)
    return batches.with_options(_untuned())


def _untuned() -> Any:
    """Has tf.data do as it is told, since the thread that tunes it ends up to a second late."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return options


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


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps history, best weights, early stopping and checkpoints, after each epoch."""

    def __init__(
        self,
        run: Run,
        settings: TrainingSettings,
        checkpoint: Checkpoint,
        started: float,
        on_epoch: OnEpoch | None,
    ) -> None:
        super().__init__()
        self._run = run
        self._settings = settings
        self._state = checkpoint.state
        self._started = started
        self._on_epoch = on_epoch
        self.best = checkpoint.best

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Takes stock of an epoch and leaves a checkpoint."""
        figures = {name: float(value) for name, value in (logs or {}).items()}
        if not np.isfinite(list(figures.values())).all():
            raise DigitwiseError(explain_nan(self._settings, epoch + 1))
        state = self._state
        state.epoch = epoch + 1
        state.seconds = time.perf_counter() - self._started
        state.history.append({"epoch": epoch + 1, **figures, "seconds": round(state.seconds, 3)})
        if "val_loss" in figures and figures["val_loss"] < state.best_loss:
            state.best_loss, state.best_epoch = figures["val_loss"], epoch + 1
            if self._settings.patience is not None:
                self.best = copy_values(self.model.variables)
        settings, patience = self._settings, self._settings.patience
        enough_steps = state.epoch * settings.steps_per_epoch >= settings.minimum_steps
        if patience is not None and enough_steps and state.epoch - state.best_epoch >= patience:
            state.stopped = self.model.stop_training = True
        write_checkpoint(self._run.checkpoints, take_checkpoint(self.model, state, self.best))
        self._run.write_history(state.history)
        if self._on_epoch is not None:
            self._on_epoch(state.history[-1])

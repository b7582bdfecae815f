"""Compile and fit, with everything that makes a broken-off training continue to the same end."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Integer, UInt8

from digitwise.data.augmentation import augment
from digitwise.data.formats import LabeledImages
from digitwise.data.preprocessing import preprocess
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
from digitwise.network.progress import ProgressDisplay
from digitwise.network.runs import Run
from digitwise.network.settings import TrainingSettings

_STEPS_PER_EXECUTION = 50  # batches that run without coming back to Python
_CHUNK = 64  # batches that are gathered at a time


def fit(
    model: "keras.Sequential",
    settings: TrainingSettings,
    train: LabeledImages,
    validation: LabeledImages,
    run: Run,
) -> TrainingState:
    """Trains a model from the run's last checkpoint on.

    Args:
        model: a built network; it is compiled here, and left float32 with the final weights.
        settings: decide the outcome.
        train: what to train on.
        validation: what early stopping looks at; may be empty.
        run: where checkpoints and history go.

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
        started = time.perf_counter()
        _compile(model, settings)
        restore_checkpoint(model, checkpoint)
        keeper = _Keeper(run, settings, checkpoint, started)
        if not state.stopped and state.epoch < settings.total_epochs:
            with ProgressDisplay(settings, state.epoch) as display:
                model.fit(
                    _batches(train, outputs, settings, lambda: state.epoch),
                    initial_epoch=state.epoch,
                    epochs=settings.total_epochs,
                    validation_data=preprocess(*validation, outputs) if len(validation.y) else None,
                    validation_batch_size=1000,
                    shuffle=False,  # the batches come shuffled
                    verbose=0,
                    callbacks=[keeper, display],
                )
    if settings.patience is not None and keeper.best:
        assign(model.variables, keeper.best)
    return state


def _compile(model: "keras.Sequential", settings: TrainingSettings) -> None:
    """Compiles a model by its recipe."""
    recipe = settings.recipe
    rate: Any = recipe.learning_rate
    steps = settings.total_epochs * settings.steps_per_epoch
    if recipe.schedule == "one-cycle":
        rate = OneCycle(rate, steps)
    elif recipe.schedule == "cosine":
        warm_up = max(1, steps // 20)
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, steps - warm_up, warmup_target=rate, warmup_steps=warm_up
        )
    if recipe.weight_decay:
        optimizer = keras.optimizers.AdamW(rate, recipe.weight_decay, beta_2=recipe.beta_2)
    else:
        optimizer = keras.optimizers.Adam(rate, beta_2=recipe.beta_2)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
        steps_per_execution=min(_STEPS_PER_EXECUTION, settings.steps_per_epoch),
        jit_compile=False,  # on the CPU it was measured five times slower
    )


@keras.saving.register_keras_serializable("digitwise")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that climbs for a quarter of all steps and falls to nought, both linearly.

    The idea is Smith's ("Super-Convergence", 2018), in the plain form of one triangle.

    Args:
        peak: the highest learning rate.
        steps: how many steps the training has.
    """

    def __init__(self, peak: float, steps: int) -> None:
        self.peak = peak
        self.steps = steps

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step, counted from 0."""
        step = keras.ops.cast(step, "float32")
        warm_up = max(1, self.steps // 4)
        climbing = (step + 1) / warm_up
        falling = (self.steps - step) / max(1, self.steps - warm_up)
        return self.peak * keras.ops.clip(keras.ops.minimum(climbing, falling), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"peak": self.peak, "steps": self.steps}


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


def _leaves(model: Any) -> list[Any]:
    """Lists a model's layers in order, those of models inside it in their place."""
    return [
        leaf
        for layer in model.layers
        for leaf in (_leaves(layer) if isinstance(layer, keras.Model) else [layer])
    ]


def _batches(
    images: LabeledImages, outputs: int, settings: TrainingSettings, epoch: Callable[[], int]
) -> Any:
    """Feeds the training images, shuffled anew each epoch.

    Args:
        images: the training set, kept in uint8.
        outputs: how many classes the network tells apart.
        settings: batch size and seed; the order of an epoch comes from (seed, epoch) alone.
        epoch: tells which epoch is about to run.

    Returns:
        A tf.data.Dataset of float32 images in [0, 1] and one-hot labels.
    """
    import tensorflow as tf

    size = settings.batch_size

    def chunks() -> Iterator[tuple[UInt8[np.ndarray, "k b h w"], UInt8[np.ndarray, "k b"]]]:
        random = np.random.default_rng([settings.seed, epoch()])
        order = random.permutation(len(images.y))
        whole = len(order) // size * size
        for start in range(0, whole, size * _CHUNK):
            yield gather(order[start : min(start + size * _CHUNK, whole)], size, random)
        if whole < len(order):
            yield gather(order[whole:], len(order) - whole, random)

    def gather(
        chosen: Integer[np.ndarray, " n"], size: int, random: np.random.Generator
    ) -> tuple[UInt8[np.ndarray, "k b h w"], UInt8[np.ndarray, "k b"]]:
        x, y = images.x[chosen], images.y[chosen]
        if settings.recipe.augmentation:
            x, y = augment(x, y, outputs - 1, random)
        return x.reshape(-1, size, *x.shape[1:]), y.reshape(-1, size)

    @tf.autograph.experimental.do_not_convert  # plain tensor operations, nothing to convert
    def prepare(x: Any, y: Any) -> tuple[Any, Any]:
        return tf.cast(x, tf.float32)[..., tf.newaxis] * (1 / 255), tf.one_hot(y, outputs)

    signature = (
        tf.TensorSpec((None, None, *images.x.shape[1:]), tf.uint8),
        tf.TensorSpec((None, None), tf.uint8),
    )
    return (
        tf.data.Dataset.from_generator(chunks, output_signature=signature)
        .prefetch(1)
        .unbatch()
        .map(prepare)
        .prefetch(8)
        .apply(tf.data.experimental.assert_cardinality(settings.steps_per_epoch))
    )


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Keeps history, best weights, early stopping and checkpoints, after each epoch."""

    def __init__(
        self, run: Run, settings: TrainingSettings, checkpoint: Checkpoint, started: float
    ) -> None:
        super().__init__()
        self._run = run
        self._settings = settings
        self._state = checkpoint.state
        self._seconds_before = checkpoint.state.seconds
        self._started = started
        self.best = checkpoint.best

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Takes stock of an epoch and leaves a checkpoint."""
        figures = {name: float(value) for name, value in (logs or {}).items()}
        if not np.isfinite(figures["loss"]):
            raise DigitwiseError(
                f"the loss of epoch {epoch + 1} is not a number: the network cannot learn like "
                "this; check its layers"
            )
        state = self._state
        state.epoch = epoch + 1
        state.seconds = self._seconds_before + time.perf_counter() - self._started
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

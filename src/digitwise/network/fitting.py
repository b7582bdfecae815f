"""Compile and fit, with everything that makes a broken-off training continue to the same end."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

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
from digitwise.network.progress import ProgressDisplay
from digitwise.network.runs import OnEpoch, Run
from digitwise.network.settings import TrainingSettings

Chunk = TypeVar("Chunk")


@dataclass(frozen=True)
class Task:
    """What a network is trained for.

    Attributes:
        compile: compiles a model for the task.
        batches: makes the batches, as a tf.data.Dataset; is given a function that returns the
            epoch about to run, and a gate to pass chunks of examples through.
        validation: batches held out, a tf.data.Dataset; None for none.
        finish: called with the trained model; None for nothing.
    """

    compile: Callable[[Any], None]
    batches: Callable[[Callable[[], int], "Gate"], Any]
    validation: Any
    finish: Callable[[Any], None] | None = None


def fit(
    model: "keras.Model",
    settings: TrainingSettings,
    task: Task,
    run: Run,
    on_epoch: OnEpoch | None = None,
) -> TrainingState:
    """Trains a model from the run's last checkpoint on.

    Args:
        model: a built network; it is compiled here, and left float32 with the final weights.
        settings: decide the outcome.
        task: what the model is trained for.
        run: where checkpoints and history go.
        on_epoch: is told each epoch's figures, once they are kept.

    Returns:
        Where the training ended.

    Raises:
        DigitwiseError: the last checkpoint is damaged or another network's.
        MachineError: the disk is full or permission is missing; checkpoints are as they were.
    """
    checkpoint = read_latest(run.checkpoints)
    state = checkpoint.state
    with _computing_in(model, settings.precision):
        started = time.perf_counter() - state.seconds  # as if earlier sessions had just ended
        task.compile(model)
        restore_checkpoint(model, checkpoint)
        keeper = _Keeper(run, settings, checkpoint, started, on_epoch)
        if not state.stopped and state.epoch < settings.total_epochs:
            with ProgressDisplay(settings, state.epoch) as display, Gate() as gate:
                model.fit(
                    task.batches(lambda: state.epoch, gate),
                    initial_epoch=state.epoch,
                    epochs=settings.total_epochs,
                    validation_data=task.validation,
                    shuffle=False,  # the batches come shuffled
                    verbose=0,
                    callbacks=[keeper, display],
                )
    if settings.patience is not None and keeper.best:
        assign(model.variables, keeper.best)
    if task.finish is not None:
        task.finish(model)
    state.seconds = time.perf_counter() - started
    return state


@contextlib.contextmanager
def _computing_in(model: "keras.Model", precision: str) -> Iterator[None]:
    """Lets a float32 model compute in bfloat16 for a while; its variables stay float32.

    The last layer keeps to float32, since a loss wants exact probabilities. Afterwards the model
    is as it was, and forgets the functions that were compiled meanwhile.
    """
    before = [(layer, layer.dtype_policy) for layer in leaves_of(model)]
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


def leaves_of(model: Any) -> list[Any]:
    """Lists a model's layers in order, those of models inside it in their place."""
    return [
        leaf
        for layer in model.layers
        for leaf in (leaves_of(layer) if isinstance(layer, keras.Model) else [layer])
    ]


class Gate:
    """Lets chunks of examples through to TensorFlow's thread until training ends, in any way.

    Leaving the gate waits for the chunk that is being gathered: Python waits for ever, or aborts,
    where it exits while that thread is still in a generator.
    """

    def __init__(self) -> None:
        self._gathering = threading.Lock()
        self._closed = False

    def __enter__(self) -> "Gate":
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


def untuned() -> Any:
    """Has tf.data do as it is told, since the thread that tunes it ends up to a second late."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return options


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

"""The live line of a training: loss, accuracy, validation and time left."""

import time

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from digitwise.messages import stderr_console
from digitwise.network.backend import keras
from digitwise.network.settings import TrainingSettings


class ProgressDisplay(keras.callbacks.Callback):  # type: ignore[misc]
    """Shows a bar over all steps of a training, and a line for each epoch behind it.

    Args:
        settings: say how many steps there are.
        epochs_done: how many of them are behind.
    """

    def __init__(self, settings: TrainingSettings, epochs_done: int) -> None:
        super().__init__()
        self._settings = settings
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}/" + str(settings.total_epochs)),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=stderr_console(),
            transient=True,
        )
        self._task = self._progress.add_task(
            "training",
            total=settings.total_epochs * settings.steps_per_epoch,
            completed=epochs_done * settings.steps_per_epoch,
            epoch=epochs_done + 1,
            figures="",
        )
        self._epoch = epochs_done
        self._epoch_started = 0.0

    def __enter__(self) -> "ProgressDisplay":
        """Puts the bar on the screen."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Takes the bar off the screen, however the training ended."""
        self._progress.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        """Notes the time."""
        self._epoch = epoch
        self._epoch_started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Moves the bar."""
        steps = self._settings.steps_per_epoch
        self._progress.update(
            self._task,
            completed=self._epoch * steps + min(batch + 1, steps),
            epoch=self._epoch + 1,
            figures=_figures(logs or {}),
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Leaves the epoch's line behind."""
        took = time.perf_counter() - self._epoch_started
        number = f"epoch {epoch + 1}/{self._settings.total_epochs}"
        self._progress.console.print(
            f"{number}  {_figures(logs or {})}  {took:.1f} s", highlight=False
        )


def _figures(logs: dict[str, float]) -> str:
    """Words an epoch's figures."""
    parts = [f"loss {logs['loss']:.4f}", f"accuracy {logs['accuracy']:.2%}"] if logs else []
    if "val_accuracy" in logs:
        parts.append(f"validation {logs['val_accuracy']:.2%}")
    return "  ".join(parts)

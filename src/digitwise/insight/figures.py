"""matplotlib figures, one function each, in one palette that survives grey print."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from digitwise.errors import missing_extra
from digitwise.network.evaluation import CALIBRATION_BINS, Evaluation
from digitwise.storage import open_whole

try:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter
except ImportError as error:
    raise missing_extra("drawing figures", "insight") from error

DARK, LIGHT, GROUND = "#1f3b73", "#e07b39", "#6b7280"
_DPI = 130
_GRID_COLUMNS, _GRID_ROWS = 10, 5


def learning_curves(history: Sequence[dict[str, int | float]]) -> Figure:
    """Draws loss and accuracy over the epochs, training beside validation.

    Args:
        history: a row an epoch, with `epoch`, `loss`, `accuracy` and perhaps `val_loss` and
            `val_accuracy`.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for ax, name, title in zip(
        axes, ("loss", "accuracy"), ("Loss (cross-entropy, nats)", "Accuracy"), strict=True
    ):
        ax.plot(epochs, [row[name] for row in history], "o-", color=DARK, label="training", ms=4)
        if f"val_{name}" in history[0]:
            held_out = [row[f"val_{name}"] for row in history]
            ax.plot(epochs, held_out, "s--", color=LIGHT, label="validation", ms=4)
        ax.set_title(title)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        ax.legend()
    axes[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    return figure


def confusion_matrix(evaluation: Evaluation) -> Figure:
    """Draws which class is read as which; only the mistakes are shaded, by their number."""
    classes, counts = evaluation.classes, evaluation.confusion
    size = max(5.0, 0.62 * len(classes) + 1.6)
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    ax = figure.subplots()
    mistakes = counts - np.diag(np.diag(counts))
    ax.imshow(mistakes, cmap="Blues", vmin=0, vmax=max(1, int(mistakes.max())) * 1.3)
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            heavy = mistakes[row, column] > mistakes.max() * 0.6
            ax.text(
                column,
                row,
                f"{counts[row, column]:,}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if heavy and row != column else "black",
                fontweight="bold" if row == column else "normal",
            )
    slanted = any(len(name) > 2 for name in classes)
    ax.set_xticks(range(len(classes)), classes, rotation=45 if slanted else 0, ha="center")
    ax.set_yticks(range(len(classes)), classes)
    ax.set_xlabel("read as")
    ax.set_ylabel("is")
    ax.set_title(
        f"{int(mistakes.sum()):,} mistakes in {evaluation.images:,} images "
        f"(accuracy {evaluation.accuracy:.2%})"
    )
    return figure


def calibration_curve(evaluation: Evaluation) -> Figure:
    """Draws accuracy against confidence, over bins of equal mass."""
    confidence = evaluation.probabilities.max(axis=1)
    right = evaluation.probabilities.argmax(axis=1) == evaluation.y
    parts = [
        part
        for part in np.array_split(np.argsort(confidence, kind="stable"), CALIBRATION_BINS)
        if len(part)
    ]
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    ax = figure.subplots()
    means = [confidence[part].mean() for part in parts]
    shares = [right[part].mean() for part in parts]
    lowest = max(0.0, min(*means, *shares) - 0.02)
    ax.plot([lowest, 1], [lowest, 1], color=GROUND, lw=1, label="as sure as right")
    ax.plot(means, shares, "o-", color=DARK, label=f"{len(parts)} bins of equal mass")
    ax.set_xlim(lowest, 1.002)
    ax.set_ylim(lowest, 1.002)
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlabel("confidence")
    ax.set_ylabel("accuracy")
    ax.set_title(f"Expected calibration error {evaluation.calibration_error:.2%}")
    ax.grid(alpha=0.3)
    ax.legend(loc="upper left")
    return figure


def worst_mistakes(evaluation: Evaluation) -> Figure:
    """Draws the images that were read wrong, the surest mistakes first, at most fifty."""
    shown = evaluation.mistakes[: _GRID_COLUMNS * _GRID_ROWS]
    rows = max(1, math.ceil(len(shown) / _GRID_COLUMNS))
    figure = Figure(figsize=(_GRID_COLUMNS * 1.05, rows * 1.32 + 0.5), layout="constrained")
    axes = figure.subplots(rows, _GRID_COLUMNS, squeeze=False).ravel()
    for ax in axes:
        ax.set_axis_off()
    predicted = evaluation.probabilities.argmax(axis=1)
    for ax, index in zip(axes, shown, strict=False):
        ax.imshow(evaluation.x[index], cmap="gray_r", vmin=0, vmax=255)
        is_class = evaluation.classes[evaluation.y[index]]
        read_as = evaluation.classes[predicted[index]]
        sure = evaluation.probabilities[index].max()
        ax.set_title(f"{is_class} → {read_as}\n{sure:.0%} sure", fontsize=8)
    wrong = evaluation.images - int(evaluation.confusion.trace())
    figure.suptitle(
        f"The surest of {wrong:,} mistakes: what it is → what it was read as"
        if wrong
        else "No mistake was made"
    )
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Writes a figure as PNG.

    Raises:
        MachineError: the disk is full or permission is missing.
    """
    with open_whole(path) as file:
        figure.savefig(file, format="png", dpi=_DPI)
    return path


def save_evaluation(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Draws all figures of an evaluation into a folder.

    Returns:
        The files written.
    """
    drawings: dict[str, Callable[[Evaluation], Any]] = {
        "confusion.png": confusion_matrix,
        "calibration.png": calibration_curve,
        "mistakes.png": worst_mistakes,
    }
    return [save(draw(evaluation), folder / name) for name, draw in drawings.items()]

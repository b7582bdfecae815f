"""matplotlib figures, one function each, in one palette that survives grey print."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from digitwise.data.formats import LabeledImages
from digitwise.errors import missing_extra
from digitwise.insight.activations import LayerOutput
from digitwise.network.evaluation import CALIBRATION_BINS, Evaluation
from digitwise.storage import MARK, open_whole

try:
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter
except ImportError as error:
    raise missing_extra("drawing figures", "insight") from error

DARK, LIGHT, GROUND = "#1f3b73", "#e07b39", "#6b7280"
_EVIDENCE = LinearSegmentedColormap.from_list("evidence", [DARK, "#ffffff", LIGHT])
DPI = 130
_GRID_COLUMNS, _GRID_ROWS = 10, 5
_LONGEST_NAME = 14  # characters


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
    mistakes = evaluation.confusions
    darkest = max(1.3 * float(mistakes.max()), 0.02 * evaluation.images / len(classes))
    ax.imshow(mistakes, cmap="Blues", vmin=0, vmax=darkest)
    for row, column in np.ndindex(*counts.shape):
        if counts[row, column]:
            heavy = mistakes[row, column] > darkest * 0.5
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
        f"{evaluation.wrong:,} mistakes in {evaluation.images:,} images "
        f"(accuracy {evaluation.accuracy:.2%})"
    )
    return figure


def calibration_curve(evaluation: Evaluation) -> Figure:
    """Draws accuracy against confidence, over bins of equal mass."""
    confidence = evaluation.confidence
    right = evaluation.read_as == evaluation.y
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
    for ax, index in zip(axes, shown, strict=False):
        ax.imshow(evaluation.x[index], cmap="gray_r", vmin=0, vmax=255)
        is_class = evaluation.classes[evaluation.y[index]]
        read_as = evaluation.classes[evaluation.read_as[index]]
        sure = evaluation.confidence[index]
        ax.set_title(f"{is_class} → {read_as}\n{sure:.0%} sure", fontsize=8)
    wrong = evaluation.wrong
    which = "All" if wrong == len(shown) else f"The surest {len(shown)} of"
    figure.suptitle(
        f"{which} {wrong:,} mistakes: what it is → what it was read as"
        if wrong
        else "No mistake was made"
    )
    return figure


EVALUATION: dict[str, Callable[[Evaluation], Figure]] = {
    "confusion.png": confusion_matrix,
    "calibration.png": calibration_curve,
    "mistakes.png": worst_mistakes,
}


def save(figure: Figure, path: Path, *, force: bool = False) -> Path:
    """Write a figure as PNG.

    Args:
        figure: what to write.
        path: the file. One that Digitwise wrote is replaced.
        force: whether to replace a file that Digitwise did not write.

    Raises:
        DigitwiseError: the file exists and must be kept.
        MachineError: the disk is full or permission is missing.
    """
    with open_whole(path, force=force) as file:
        figure.savefig(
            file,
            format="png",
            dpi=DPI,
            metadata={"Software": MARK},
            pil_kwargs={"compress_level": 3},
        )
    return path


def save_evaluation(evaluation: Evaluation, folder: Path, *, force: bool = False) -> list[Path]:
    """Draw all figures of an evaluation into a folder.

    Args:
        evaluation: what to draw.
        folder: where the files of `EVALUATION` are written.
        force: as for `save`.

    Returns:
        The files written.

    Raises:
        DigitwiseError: as `save`.
        MachineError: likewise.
    """
    return [save(draw(evaluation), folder / name, force=force) for name, draw in EVALUATION.items()]


def crop_and_input(crop: UInt8[np.ndarray, "h w 3"], image: UInt8[np.ndarray, "28 28"]) -> Figure:
    """Draws a digit as it stands in the picture, and as the network saw it."""
    figure = Figure(figsize=(5.6, 3.0))  # laid out by hand, which is quicker
    left, right = (figure.add_axes((x, 0.02, 0.46, 0.87)) for x in (0.02, 0.52))
    left.imshow(crop)
    left.set_title(f"in the picture, {crop.shape[1]}×{crop.shape[0]} pixels", fontsize=10)
    right.imshow(image, cmap="gray", vmin=0, vmax=255)
    right.set_title("as the network saw it, 28×28", fontsize=10)
    for ax in (left, right):
        ax.set_anchor("N")
        ax.set_xticks([])
        ax.set_yticks([])
    return figure


def probabilities(
    values: Float32[np.ndarray, " outputs"], classes: Sequence[str], read_as: int
) -> Figure:
    """Draws how probable each class is, and that it is none, as bars."""
    names = [_short(name) for name in [*classes, "none"][: len(values)]]
    slanted = max(map(len, classes)) > 2
    figure = Figure(figsize=(5.6, 3.7 if slanted else 3.1))
    ax = figure.add_axes((0.13, 0.3, 0.85, 0.62) if slanted else (0.13, 0.16, 0.85, 0.74))
    colors = [LIGHT if number == read_as else DARK for number in range(len(values))]
    bars = ax.bar(range(len(values)), values, color=colors)
    rotation, alignment = (40, "right") if slanted else (0, "center")
    ax.set_xticks(
        range(len(values)), names, rotation=rotation, ha=alignment, rotation_mode="anchor"
    )
    ax.bar_label(bars, [f"{value:.1%}" if value >= 0.001 else "" for value in values], fontsize=8)
    ax.set_ylim(0, 1.1)
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set_xlabel("class")
    ax.set_ylabel("probability")
    ax.set_title(f"Read as {classes[read_as]}", fontsize=10)
    return figure


def _short(name: str) -> str:
    """Shorten a long class name so that it fits under a bar or over a small image."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def evidence(
    image: UInt8[np.ndarray, "28 28"], values: Float32[np.ndarray, "28 28"], title: str
) -> Figure:
    """Draws where evidence lies over a digit: orange speaks for it, blue against it."""
    figure = Figure(figsize=(4.4, 3.6))
    ax = figure.add_axes((0.02, 0.03, 0.74, 0.88))
    most = max(float(np.abs(values).max()), 1e-6)
    ax.imshow(image, cmap="gray_r", vmin=0, vmax=510)
    strength = np.abs(values) / most
    shown = ax.imshow(values, cmap=_EVIDENCE, vmin=-most, vmax=most, alpha=0.9 * strength**0.6)
    _color_scale(figure, shown, (0.78, 0.08, 0.035, 0.78)).set_ylabel("evidence (nats)")
    ax.contour(image, levels=[100], colors=GROUND, linewidths=0.8)
    ax.set_title(title, fontsize=10)
    ax.set_xticks([])
    ax.set_yticks([])
    return figure


def feature_maps(layer: LayerOutput) -> Figure:
    """Draws all maps of a layer as one tiled image; the brighter, the stronger."""
    maps = np.moveaxis(layer.values, -1, 0)
    columns = math.ceil(math.sqrt(len(maps) * 1.6))
    return _tiles(maps, columns, f"{_told(layer)}: {_maps(layer)}")


def maps_of_classes(
    layers: Sequence[LayerOutput], classes: Sequence[str], most: int = 16
) -> Figure:
    """Draws what a layer makes of several pictures, a row a picture, a column a map.

    Args:
        layers: the same layer's output for each picture.
        classes: what each picture shows.
        most: how many maps are drawn, the first ones.
    """
    count = min(most, layers[0].values.shape[-1])
    maps = np.concatenate([np.moveaxis(layer.values[..., :count], -1, 0) for layer in layers])
    first = f", the first {count}" if count < layers[0].values.shape[-1] else ""
    title = f"{_told(layers[0])}: {_maps(layers[0])}{first}"
    return _tiles(maps, count, title, rows=classes)


def first_kernels(kernels: Float32[np.ndarray, "kh kw channels filters"]) -> Figure:
    """Draws the first convolution's kernels; orange weighs a pixel up, blue down."""
    height, width, channels, filters = kernels.shape
    flat = np.moveaxis(kernels, (2, 3), (1, 0)).reshape(filters * channels, height, width)
    columns = math.ceil(math.sqrt(len(flat) * 2))
    most = float(np.abs(flat).max())
    title = f"{len(flat)} kernels of {height}×{width} pixels"
    return _tiles(flat, columns, title, colors=_EVIDENCE, limits=(-most, most))


def _told(layer: LayerOutput) -> str:
    """Names a layer, with what its cells see."""
    window = f", kernel {layer.kernel[0]}×{layer.kernel[1]}" if layer.kernel else ""
    strides = f", strides {layer.strides[0]}" if layer.strides else ""
    return f"{layer.name} ({layer.kind}{window}{strides})"


def _maps(layer: LayerOutput) -> str:
    """Tells how many maps a layer has, and how large they are."""
    height, width, count = layer.values.shape
    return f"{count} maps of {height}×{width}"


def _tiles(
    maps: Float32[np.ndarray, "n h w"],
    columns: int,
    title: str,
    *,
    rows: Sequence[str] = (),
    colors: Any = "magma",
    limits: tuple[float, float] | None = None,
) -> Figure:
    """Draws small pictures in rows, with one scale of color; `rows` names the rows."""
    _, height, width = maps.shape
    lines = math.ceil(len(maps) / columns)
    tiled = np.full((lines * (height + 1) + 1, columns * (width + 1) + 1), np.nan, np.float32)
    for number, values in enumerate(maps):
        row, column = divmod(number, columns)
        y, x = row * (height + 1) + 1, column * (width + 1) + 1
        tiled[y : y + height, x : x + width] = values
    wide, head, bar = 6.4, 0.35, 0.7  # inches
    left = 0.15 + 0.085 * max(map(len, rows)) if rows else 0.0
    high = wide * tiled.shape[0] / tiled.shape[1]
    whole = left + wide + bar
    figure = Figure(figsize=(whole, high + head))
    down = high / (high + head)
    ax = figure.add_axes((left / whole, 0.0, wide / whole, down))
    low, top = limits or (None, None)
    shown = ax.imshow(
        tiled, cmap=colors, interpolation="nearest", aspect="auto", vmin=low, vmax=top
    )
    if rows:
        ax.set_frame_on(False)
        ax.set_xticks([])
        middles = [row * (height + 1) + (height + 1) / 2 for row in range(len(rows))]
        ax.set_yticks(middles, rows)
        ax.tick_params(length=0)
    else:
        ax.set_axis_off()
    _color_scale(figure, shown, ((left + wide) / whole + 0.01, 0.1 * down, 0.02, 0.8 * down))
    figure.text(0.01, 1 - 0.12 / (high + head), title, va="top", fontsize=10)
    return figure


def _color_scale(figure: Figure, shown: Any, place: tuple[float, float, float, float]) -> Any:
    """Draws what number each color is; matplotlib's own colorbar takes three times as long."""
    ax = figure.add_axes(place)
    low, top = shown.get_clim()
    steps = np.linspace(low, top, 128)[:, np.newaxis]
    ax.imshow(steps, cmap=shown.get_cmap(), aspect="auto", origin="lower", extent=(0, 1, low, top))
    ax.set_xticks([])
    ends = [low, (low + top) / 2, top]  # few, since text is slow to draw
    ax.set_yticks(ends, [f"{value:.2g}" for value in ends])
    ax.yaxis.set_label_position("right")
    ax.yaxis.tick_right()
    return ax


def neighbors(
    image: UInt8[np.ndarray, "28 28"],
    nearest: LabeledImages,
    distances: Float32[np.ndarray, " k"],
    classes: Sequence[str],
) -> Figure:
    """Draws a digit and the training digits that the network finds most alike."""
    count = len(nearest.y)
    figure = Figure(figsize=(1.05 * (count + 1), 1.75), layout="constrained")
    axes = figure.subplots(1, count + 1)
    axes[0].imshow(image, cmap="gray_r", vmin=0, vmax=255)
    axes[0].set_title("this digit", fontsize=8, fontweight="bold")
    for ax, other, label, away in zip(axes[1:], nearest.x, nearest.y, distances, strict=True):
        ax.imshow(other, cmap="gray_r", vmin=0, vmax=255)
        ax.set_title(f"{_short(classes[label])}\n{away:.3f} away", fontsize=8)
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
    return figure

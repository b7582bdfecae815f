"""How well hands that MNIST does not know are read, beside a plain MNIST network.

    python benchmarks/hands.py [--bundle DIR...] [--plain DIR] [--sheets FOLDER]
                               [--normalize auto|always|never]

Prints a row per set: accuracy, share accepted as digits, expected calibration error, and the most
frequent confusions; then one per corruption of MNIST's test images (`corruptions.py`). Keeps them
as results/hands.json; several bundles, seeds of one recipe, are averaged. The sets are found in the
folder that DIGITWISE_DATA names; a missing one is left out, with a notice. Images that a bundle was
trained on are left out. With --normalize never, images are used as they are, and the figures are
kept as results/hands-never.json. --sheets draws the misread digits of each set, as PNG files.
"""

import argparse
import gzip
import os
import statistics
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import reading
import results
from corruptions import CORRUPTIONS
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

from digitwise.bundle import Classification
from digitwise.data.fonts import NON_DIGITS, find_fonts
from digitwise.data.loading import find_dataset
from digitwise.data.normalization import NORMALIZE, fit_all_to_mnist
from digitwise.data.seen import digest_images
from digitwise.network.evaluation import expected_calibration_error, seen_by
from digitwise.reading.reader import Reader

FIGURES = ("accuracy", "accepted", "calibration_error")
MEAN_OF_CORRUPTIONS = "MNIST-C: mean of 15"
SHEET_COLUMNS, SHEET_ROWS, ZOOM = 20, 8, 3
Images = np.ndarray  # (n, 28, 28) uint8


class DigitSet(NamedTuple):
    """Images to classify.

    Attributes:
        name: its name in the table.
        x: (n, 28, 28) uint8.
        y: their labels; None for images that are not digits.
    """

    name: str
    x: Images
    y: np.ndarray | None


def digit_sets(data: Path) -> Iterator[DigitSet]:
    """Load the sets at hand, one after the other."""
    for name, title in (
        ("mnist", "MNIST test, USA"),
        ("semeion", "Semeion, Italy"),
        ("multiple-features", "Multiple Features, Netherlands"),
        ("optdigits", "Optdigits, Turkey"),
        ("fashion-mnist", "Fashion-MNIST test, not digits"),
    ):
        found = find_dataset(name)
        if found is None:
            print(f"notice: {name} is missing: left out")
            continue
        images = found.test or found.train
        assert images is not None
        yield DigitSet(title, np.asarray(images.x), None if "not digits" in title else images.y)
    small = load_digits()
    scaled = (small.images * 255 / 16).round().astype(np.uint8)
    yield DigitSet("scikit-learn's digits, Turkey", fit_all_to_mnist(scaled), small.target)
    cvl = data / "hands" / "cvl-validation.npz"
    if cvl.is_file():
        with np.load(cvl) as arrays:
            yield DigitSet("CVL validation, Central Europe", arrays["x_test"], arrays["y_test"])
    else:
        print(f"notice: {cvl} is missing: left out")
    usps = data / "usps" / "zip.test.gz"
    if usps.is_file():
        with gzip.open(usps, "rt") as lines:
            rows = np.array([line.split() for line in lines], float)
        x = ((rows[:, 1:].reshape(-1, 16, 16) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
        yield DigitSet("USPS test, USA", fit_all_to_mnist(x), rows[:, 0].astype(int))
    else:
        print(f"notice: {usps} is missing: left out")
    if (data / "fonts").is_dir():
        hands = [font for font in find_fonts(data / "fonts") if font.is_for_validation]
        digits = [(font.draw(str(digit)), digit) for font in hands for digit in range(10)]
        drawn = [(glyph, digit) for glyph, digit in digits if glyph is not None]
        x, y = (
            fit_all_to_mnist([glyph for glyph, _ in drawn]),
            np.array([digit for _, digit in drawn]),
        )
        yield DigitSet("digits of ten handwriting fonts", x, y)
        letters = [font.draw(letter) for font in hands for letter in NON_DIGITS]
        shown = [letter for letter in letters if letter is not None]
        yield DigitSet("letters of ten fonts, not digits", fit_all_to_mnist(shown), None)
    else:
        print(f"notice: {data / 'fonts'} is missing: left out")


def unseen(reader: Reader, digits: DigitSet) -> DigitSet:
    """Leave out the images that a bundle was trained on."""
    seen = seen_by(reader.bundle)
    if seen is None or digits.y is None:
        return digits
    left = ~seen.was_trained_on(digest_images(digits.x))
    is_part = not left.all()
    name = f"{digits.name}, validation split" if is_part else digits.name
    return DigitSet(name, digits.x[left], digits.y[left])


def figures_of(found: Classification, digits: DigitSet) -> dict[str, Any]:
    """Return accuracy, share accepted, calibration error and confusions."""
    figures: dict[str, Any] = {
        "images": len(digits.x),
        "accepted": float(found.accepted.mean()),
    }
    if digits.y is not None:
        wrong = found.classes != digits.y
        pairs = zip(digits.y[wrong].tolist(), found.classes[wrong].tolist(), strict=True)
        figures |= {
            "accuracy": float(1 - wrong.mean()),
            "calibration_error": expected_calibration_error(found.probabilities, digits.y),
            "confusions": [[*pair, count] for pair, count in Counter(pairs).most_common(3)],
        }
    return figures


def measure(
    reader: Reader, plain: Reader, data: Path, sheets: Path | None, normalize: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Classify all sets, and all corruptions of MNIST's test images, with both networks.

    Args:
        reader: the network to measure.
        plain: the network beside it; gets the same images.
        data: the folder of the sets.
        sheets: the folder for pictures of the reader's failures; None for none.
        normalize: as `Reader.classify` takes it.

    Returns:
        The figures of each, by set.
    """
    rows: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    corrupted_names = []
    for digits in _with_corruptions(digit_sets(data)):
        part = unseen(reader, digits)
        if part.name.startswith("MNIST-C"):
            corrupted_names.append(part.name)
        for network, figures in zip((reader, plain), rows, strict=True):
            found = network.classify(part.x, normalize=normalize)
            figures[part.name] = figures_of(found, part)
            if network is reader and sheets is not None:
                draw_failures(found, part, sheets)
    if corrupted_names:
        for figures in rows:
            accuracies = [figures[name]["accuracy"] for name in corrupted_names]
            figures[MEAN_OF_CORRUPTIONS] = {"accuracy": statistics.fmean(accuracies)}
    return rows


def _with_corruptions(sets: Iterator[DigitSet]) -> Iterator[DigitSet]:
    """Yield the sets, and at the end MNIST's test images with each corruption."""
    test = None
    for digits in sets:
        test = digits if digits.name.startswith("MNIST test") else test
        yield digits
    if test is not None:
        for name, corrupt in CORRUPTIONS.items():
            corrupted = np.ascontiguousarray(corrupt(test.x, np.random.default_rng(0)))
            yield DigitSet(f"MNIST-C: {name.replace('_', ' ')}", corrupted, test.y)


def draw_failures(found: Classification, digits: DigitSet, folder: Path) -> None:
    """Draw misread digits, and accepted non-digits, with the labels above."""
    failed = found.classes != digits.y if digits.y is not None else found.accepted
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(failed))
    chosen = chosen[: SHEET_COLUMNS * SHEET_ROWS]
    if not len(chosen):
        return
    if digits.y is not None:
        chosen = chosen[np.lexsort((found.classes[chosen], digits.y[chosen]))]
    tile = 28 * ZOOM
    rows = -(-len(chosen) // SHEET_COLUMNS)
    canvas = np.full((rows * (tile + 22), SHEET_COLUMNS * (tile + 6)), 70, np.uint8)
    for place, index in enumerate(chosen.tolist()):
        row, column = divmod(place, SHEET_COLUMNS)
        top, left = row * (tile + 22) + 18, column * (tile + 6) + 3
        enlarged = np.kron(digits.x[index], np.ones((ZOOM, ZOOM), np.uint8))
        canvas[top : top + tile, left : left + tile] = enlarged
        truth = "" if digits.y is None else f"{digits.y[index]} as "
        label, font = f"{truth}{found.classes[index]}", cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(canvas, label, (left, top - 5), font, 0.42, 255, 1, cv2.LINE_AA)
    folder.mkdir(parents=True, exist_ok=True)
    name = "".join(letter if letter.isalnum() else "-" for letter in digits.name.lower())
    cv2.imwrite(str(folder / f"{name}.png"), canvas)


def average(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Average figures over seeds; the confusions are the first one's."""
    rows: dict[str, Any] = {}
    for name, first in runs[0].items():
        rows[name] = dict(first)
        for figure in FIGURES:
            if figure in first:
                values = [run[name][figure] for run in runs]
                rows[name][figure] = statistics.fmean(values)
                rows[name][f"{figure}_deviation"] = results.deviation(values)
    return rows


def print_table(rows: dict[str, Any], plain: dict[str, Any]) -> None:
    """Print a row per set."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("set")
    for heading in ("images", "accuracy", "plain", "accepted", "plain", "calibration error"):
        table.add_column(heading, justify="right")
    table.add_column("most frequent confusions")
    for name, row in rows.items():
        pairs = ", ".join(f"{a} as {b} ({n})" for a, b, n in row.get("confusions", []))
        table.add_row(
            name,
            f"{row['images']:,}" if "images" in row else "",
            *(
                f"{source[figure]:.2%}" if figure in source else ""
                for figure, source in (
                    ("accuracy", row),
                    ("accuracy", plain[name]),
                    ("accepted", row),
                    ("accepted", plain[name]),
                    ("calibration_error", row),
                )
            ),
            pairs,
        )
    Console(width=160).print(table)


def main() -> None:
    data = Path(os.environ.get("DIGITWISE_DATA", "../shared/data"))
    os.environ["DIGITWISE_DATA"] = str(data)
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", nargs="+", default=["pretrained"])
    parser.add_argument("--plain", help="a plain MNIST network; left out, `fast` is trained")
    parser.add_argument("--sheets", type=Path, help="a folder for pictures of the failures")
    parser.add_argument("--normalize", choices=NORMALIZE, default="auto")
    arguments = parser.parse_args()
    sheets, normalize = arguments.sheets, arguments.normalize
    readers = [Reader(bundle) for bundle in arguments.bundle]
    with tempfile.TemporaryDirectory() as folder:
        plain_reader = Reader(arguments.plain or reading.train_fast(Path(folder)))
        runs = [
            measure(reader, plain_reader, data, None if number else sheets, normalize)
            for number, reader in enumerate(readers)
        ]
    rows = average([figures for figures, _ in runs])
    plain = average([figures for _, figures in runs])
    print_table(rows, plain)
    settings = {"bundles": [reader.bundle.record["created"] for reader in readers]}
    suffix, option = (
        ("", "") if normalize == "auto" else (f"-{normalize}", f" --normalize {normalize}")
    )
    command = f"python benchmarks/hands.py{option}"
    results.write(f"hands{suffix}", settings, {"sets": rows, "plain": plain}, command)


if __name__ == "__main__":
    main()

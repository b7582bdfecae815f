"""The figures of reading: photographs, other people's digits, what is no digit, speed.

    python benchmarks/reading.py [--bundle DIR] [--photos FOLDER] [--usps FILE]

Prints each figure and keeps them as benchmarks/results/reading.json. MNIST and Fashion-MNIST are
looked for where `digitwise` looks for them; the photographs, with their `labels.json`, and the USPS
test set, 256 grey values in [-1, 1] after each label, in the folder that DIGITWISE_DATA names.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pages
import results
from sklearn.datasets import load_digits

from digitwise.data.loading import load_dataset
from digitwise.data.normalization import fit_to_mnist
from digitwise.network.evaluation import expected_calibration_error
from digitwise.reading.reader import Reader

STARTS = 7


def photographs(reader: Reader, folder: Path) -> dict[str, Any]:
    """Counts the edits between what photographs say and what was read, spaces aside."""
    rows = {}
    for name, label in json.loads((folder / "labels.json").read_text()).items():
        found = reader.read(folder / name).text.replace(" ", "")
        truth = "\n".join(label["lines"])
        if label.get("scattered"):
            truth, found = "".join(sorted(truth)), "".join(sorted(found.replace("\n", "")))
        digits = len(truth.replace("\n", ""))
        rows[name] = {"edits": sum(pages.compare(truth, found)), "digits": digits}
    return {
        "edits": sum(row["edits"] for row in rows.values()),
        "digits": sum(row["digits"] for row in rows.values()),
        "files": rows,
    }


def digit_sets(reader: Reader, usps: Path) -> dict[str, Any]:
    """Tests on MNIST, USPS and UCI digits, all by one normalization."""
    test = load_dataset("mnist", allow_sample=False).test
    assert test is not None
    with gzip.open(usps, "rt") as file:
        table = np.array([line.split() for line in file], float)
    grey = ((table[:, 1:].reshape(-1, 16, 16) + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    uci = load_digits()
    small = (uci.images * 255 / 16).round().astype(np.uint8)
    sets = {
        "mnist": (test.x, test.y),
        "usps": (np.stack([fit_to_mnist(image) for image in grey]), table[:, 0].astype(int)),
        "uci": (np.stack([fit_to_mnist(image) for image in small]), uci.target),
    }
    threshold = reader.bundle.record["rejection"]["threshold"]
    figures: dict[str, Any] = {}
    for name, (x, y) in sets.items():
        found = reader.classify(x)
        figures[name] = {
            "images": len(y),
            "accuracy": float((found.classes == y).mean()),
            "calibration_error": expected_calibration_error(found.probabilities, y),
            "passing_as_digits": float((found.non_digit <= threshold).mean()),
        }
    clothes = load_dataset("fashion-mnist").test
    assert clothes is not None
    passing = float((reader.classify(clothes.x).non_digit <= threshold).mean())
    figures["fashion-mnist"] = {"images": len(clothes.y), "passing_as_digits": passing}
    return figures


def speed(reader: Reader, photo: Path) -> dict[str, float]:
    """Times a cold start on one photograph, and the recognizer on its own."""
    command = [sys.executable, "-m", "digitwise", "read", str(photo)]
    cold = []
    for _ in range(STARTS):
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        cold.append(time.perf_counter() - started)
    crops = np.random.default_rng(0).integers(0, 256, (4096, 28, 28)).astype(np.uint8)
    many, one = [], []
    for _ in range(STARTS):
        started = time.perf_counter()
        reader.classify(crops)
        many.append(len(crops) / (time.perf_counter() - started))
        started = time.perf_counter()
        for crop in crops[:200]:
            reader.classify(crop[np.newaxis])
        one.append((time.perf_counter() - started) / 200)
    return {
        "cold_seconds": statistics.median(cold),
        "digits_per_second": statistics.median(many),
        "one_digit_milliseconds": 1000 * statistics.median(one),
    }


def main() -> None:
    data = Path(os.environ.get("DIGITWISE_DATA", "."))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", default="pretrained")
    parser.add_argument("--photos", type=Path, default=data / "photos")
    parser.add_argument("--usps", type=Path, default=data / "usps" / "zip.test.gz")
    arguments = parser.parse_args()
    reader = Reader(arguments.bundle)
    figures = {
        "photographs": photographs(reader, arguments.photos),
        "sets": digit_sets(reader, arguments.usps),
        "speed": speed(reader, arguments.photos / "webcam-slope.png"),
    }
    print(json.dumps(figures, indent=2))
    settings = {"seed": reader.bundle.record["settings"]["seed"], "starts": STARTS}
    results.write("reading", settings, figures, "python benchmarks/reading.py")


if __name__ == "__main__":
    main()

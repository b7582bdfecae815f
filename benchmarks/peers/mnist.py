"""What the peers share: MNIST in memory, and a clock that stands while a network is tested."""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from digitwise.data.loading import load_dataset

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def load() -> Arrays:
    """Loads MNIST: training images and labels, test images and labels, all uint8."""
    data = load_dataset("mnist", allow_sample=False)
    assert data.train is not None
    assert data.test is not None
    return data.train.x, data.train.y, data.test.x, data.test.y


def normalized(arrays: Arrays) -> Arrays:
    """Brings images to mean 0 and deviation 1, as PyTorch's example does: float32 (n, 1, 28, 28).

    Labels become int64.
    """
    x, y, x_test, y_test = arrays
    x, x_test = (
        ((part[:, np.newaxis] / np.float32(255) - 0.1307) / 0.3081).astype(np.float32)
        for part in (x, x_test)
    )
    return x, y.astype(np.int64), x_test, y_test.astype(np.int64)


def parser(description: str | None, epochs: int) -> argparse.ArgumentParser:
    """Declares what each peer takes: --seed, --epochs, --best."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=epochs, help="as published: %(default)s")
    parser.add_argument("--best", action="store_true", help="with what makes it fastest here")
    return parser


class Clock:
    """Keeps an epoch's end: the seconds trained until then, and the accuracy reached.

    Args:
        test: gives the accuracy on the test images; the clock stands meanwhile.
    """

    def __init__(self, test: Callable[[], float]) -> None:
        self._test = test
        self._aside = 0.0
        self._epochs: list[dict[str, float]] = []
        self._started = time.perf_counter()

    def end_epoch(self) -> None:
        """Takes the time, then tests."""
        now = time.perf_counter()
        seconds = now - self._started - self._aside
        self._epochs.append({"seconds": seconds, "accuracy": self._test()})
        self._aside += time.perf_counter() - now

    def print(self) -> None:
        """Prints all epochs as JSON."""
        print(json.dumps({"epochs": self._epochs}))

"""The corruptions of the benchmark are those of MNIST-C."""

import sys
from pathlib import Path

import numpy as np
import pytest

import digitwise as dw

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from corruptions import CORRUPTIONS

Digits = tuple[np.ndarray, np.ndarray]


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_every_digit_is_corrupted(name: str, digits: Digits) -> None:
    x = digits[0][:300]
    corrupted = CORRUPTIONS[name](x, np.random.default_rng(0))
    assert corrupted.shape == x.shape
    assert corrupted.dtype == np.uint8
    assert (corrupted != x).any(axis=(1, 2)).all()


def test_corruptions_have_their_published_strength(digits: Digits) -> None:
    x = digits[0][:300]
    random = np.random.default_rng(0)
    changed = {name: corrupt(x, random) for name, corrupt in CORRUPTIONS.items()}
    assert abs((changed["impulse_noise"] != x)[x == 0].mean() - 0.085) < 0.005
    assert (changed["stripe"][:, :, :7] == 255 - x[:, :, :7]).all()
    assert (changed["stripe"][:, :, 7:21] == x[:, :, 7:21]).all()
    assert (changed["brightness"][x == 0] == 128).all()
    shifted = changed["translate"][0]
    assert any(
        (shifted == np.roll(x[0], (down, right), (0, 1))).all()
        for down in (-3, 3)
        for right in (-3, 3)
    )
    height = [(image.max(axis=1) > 60).sum() for image in x]
    shrunk = [(image.max(axis=1) > 60).sum() for image in changed["scale"]]
    assert abs(np.mean(shrunk) / np.mean(height) - 0.7) < 0.05
    assert set(np.unique(changed["canny_edges"])) == {0, 255}


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupted_digits_are_recognized(name: str, digits: Digits) -> None:
    x, y = digits[0][:500], digits[1][:500]
    found = dw.Reader().classify(CORRUPTIONS[name](x, np.random.default_rng(0)))
    assert (found.classes == y).mean() > 0.9

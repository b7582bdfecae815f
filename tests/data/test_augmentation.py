"""Augmentation keeps digits what they are, and says of the rest that it is no digit."""

import numpy as np

import digitwise as dw
from digitwise.data.augmentation import (
    NON_DIGIT_SHARE,
    augment,
    augment_digits,
    augment_shifts,
    non_digits,
)

Digits = tuple[np.ndarray, np.ndarray]


def test_labels_are_kept_and_an_eighth_becomes_no_digit(digits: Digits) -> None:
    x, y = digits
    images, labels = augment(x, y, 10, np.random.default_rng(0))
    assert images.shape == x.shape
    assert images.dtype == np.uint8
    others = labels == 10
    assert (labels[~others] == y[~others]).all()
    assert abs(others.mean() - NON_DIGIT_SHARE) < 0.03
    assert (images.reshape(len(images), -1).max(axis=1) > 0).mean() > 0.99


def test_one_seed_gives_one_augmentation(digits: Digits) -> None:
    x, y = digits[0][:200], digits[1][:200]
    first, again, other = (augment(x, y, 10, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_non_digits_are_made_in_number(digits: Digits) -> None:
    assert non_digits(*digits, 300, np.random.default_rng(0)).shape == (300, 28, 28)


def test_digits_varied_as_writers_vary_them_are_read_as_before(digits: Digits) -> None:
    x, y = digits
    varied = augment_digits(x, np.random.default_rng(0))
    assert (varied != x).any(axis=(1, 2)).all()
    probabilities = dw.open_bundle("pretrained").predict(dw.preprocess(varied, y)[0])
    assert (probabilities.argmax(axis=1) == y).mean() > 0.99


def test_shifts_move_pictures_by_two_pixels_and_hide_a_square() -> None:
    shown = augment_shifts(np.full((500, 28, 28), 255, np.uint8), np.random.default_rng(0))
    missing = shown == 0
    assert missing[:, 2:26, 2:26].sum(axis=(1, 2)).max() == 7 * 7
    assert missing[:, 0, :].all(axis=1).any()
    assert not missing[:, 2, :].all(axis=1).any()

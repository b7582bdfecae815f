"""A box of ink becomes what MNIST's makers would have made of it."""

import cv2
import numpy as np
import pytest

from digitwise.data.normalization import fit_to_mnist, ink_bright, normalize_images

Digits = tuple[np.ndarray, np.ndarray]


def test_real_digits_enlarged_and_moved_come_back_as_they_were(digits: Digits) -> None:
    differences = []
    for image in digits[0][:200]:
        field = np.zeros((150, 170), np.uint8)
        field[20:104, 60:144] = cv2.resize(image, (84, 84), interpolation=cv2.INTER_CUBIC)
        again = fit_to_mnist(field)
        differences.append(np.abs(again.astype(int) - image).mean())
    assert np.mean(differences) < 9


def test_the_long_side_measures_twenty_and_the_mass_lies_in_the_middle(digits: Digits) -> None:
    for image in digits[0][:200]:
        fitted = fit_to_mnist(np.kron(image, np.ones((5, 5), np.uint8)))
        rows, columns = np.nonzero(fitted)
        assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
        moments = cv2.moments(fitted)
        assert abs(moments["m10"] / moments["m00"] - 14) <= 0.51
        assert abs(moments["m01"] / moments["m00"] - 14) <= 0.51


def test_no_ink_gives_an_empty_field_and_a_dot_is_kept() -> None:
    assert not fit_to_mnist(np.full((40, 30), 7, np.uint8)).any()
    dot = np.zeros((40, 30), np.uint8)
    dot[5, 5] = 255
    assert fit_to_mnist(dot).any()


def test_ink_is_made_bright_on_either_ground(digits: Digits) -> None:
    for image in digits[0][:200]:
        assert (ink_bright(image) == image).all()
        assert (ink_bright(255 - image) == image).all()


@pytest.mark.parametrize(("pen", "least", "most"), [(2, 1.0, 3.0), (30, 2.5, 5.5)])
def test_strokes_come_near_to_mnists_weight(pen: int, least: float, most: float) -> None:
    drawn = np.zeros((300, 300), np.uint8)
    cv2.ellipse(drawn, (150, 150), (70, 110), 0, 0, 360, 255, pen, cv2.LINE_AA)
    fitted = fit_to_mnist(drawn)
    across = fitted[14].astype(float).sum() / 255 / 2  # a 0's two sides, in its middle row
    assert least <= across <= most
    assert fitted[14].max() > 150


def test_noise_and_lines_are_not_taken_for_a_digits_extent(digits: Digits) -> None:
    random = np.random.default_rng(0)
    x = digits[0][:200]
    noisy = np.where(random.random(x.shape) < 0.1, 255, x).astype(np.uint8)
    stripes = x.copy()
    stripes[:, :, [*range(7), *range(21, 28)]] ^= 255
    dotted = x.copy()
    dotted[:, 25, ::4] = 255
    for disturbed in (noisy, stripes, dotted):
        same, converted = normalize_images(disturbed)
        assert converted.mean() < 0.02
        assert (same[~converted] == disturbed[~converted]).all()


def test_blank_images_stay_blank() -> None:
    for value in (0, 90, 255):
        blank = np.full((3, 28, 28), value, np.uint8)
        assert (normalize_images(blank)[0] == blank).all()

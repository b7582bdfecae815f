"""Augmentation keeps the labels of digits, and labels everything else as non-digits."""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest

import digitwise as dw
from digitwise.data.augmentation import (
    NON_DIGIT_SHARE,
    augment,
    augment_digits,
    augment_shifts,
)
from digitwise.data.disturbances import disturb
from digitwise.data.fonts import Glyphs, find_fonts
from digitwise.data.non_digits import non_digits
from digitwise.data.styles import restyle, skeletons, write_allograph
from digitwise.errors import DigitwiseError
from tests.conftest import given_data

_LOOPS = (cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
Digits = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def glyphs() -> Glyphs:
    """The characters of the fonts that Matplotlib brings along."""
    return Glyphs(find_fonts(Path(matplotlib.get_data_path()) / "fonts" / "ttf"))


def _accuracy(x: np.ndarray, y: np.ndarray) -> float:
    """Return the pretrained network's accuracy."""
    probabilities = dw.open_bundle("pretrained").predict(dw.preprocess(x, y)[0])
    return float((probabilities.argmax(axis=1) == y).mean())


def test_labels_are_kept_and_a_sixth_becomes_non_digits(digits: Digits) -> None:
    x, y = digits
    images, labels = augment(x, y, 10, np.random.default_rng(0))  # without fonts
    assert images.shape == x.shape
    assert images.dtype == np.uint8
    others = labels == 10
    assert (labels[~others] == y[~others]).all()
    assert abs(others.mean() - NON_DIGIT_SHARE) < 0.03
    assert (images.reshape(len(images), -1).max(axis=1) > 0).mean() > 0.99


def test_some_digits_are_replaced_by_digits_of_fonts(digits: Digits, glyphs: Glyphs) -> None:
    x, y = digits
    images, labels = augment(x, y, 10, np.random.default_rng(0), glyphs)
    other_digits = (labels != y) & (labels != 10)
    assert 0.03 < other_digits.mean() < 0.08  # a tenth of those from fonts keep their label
    assert _accuracy(images[other_digits], labels[other_digits]) > 0.75


@pytest.mark.parametrize("label", [0, 1, 7, 9])
def test_strokes_of_other_hands_leave_a_digit_what_it_is(digits: Digits, label: int) -> None:
    x = digits[0][digits[1] == label][:200]
    random = np.random.default_rng(0)
    restyled = np.stack(
        [restyle(*both, label, random) for both in zip(x, skeletons(x), strict=True)]
    )
    assert (restyled != x).any(axis=(1, 2)).mean() > 0.9
    assert _accuracy(restyled, np.full(len(x), label, np.uint8)) > 0.8


@pytest.mark.parametrize("label", [1, 3, 4, 5, 7, 9])
def test_digits_written_from_strokes_are_recognized(label: int) -> None:
    random = np.random.default_rng(0)
    x = np.stack([write_allograph(label, random) for _ in range(200)])
    assert _accuracy(x, np.full(200, label, np.uint8)) > 0.85


def test_skeletons_are_thin_and_keep_the_number_of_loops(digits: Digits) -> None:
    x = digits[0][:300]
    thin = skeletons(x)
    assert thin.sum(axis=(1, 2)).max() < 100
    contours, thin_contours = (
        np.array([len(cv2.findContours(each.astype(np.uint8), *_LOOPS)[0]) for each in images])
        for images in (x > 90, thin)
    )
    assert (contours == thin_contours).mean() > 0.95


def test_disturbed_digits_stay_images(digits: Digits) -> None:
    x, y = digits[0][:300], digits[1][:300]
    random = np.random.default_rng(0)
    disturbed = np.stack([disturb(image, random) for image in x])
    assert disturbed.dtype == np.uint8
    assert (disturbed != x).any(axis=(1, 2)).mean() > 0.95
    assert _accuracy(disturbed, y) > 0.5


def test_fonts_report_what_they_lack() -> None:
    fonts = {font.name: font for font in find_fonts(given_data("fonts"))}
    assert len(fonts) == 76
    assert sum(font.is_for_validation for font in fonts.values()) == 10
    lacking = {sign: [n for n, font in fonts.items() if font.draw(sign) is None] for sign in "−×÷"}
    assert len(lacking["−"]) == 10
    assert len(lacking["×"]) == 4
    assert set(lacking["÷"]) >= {"damion", "zhi-mang-xing"}
    assert fonts["caveat"].license == "OFL-1.1"
    assert fonts["zcool-kuaile"].draw("0") is None
    assert all(font.draw("8") is not None for font in fonts.values())


def test_a_folder_without_fonts_and_a_damaged_font_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DigitwiseError, match="no such folder"):
        find_fonts(tmp_path / "missing")
    with pytest.raises(DigitwiseError, match="has no fonts"):
        find_fonts(tmp_path)
    (tmp_path / "bad.ttf").write_bytes(b"not a font")
    with pytest.raises(DigitwiseError, match=r"bad\.ttf: not a font"):
        find_fonts(tmp_path)[0].draw("8")


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

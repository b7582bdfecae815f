"""The tutorial's third step does what the tutorial says."""

import numpy as np
import pytest

import digitwise as dw

Digits = tuple[np.ndarray, np.ndarray]


def test_preprocess_gives_what_a_keras_network_trains_on(digits: Digits) -> None:
    x, y = dw.preprocess(*digits)
    assert x.shape == (4000, 28, 28, 1)
    assert x.dtype == y.dtype == np.float32
    assert x.min() == 0
    assert x.max() == 1
    assert y.shape == (4000, 10)
    assert (y.argmax(axis=1) == digits[1]).all()
    assert (y.sum(axis=1) == 1).all()


def test_the_one_hot_of_eight_has_its_one_at_index_eight() -> None:
    assert dw.one_hot(np.array([8])).tolist() == [[0, 0, 0, 0, 0, 0, 0, 0, 1, 0]]


def test_subtracting_the_training_mean_centers_the_training_images(digits: Digits) -> None:
    x = dw.add_channel(digits[0])
    centered = dw.normalize(x, mean=dw.mean_image(x))
    assert abs(centered.mean()) < 1e-6
    assert centered.min() >= -1


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    "call",
    [
        lambda: dw.normalize(np.full((1, 2, 2, 1), np.nan)),
        lambda: dw.normalize(np.full((1, 2, 2, 1), 300.0)),
        lambda: dw.one_hot(np.array([10])),
        lambda: dw.preprocess(np.zeros((2, 28, 28), np.uint8), np.arange(3)),
        lambda: dw.split(np.arange(4), 4),
        lambda: dw.normalize(np.full((1, 2, 2, 1), 0.5)),
        lambda: dw.normalize([[1]]),
        lambda: dw.normalize(np.ones((1, 2, 2, 1), bool)),
        lambda: dw.normalize(np.ones((1, 2, 2, 1), complex)),
        lambda: dw.normalize(np.ones((1, 2, 2, 1), np.uint8), np.ones((3, 3, 1), np.float32)),
        lambda: dw.add_channel([[[1]]]),
        lambda: dw.mean_image(np.zeros((0, 2, 2, 1), np.uint8)),
        lambda: dw.mean_image(np.full((1, 2, 2, 1), np.nan)),
        lambda: dw.one_hot(np.arange(3), 2.5),
        lambda: dw.one_hot(np.arange(3), 0),
        lambda: dw.preprocess(None, None),
        lambda: dw.split(np.zeros((4, 28, 28), np.uint8), 1),
        lambda: dw.split(np.arange(4), 1, seed=-1),
    ],
)
def test_bad_values_are_refused(call) -> None:
    with pytest.raises(dw.DigitwiseError):
        call()


def test_a_split_is_stratified_complete_and_the_seeds_own(digits: Digits) -> None:
    _, y = digits
    kept, held = dw.split(y, 500, seed=3)
    assert len(held) == 500
    assert sorted([*kept, *held]) == list(range(len(y)))
    share = np.bincount(y[held], minlength=10) / np.bincount(y, minlength=10)
    assert np.abs(share - 500 / 4000).max() < 0.004
    again = dw.split(y, 500, seed=3)[1]
    assert (held == again).all()
    assert (held != dw.split(y, 500, seed=4)[1]).any()

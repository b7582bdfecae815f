"""The networks are plain Keras models, with the layers the tutorial names."""

import numpy as np
import pytest

import digitwise as dw
from digitwise.network.architectures import _ARCHITECTURES
from digitwise.network.backend import keras
from digitwise.network.settings import RECIPES


def test_the_tutorials_network_has_the_tutorials_layers() -> None:
    model = dw.build_model("tutorial")
    assert type(model) is keras.Sequential
    assert [type(layer).__name__ for layer in model.layers] == [
        "Conv2D",
        "Activation",
        "MaxPooling2D",
        "Conv2D",
        "Activation",
        "MaxPooling2D",
        "Flatten",
        "Dropout",
        "Dense",
        "Activation",
    ]
    assert model.count_params() == 34826


@pytest.mark.parametrize("name", _ARCHITECTURES)
@pytest.mark.parametrize(("classes", "shape"), [(10, (28, 28, 1)), (3, (40, 32, 3))])
def test_other_classes_and_sizes_work(name: str, classes: int, shape: tuple[int, int, int]) -> None:
    given = keras.ops.convert_to_numpy(
        dw.build_model(name, classes, shape)(np.zeros((2, *shape), np.float32))
    )
    assert given.shape == (2, classes)
    assert np.allclose(given.sum(axis=1), 1, atol=1e-5)


def test_every_architecture_has_its_recipe() -> None:
    assert {*_ARCHITECTURES, "page", "line"} == set(RECIPES)


@pytest.mark.parametrize(
    ("name", "height", "answer"), [("page", 64, (2, 16, 24, 23)), ("line", 48, (2, 24, 22))]
)
def test_pages_and_lines_have_any_width(name: str, height: int, answer: tuple[int, ...]) -> None:
    given = dw.build_model(name)(np.zeros((2, height, 96, 1), np.float32))
    assert tuple(given.shape) == answer


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("lenet",), "did you mean lenet5"),
        (("fast", 1), "at least 2 classes"),
        (("lenet5", 10, (9, 9, 1)), "too small"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments: tuple, words: str) -> None:
    with pytest.raises(dw.DigitwiseError, match=words):
        dw.build_model(*arguments)

"""build_model(): the networks, each a plain keras.Sequential."""

from collections.abc import Callable
from typing import Any

import numpy as np

from digitwise.errors import DigitwiseError, unknown_name
from digitwise.network.backend import keras
from digitwise.network.settings import RECIPES

layers = keras.layers

Layers = list[Any]


def build_model(
    name: str = "tutorial",
    classes: int = 10,
    input_shape: tuple[int, int, int] = (28, 28, 1),
) -> "keras.Model":
    """Declares a network: the tutorial's fourth step.

    Args:
        name: "tutorial", the tutorial's own; "lenet5", the network of 1998; "fast", which
            reaches 99% in an epoch; "reader", which reads what is not from MNIST; "accurate", for
            the most accuracy on one kind of data; "small", of fewer than 10,000 parameters;
            "page", which finds and reads characters all over a page (`build_page_network`); or
            "line", which reads a line as a whole (`build_line_network`). The other arguments do
            not matter to the last two.
        classes: the number of classes, at least two; with one more than the data has,
            "reader" learns to reject non-digits.
        input_shape: height, width and channels of an image.

    Returns:
        A plain `keras.Sequential`, built and not compiled, which takes (n, height, width, channels)
        float32 in [0, 1] and gives (n, classes) probabilities; for "page" and "line", a functional
        model.

    Raises:
        DigitwiseError: the name is unknown, there are fewer than two classes, or the image is
            too small for the network.
    """
    if name == "page":
        from digitwise.network.pages import build_page_network

        return build_page_network()
    if name == "line":
        from digitwise.network.lines import build_line_network

        return build_line_network()
    if name not in _ARCHITECTURES:
        raise unknown_name("model", name, RECIPES)
    if not isinstance(classes, int | np.integer) or classes < 2:
        raise DigitwiseError(f"a network tells at least 2 classes apart, not {classes}")
    if not isinstance(input_shape, tuple | list) or len(input_shape) != 3:
        raise DigitwiseError(f"input_shape is (height, width, channels), not {input_shape}")
    try:
        return keras.Sequential(
            [keras.Input(input_shape), *_ARCHITECTURES[name](classes)], name=name
        )
    except ValueError as error:
        raise DigitwiseError(
            f"'{name}' does not fit images of {input_shape}: they are too small"
        ) from error


def _tutorial(classes: int) -> Layers:
    """The tutorial's network in today's layers."""
    return [
        layers.Conv2D(32, (3, 3)),
        layers.Activation("relu"),
        layers.MaxPooling2D((2, 2)),
        layers.Conv2D(64, (3, 3)),
        layers.Activation("relu"),
        layers.MaxPooling2D((2, 2)),
        layers.Flatten(),
        layers.Dropout(0.5),
        layers.Dense(classes),
        layers.Activation("softmax"),
    ]


def _lenet5(classes: int) -> Layers:
    """LeNet-5 (LeCun, Bottou, Bengio and Haffner, 1998), with softmax for its RBF outputs."""
    return [
        layers.Conv2D(6, (5, 5), padding="same"),
        layers.Activation("tanh"),
        layers.AveragePooling2D((2, 2)),
        layers.Conv2D(16, (5, 5)),
        layers.Activation("tanh"),
        layers.AveragePooling2D((2, 2)),
        layers.Conv2D(120, (5, 5)),
        layers.Activation("tanh"),
        layers.Flatten(),
        layers.Dense(84),
        layers.Activation("tanh"),
        layers.Dense(classes),
        layers.Activation("softmax"),
    ]


def _fast(classes: int) -> Layers:
    """Two convolutions with few places and a normalized dense layer: an epoch costs little."""
    return [
        layers.Conv2D(32, (5, 5), strides=2),
        layers.MaxPooling2D((2, 2)),
        layers.Activation("relu"),
        layers.Conv2D(64, (3, 3)),
        layers.Activation("relu"),
        layers.Flatten(),
        *_normalized(layers.Dense(128, use_bias=False)),
        layers.Dense(classes),
        layers.Activation("softmax"),
    ]


def _reader(classes: int) -> Layers:
    """Six convolutions and global average pooling, to be trained with augmentation."""
    return [
        *_normalized_convolution(48, 5, strides=2, padding="same"),
        *_normalized_convolution(48, 3, padding="same"),
        *_normalized_convolution(64, 3, padding="same"),
        layers.MaxPooling2D((2, 2)),
        *_normalized_convolution(112, 3, padding="same"),
        *_normalized_convolution(112, 3, padding="same"),
        layers.AveragePooling2D((2, 2)),
        *_normalized_convolution(144, 3, padding="same"),
        layers.GlobalAveragePooling2D(),
        layers.Dropout(0.2),
        layers.Dense(classes),
        layers.Activation("softmax"),
    ]


def _accurate(classes: int) -> Layers:
    """No larger than `reader`, but two convolutions see all pixels, and places are told apart."""
    return [
        *_normalized_convolution(32, 3),
        *_normalized_convolution(32, 3),
        layers.MaxPooling2D((2, 2)),
        *_normalized_convolution(64, 3, padding="same"),
        *_normalized_convolution(64, 3),
        layers.MaxPooling2D((2, 2)),
        *_normalized_convolution(120, 3, padding="same"),
        *_normalized_convolution(128, 3),
        layers.Flatten(),
        layers.Dropout(0.3),
        layers.Dense(classes),
        layers.Activation("softmax"),
    ]


def _small(classes: int) -> Layers:
    """Fewer than 10,000 parameters."""
    return [
        *_normalized_convolution(8, 5, strides=2, padding="same"),
        *_normalized_convolution(16, 3, padding="same"),
        *_normalized_convolution(16, 3, padding="same"),
        layers.MaxPooling2D((2, 2)),
        *_normalized_convolution(16, 3, padding="same"),
        *_normalized_convolution(20, 3),
        layers.AveragePooling2D((5, 5)),
        layers.Flatten(),
        layers.Dense(classes),
        layers.Activation("softmax"),
    ]


def _normalized_convolution(
    filters: int, kernel: int, strides: int = 1, padding: str = "valid"
) -> Layers:
    """Convolution, batch normalization, relu."""
    convolution = layers.Conv2D(filters, kernel, strides=strides, padding=padding, use_bias=False)
    return _normalized(convolution)


def _normalized(layer: Any) -> Layers:
    """A layer without bias, batch normalization, relu.

    The momentum is 0.9 because Keras's 0.99 does not settle in a few hundred steps.
    """
    return [layer, layers.BatchNormalization(momentum=0.9), layers.Activation("relu")]


_ARCHITECTURES: dict[str, Callable[[int], Layers]] = {
    "tutorial": _tutorial,
    "lenet5": _lenet5,
    "fast": _fast,
    "reader": _reader,
    "accurate": _accurate,
    "small": _small,
}

"""Where in a picture the evidence for a class lies: class activation, occlusion, gradients."""

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from digitwise.bundle import KERAS_FILE
from digitwise.data.preprocessing import add_channel, normalize
from digitwise.errors import DigitwiseError
from digitwise.insight.activations import Explainer, LayerOutput

_PATCH = 7  # pixels of the square that hides a part of the picture
_STRIDE = 2
_STEPS = 128  # of the integral


def class_activation(
    explainer: Explainer,
    image: UInt8[np.ndarray, "28 28"],
    outputs: list[LayerOutput],
    label: int,
) -> Float32[np.ndarray, "28 28"] | None:
    """Adds up what each place of the last feature maps says for a class, and lays it on the ink.

    The method is that of Zhou and others ("Learning Deep Features for Discriminative
    Localization", 2016): with the bias, the places' sum is the class's logit.

    Args:
        explainer: of the network.
        image: as the network sees it, ink bright.
        outputs: of that image.
        label: the class's index.

    Returns:
        Evidence for the class, negative where it speaks against it, enlarged to the picture's
        size, times the ink, which is what can be pointed at; None where more than one dense layer
        follows the maps.
    """
    weights = explainer.evidence_weights
    maps = [output.values for output in outputs if output.is_map]
    if weights is None or not maps or maps[-1].shape != weights.shape[:3]:
        return None
    evidence = (maps[-1] * weights[..., label]).sum(axis=-1)
    enlarged = cv2.resize(evidence, image.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(enlarged * (image / np.float32(255)), np.float32)


def occlusion(
    explainer: Explainer, image: UInt8[np.ndarray, "28 28"], label: int
) -> Float32[np.ndarray, "28 28"]:
    """Hides one square after another and sees how much less probable a class becomes.

    The method is that of Zeiler and Fergus ("Visualizing and Understanding Convolutional
    Networks", 2014).

    Args:
        explainer: of the network.
        image: as the network sees it, ink bright.
        label: the class's index.

    Returns:
        The mean fall in the class's log-probability, in nats, over the squares on each pixel.
    """
    starts = range(1 - _PATCH // 2 * 2, image.shape[0], _STRIDE)
    places = [
        (slice(max(0, y), y + _PATCH), slice(max(0, x), x + _PATCH)) for y in starts for x in starts
    ]
    hidden = np.repeat(image[np.newaxis], len(places) + 1, axis=0)
    for number, place in enumerate(places):
        hidden[(number, *place)] = 0
    changed = np.flatnonzero((hidden != image).any(axis=(1, 2)))
    probabilities = explainer.bundle.outputs(normalize(add_channel(hidden[[*changed, -1]])))[
        :, label
    ]
    said = np.log(np.maximum(probabilities, 1e-6))
    falls, counts = np.zeros(image.shape, np.float32), np.zeros(image.shape, np.float32)
    for place in places:
        counts[place] += 1
    for where, fall in zip(changed.tolist(), said[-1] - said[:-1], strict=True):
        falls[places[where]] += fall
    return falls / counts


def integrated_gradients(
    explainer: Explainer, image: UInt8[np.ndarray, "28 28"], label: int
) -> Float32[np.ndarray, "28 28"]:
    """Integrates the gradient of a class's log-probability from an empty picture to the image.

    The method is that of Sundararajan, Taly and Yan ("Axiomatic Attribution for Deep Networks",
    2017); the pixels' sum is the log-probability gained. Needs Keras on TensorFlow.

    Args:
        explainer: of the network.
        image: as the network sees it, ink bright.
        label: the class's index.

    Raises:
        DigitwiseError: Keras is missing, or computes on another backend.
    """
    from digitwise.network.backend import keras, open_model

    if keras.backend.backend() != "tensorflow":
        raise DigitwiseError("integrated gradients need Keras on TensorFlow: unset KERAS_BACKEND")
    import tensorflow as tf

    model = open_model(explainer.bundle.path / KERAS_FILE)
    shares = (np.arange(_STEPS, dtype=np.float32) + 0.5) / _STEPS
    whole = normalize(add_channel(image[np.newaxis]))
    inputs = tf.constant(shares.reshape(-1, 1, 1, 1) * whole)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        said = tf.math.log(tf.maximum(model(inputs, training=False)[:, label], 1e-12))
    gradients = tape.gradient(said, inputs).numpy()
    return np.asarray((gradients.mean(axis=0) * whole[0])[..., 0], np.float32)

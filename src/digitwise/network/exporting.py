"""The network in other forms, each checked against the model before it is kept."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from digitwise.bundle import open_session, predict_raw
from digitwise.errors import DigitwiseError
from digitwise.network.backend import keras

TOLERANCE = 1e-4  # largest difference of a probability that counts as agreement


def export_onnx(
    model: "keras.Sequential", path: Path, examples: Float32[np.ndarray, "n h w c"]
) -> None:
    """Writes a model as ONNX and checks it against the model.

    Args:
        model: a float32 model.
        path: the file to write.
        examples: images that both must read alike.

    Raises:
        DigitwiseError: the export disagrees with the model; the file is removed.
    """
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            # Keras patches tf2onnx for NumPy 2 by asking NumPy for names it no longer has.
            warnings.filterwarnings("ignore", "In the future `np", FutureWarning)
            model.export(path, format="onnx", verbose=False)
        found = predict_raw(open_session(path), examples)
    except Exception as error:  # tf2onnx and ONNX Runtime raise their own kinds
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise
        kinds = sorted({type(layer).__name__ for layer in model.layers})
        raise DigitwiseError(
            "the network cannot be written as ONNX, which a bundle holds: one of its layers or "
            f"activations has no ONNX form ({', '.join(kinds)})"
        ) from error
    expected = model.predict(examples, batch_size=len(examples), verbose=0)
    difference = float(np.abs(found - expected).max())
    if difference > TOLERANCE or (found.argmax(axis=1) != expected.argmax(axis=1)).any():
        path.unlink()
        raise DigitwiseError(
            f"{path}: the ONNX file disagrees with the model by {difference:.1e} "
            f"(at most {TOLERANCE:.0e} is kept): report this"
        )


def float32_copy(model: "keras.Sequential") -> "keras.Sequential":
    """Rebuilds a model for inference: every layer in float32, without random augmentation.

    Keras's layers named Random… change nothing outside training, and have no ONNX form.

    Raises:
        DigitwiseError: a layer cannot be rebuilt from its config.
    """
    try:
        config = _in_float32(model.get_config())
        config["layers"] = [
            layer for layer in config["layers"] if not layer["class_name"].startswith("Random")
        ]
        copy = keras.Sequential.from_config(config)
        copy(np.zeros((1, *model.input_shape[1:]), np.float32))  # an export wants one call
        copy.set_weights(model.get_weights())
    except (TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DigitwiseError(
            f"the network cannot be saved ({reason}): give its own layers a get_config() and "
            "@keras.saving.register_keras_serializable()"
        ) from error
    return copy


def _in_float32(config: Any) -> Any:
    """Replaces every dtype policy in a Keras config by float32."""
    if isinstance(config, dict):
        return {
            key: "float32" if key == "dtype" else _in_float32(value)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return [_in_float32(value) for value in config]
    return config

"""What training leaves and everything else opens: the only door between learning and reading."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32

from digitwise.errors import DigitwiseError, machine_error

if TYPE_CHECKING:
    import onnxruntime

FORMAT_VERSION = 1
RECORD_FILE = "bundle.json"
KERAS_FILE = "model.keras"
ONNX_FILE = "model.onnx"
_PRETRAINED = Path(__file__).parent / "pretrained"
_BATCH = 512


@dataclass(frozen=True)
class Bundle:
    """A trained network with its record, opened without running code from it.

    Attributes:
        path: the folder that holds `model.keras`, `model.onnx` and `bundle.json`.
        record: what `bundle.json` says.
    """

    path: Path
    record: dict[str, Any] = field(repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The name of each label, in the order of the network's outputs."""
        return tuple(self.record["classes"])

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one input."""
        height, width, channels = self.record["input"]["shape"]
        return height, width, channels

    @property
    def architecture(self) -> str:
        """The network's name."""
        return str(self.record["architecture"]["name"])

    @property
    def temperature(self) -> float:
        """What the logits are divided by, so that probabilities mean what they say."""
        return float(self.record["calibration"]["temperature"])

    @cached_property
    def session(self) -> "onnxruntime.InferenceSession":
        """The network in ONNX Runtime.

        Raises:
            DigitwiseError: `model.onnx` is damaged.
        """
        return open_session(self.path / ONNX_FILE)

    def predict(self, x: Float32[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n classes"]:
        """Tells how probable each class is for each image.

        Args:
            x: images (n, height, width, channels), float32 in [0, 1], as `preprocess` makes them.

        Returns:
            Calibrated probabilities; each row sums to 1.

        Raises:
            DigitwiseError: the images have another shape than the network takes.
        """
        digits = self.outputs(x)[:, : len(self.classes)]
        return digits / np.maximum(digits.sum(axis=1, keepdims=True), 1e-30)

    def outputs(self, x: Float32[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n outputs"]:
        """Gives the calibrated probability of each output.

        A network that was trained to tell what is none of the classes has one output more than
        there are classes, the last.

        Args:
            x: images, as `predict` takes them.

        Raises:
            DigitwiseError: as `predict`.
        """
        if x.shape[1:] != self.input_shape:
            raise DigitwiseError(
                f"images have the shape {x.shape[1:]}, the network takes {self.input_shape}"
            )
        return soften(predict_raw(self.session, x), self.temperature)


def open_bundle(path: str | Path) -> Bundle:
    """Opens a bundle.

    Args:
        path: the bundle's folder, the folder of the run that made it, or "pretrained" for the
            bundle that ships with the package.

    Raises:
        DigitwiseError: there is no bundle, it lacks a file, or its format is newer.
    """
    folder = _locate(Path(path))
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        version = record["format_version"]
    except PermissionError as error:
        raise machine_error(f"read {folder / RECORD_FILE}", error) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, TypeError, KeyError) as error:
        raise DigitwiseError(f"{folder / RECORD_FILE}: not a bundle's record") from error
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise DigitwiseError(
            f"{folder}: the bundle has format {version}, this Digitwise reads up to "
            f"{FORMAT_VERSION}: upgrade digitwise"
        )
    for name in (KERAS_FILE, ONNX_FILE):
        if not (folder / name).is_file():
            raise DigitwiseError(f"{folder}: the bundle lacks {name}: train it anew")
    for key in ("classes", "input", "architecture", "calibration", "dataset"):
        if key not in record:
            raise DigitwiseError(f"{folder / RECORD_FILE}: lacks '{key}'")
    return Bundle(folder, record)


def _locate(path: Path) -> Path:
    """Finds the bundle's own folder."""
    if path == Path("pretrained") and not path.exists():
        path = _PRETRAINED
    for folder in (path, path / "bundle"):
        if (folder / RECORD_FILE).is_file():
            return folder
    if (path / "settings.json").is_file():
        raise DigitwiseError(
            f"{path}: the run is not finished: digitwise train --resume {path} finishes it"
        )
    if not path.exists():
        raise DigitwiseError(f"{path}: no such bundle")
    raise DigitwiseError(f"{path}: not a bundle: it holds no {RECORD_FILE}")


def open_session(path: Path) -> "onnxruntime.InferenceSession":
    """Opens an ONNX file in ONNX Runtime on the CPU.

    Raises:
        DigitwiseError: the file is damaged or no ONNX.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises its own kinds, none of them public
        first = str(error).splitlines()[0]
        raise DigitwiseError(f"{path}: not a network that can be run: {first}") from error


def predict_raw(
    session: "onnxruntime.InferenceSession", x: Float32[np.ndarray, "n h w c"]
) -> Float32[np.ndarray, "n classes"]:
    """Runs images through a network in batches.

    Returns:
        Probabilities as the network gives them, not calibrated.
    """
    name = session.get_inputs()[0].name
    batches = [
        session.run(None, {name: x[start : start + _BATCH]})[0]
        for start in range(0, len(x), _BATCH)
    ]
    return np.concatenate(batches) if batches else np.zeros((0, _outputs(session)), np.float32)


def _outputs(session: "onnxruntime.InferenceSession") -> int:
    """Counts a network's classes."""
    return int(session.get_outputs()[0].shape[-1])


def soften(
    probabilities: Float32[np.ndarray, "n classes"], temperature: float
) -> Float32[np.ndarray, "n classes"]:
    """Divides the logits behind probabilities by a temperature.

    The method is temperature scaling (Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern
    Neural Networks", 2017). It never changes which class is the most probable.

    Args:
        probabilities: rows that sum to 1.
        temperature: above 1 makes them less sure, below 1 surer.
    """
    if temperature == 1:
        return probabilities
    return _softmax(np.log(np.maximum(probabilities, 1e-30)) / np.float32(temperature))


def _softmax(logits: Float[np.ndarray, "n classes"]) -> Float32[np.ndarray, "n classes"]:
    """Turns logits into probabilities, without overflow."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)

"""What training leaves and everything else opens: the only door between learning and reading."""

import json
import math
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Integer, UInt8

from digitwise.errors import DigitwiseError, machine_error, wrong_type
from digitwise.runtimes import import_onnxruntime

if TYPE_CHECKING:
    import onnxruntime

FORMAT_VERSION = 1
RECORD_FILE = "bundle.json"
KERAS_FILE = "model.keras"
ONNX_FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
OUTPUTS_FILE = "outputs.onnx"  # declares what `model.onnx` computes on the way
LAYERS_FILE = "layers.npz"
SEEN_FILE = "seen.npz"  # digests of the images that it was trained and validated on
_PRETRAINED = Path(__file__).parent / "pretrained"
_BATCH = 512
_DIGITS = tuple("0123456789")
_ROUNDING = 1e-3  # by which scaled values may exceed 1
_BRIGHT = 160  # of 255; noise without any background stays below
_MIN_CONFIDENCE = 0.5  # of bundles that have no reject class or were made by version 1


def as_digit(name: str) -> int | None:
    """Return a class name as a digit from 0 to 9; None if it is another name."""
    return int(name) if name in _DIGITS else None


@dataclass(frozen=True)
class Classification:
    """The result of classifying crops.

    Attributes:
        classes: the most probable class of each crop, an index into the bundle's classes.
        probabilities: calibrated probabilities of the classes, in rows that sum to 1.
        non_digit: the probability that the crop is none of the classes; all 0 for a network without
            a reject class.
        min_confidence: the bundle's rejection threshold.
        normalized: which crops were converted to MNIST's form first; None if that was not asked
            for.
    """

    classes: Integer[np.ndarray, " n"]
    probabilities: Float32[np.ndarray, "n classes"]
    non_digit: Float32[np.ndarray, " n"]
    min_confidence: float
    normalized: Bool[np.ndarray, " n"] | None = None

    @property
    def confidence(self) -> Float32[np.ndarray, " n"]:
        """The probability that each crop belongs to its class, and is not a non-digit."""
        return self.probabilities.max(axis=1, initial=0) * (1 - self.non_digit)

    @property
    def accepted(self) -> Bool[np.ndarray, " n"]:
        """Whether each crop is read as its class; the others are rejected as non-digits."""
        return self.confidence >= self.min_confidence


@dataclass(frozen=True)
class Bundle:
    """A trained network with its record, opened without running code from it.

    Attributes:
        path: the folder that holds `model.keras`, `model.onnx`, `bundle.json` and, where the
            network was trained to read pictures, `model.int8.onnx`.
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
    def classifies(self) -> bool:
        """Whether the network classifies images, and does not read whole pages or lines."""
        return self.architecture not in ("page", "line")

    @property
    def expects_mnist_form(self) -> bool:
        """Whether it was trained on MNIST's images, so that others are converted to their form."""
        return bool(self.record["dataset"]["name"] == "mnist")

    @property
    def temperature(self) -> float:
        """What the logits are divided by, so that probabilities mean what they say."""
        return float(self.record["calibration"]["temperature"])

    @property
    def min_confidence(self) -> float:
        """The lowest confidence at which a crop is accepted as its class, in [0, 1].

        Training sets it on validation images. It is 0.5 for bundles without a reject class, and for
        those of version 1, whose `threshold` bounded another quantity and was never used.
        """
        rejection = self.record.get("rejection") or {}
        value = rejection.get("min_confidence")
        return _MIN_CONFIDENCE if value is None else float(value)

    @cached_property
    def session(self) -> "onnxruntime.InferenceSession":
        """The network in ONNX Runtime: in eight bits where the bundle has it so, else in float32.

        Raises:
            DigitwiseError: the file is damaged.
        """
        int8 = self.path / INT8_FILE
        file = int8 if int8.is_file() else self.path / ONNX_FILE
        session = open_session(file)
        outputs, known = _outputs(session), len(self.classes)
        if outputs not in (known, known + 1) and self.classifies:
            raise DigitwiseError(
                f"{file}: has {outputs} outputs for {known} classes: the file is another bundle's"
            )
        return session

    def predict(self, x: Float[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n classes"]:
        """Tells how probable each class is for each image.

        Args:
            x: images (n, height, width, channels), float in [0, 1], as `preprocess` makes them. Ink
                should be as bright as in training; unlike `Reader.classify`, this does not check.

        Returns:
            Calibrated probabilities; each row sums to 1.

        Raises:
            DigitwiseError: the images have another shape than the network takes, are not float,
                or hold NaN or values outside [0, 1].
        """
        digits = self.outputs(x)[:, : len(self.classes)]
        return digits / np.maximum(digits.sum(axis=1, keepdims=True), 1e-30)

    def outputs(self, x: Float[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n outputs"]:
        """Gives the calibrated probability of each output.

        A network that was trained to tell what is none of the classes has one output more than
        there are classes, the last.

        Args:
            x: images, as `predict` takes them.

        Raises:
            DigitwiseError: as `predict`.
        """
        self._check_images(x)
        return self.unchecked_outputs(x.astype(np.float32, copy=False))

    def unchecked_outputs(
        self, x: Float32[np.ndarray, "n h w c"]
    ) -> Float32[np.ndarray, "n outputs"]:
        """Return the same as `outputs`, without checking the images.

        Args:
            x: images (n, height, width, channels), float32 in [0, 1].
        """
        return soften(predict_raw(self.session, x), self.temperature)

    def classify(self, crops: UInt8[np.ndarray, "n h w"]) -> Classification:
        """Classify crops, and decide which of them to accept, as reading does.

        Args:
            crops: uint8, bright ink on black, of the size that the network takes; not checked.
        """
        scaled = np.multiply(crops[..., np.newaxis], np.float32(1 / 255), dtype=np.float32)
        outputs = self.unchecked_outputs(scaled)
        digits = outputs[:, : len(self.classes)]
        whole = digits.sum(axis=1, keepdims=True)
        return Classification(
            digits.argmax(axis=1),
            digits / np.maximum(whole, 1e-30),
            np.maximum(1 - whole[:, 0], 0),
            self.min_confidence,
        )

    def _check_images(self, x: Any) -> None:
        """Check shape, dtype and range of a caller's images.

        Raises:
            DigitwiseError: the network cannot take them; the message says how to convert them.
        """
        if not isinstance(x, np.ndarray):
            kind = type(x).__name__
            raise DigitwiseError(f"images must be a NumPy array, not {kind}: use np.asarray(x)")
        if x.shape[1:] != self.input_shape:
            fix = ": use digitwise.add_channel(x)" if x.shape[1:] == self.input_shape[:2] else ""
            raise DigitwiseError(
                f"images have the shape {x.shape[1:]}, the network takes {self.input_shape}{fix}"
            )
        if x.dtype.kind != "f":
            raise DigitwiseError(
                f"images are {x.dtype}, not float in [0, 1]: use digitwise.normalize(x)"
            )
        if not x.size:
            return
        low, high = float(x.min()), float(x.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise DigitwiseError("images hold NaN or infinite values: use np.nan_to_num(x)")
        if low < 0 or high > 1 + _ROUNDING:
            raise DigitwiseError(
                f"images have values from {low:g} to {high:g}, not in [0, 1]: "
                "use digitwise.normalize(x) on images in [0, 255]"
            )


def open_bundle(path: str | Path) -> Bundle:
    """Opens a bundle.

    Args:
        path: the bundle's folder, the folder of the run that made it, or "pretrained" for the
            bundle that ships with the package.

    Raises:
        DigitwiseError: there is no bundle, it lacks a file, its format is newer, or `path` is not
            a path.
    """
    if not isinstance(path, str | Path):
        expected = "a Bundle or its path: dw.train(model) returns a Bundle"
        raise wrong_type("the bundle", path, expected)
    folder = _locate(Path(path))
    file = folder / RECORD_FILE
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except PermissionError as error:
        raise machine_error(f"read {file}", error) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise DigitwiseError(f"{file}: not a bundle's record") from error
    version = record.get("format_version") if isinstance(record, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise DigitwiseError(
            f"{folder}: the bundle has format {version}, this Digitwise reads up to "
            f"{FORMAT_VERSION}: upgrade digitwise"
        )
    fault = _fault(record)
    if fault:
        raise DigitwiseError(f"{file}: not a bundle's record: {fault}")
    bundle = Bundle(folder, record)
    for name in (KERAS_FILE, ONNX_FILE) if bundle.classifies else (INT8_FILE,):
        if not (folder / name).is_file():
            raise DigitwiseError(f"{folder}: the bundle lacks {name}: train it again")
    return bundle


def open_classifier(bundle: Bundle | str | Path) -> Bundle:
    """Open a bundle that classifies single images: see `open_bundle`.

    Args:
        bundle: its path, or the bundle itself.

    Raises:
        DigitwiseError: it cannot be opened, or its network reads whole pages or lines.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    if not opened.classifies:
        raise DigitwiseError(
            f"{opened.path}: a {opened.architecture} network does not classify single digits: "
            "use a bundle of another model"
        )
    return opened


def _fault(record: Any) -> str | None:
    """Says what is wrong with a record, None where everything that is used is there and sound."""
    if not isinstance(record, dict):
        return "it is no JSON object"
    if record.get("format_version") != FORMAT_VERSION or record["format_version"] is True:
        return "its format_version is wrong"
    classes = record.get("classes")
    if (
        not isinstance(classes, list)
        or not all(isinstance(name, str) for name in classes)
        or len(classes) < 2
        or len(set(classes)) < len(classes)
    ):
        return "its classes are no list of different names"
    sections = {name: record.get(name) for name in ("input", "architecture", "calibration")}
    sections |= {name: record.get(name) for name in ("dataset", "settings")}
    for name, section in sections.items():
        if not isinstance(section, dict):
            return f"it lacks '{name}'"
    shape, temperature = record["input"].get("shape"), record["calibration"].get("temperature")
    dataset = record["dataset"]
    rejection = record.get("rejection")
    least = rejection.get("min_confidence") if isinstance(rejection, dict) else None
    sound = {
        "input": isinstance(shape, list)
        and len(shape) == 3
        and all(isinstance(side, int) and side > 0 for side in shape)
        and record["input"].get("divide_by") == 255,
        "calibration": isinstance(temperature, int | float)
        and not isinstance(temperature, bool)
        and math.isfinite(temperature)
        and temperature > 0,
        "architecture": isinstance(record["architecture"].get("name"), str),
        "dataset": isinstance(dataset.get("name"), str)
        and isinstance(dataset.get("digests"), dict),
        "settings": isinstance(record["settings"].get("path"), str | None),
        "rejection": isinstance(rejection, dict | None)
        and isinstance(least, int | float | None)
        and not isinstance(least, bool)
        and (least is None or 0 <= least <= 1),
    }
    return next((f"its '{name}' is wrong" for name, right in sound.items() if not right), None)


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


def open_session(*parts: Path | bytes) -> "onnxruntime.InferenceSession":
    """Opens an ONNX network in ONNX Runtime on the CPU.

    Args:
        parts: files, or the bytes of files, that are one network when put together.

    Raises:
        DigitwiseError: the first file is damaged or no ONNX.
    """
    onnxruntime = import_onnxruntime()
    path = parts[0] if isinstance(parts[0], Path) else "network"
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = _threads()
    # Its threads wait busily for the next layer; for longer, they take time from what else runs.
    options.add_session_config_entry("session.intra_op.spin_duration_us", "300")
    try:
        content = b"".join(part.read_bytes() if isinstance(part, Path) else part for part in parts)
    except OSError as error:
        raise machine_error(f"read {path}", error) from error
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises its own kinds, none of them public
        first = str(error).splitlines()[0]
        raise DigitwiseError(f"{path}: not a network that can be run: {first}") from error


def _threads() -> int:
    """Takes the number of threads from OMP_NUM_THREADS, as numeric libraries do; 0 is one a core.

    A pool that shares a machine, such as Ray's, sets it for each of its processes.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(asked) if asked.isdecimal() else 0


def predict_raw(
    session: "onnxruntime.InferenceSession", x: Float32[np.ndarray, "n h w c"]
) -> Float32[np.ndarray, "n ..."]:
    """Runs images through a network in batches.

    Returns:
        Probabilities as the network gives them, not calibrated.
    """
    name = session.get_inputs()[0].name
    batches = [
        session.run(None, {name: x[start : start + _BATCH]})[0]
        for start in range(0, len(x), _BATCH)
    ]
    if len(batches) == 1:
        return batches[0]
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
    powers = (probabilities / probabilities.max(axis=1, keepdims=True)) ** np.float32(
        1 / temperature
    )
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def is_dark_on_light(images: UInt8[np.ndarray, "n h w"]) -> bool:
    """Return whether most border pixels of a batch are bright, and its inside is darker.

    Args:
        images: gray levels, any background.
    """
    if not len(images):
        return False
    sides = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    border = float(np.median(np.concatenate(sides, axis=1)))
    return border >= _BRIGHT and float(images.mean()) < border

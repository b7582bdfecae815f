"""The network in other forms, each checked against the model before it is kept."""

import contextlib
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8

from digitwise.bundle import (
    INT8_FILE,
    KERAS_FILE,
    ONNX_FILE,
    Bundle,
    open_classifier,
    open_session,
    predict_raw,
)
from digitwise.data.augmentation import augment
from digitwise.data.catalog import CATALOG
from digitwise.data.loading import built_in_sample
from digitwise.data.mapped import Images, chunks
from digitwise.data.preprocessing import add_channel, normalize
from digitwise.errors import (
    DigitwiseError,
    MachineError,
    machine_error,
    unknown_name,
)
from digitwise.messages import Shared, environment_defaults, quiet_loggers, warnings_ignored
from digitwise.network.backend import keras, native_log_held_back, open_model
from digitwise.network.evaluation import find_test_data, test_images
from digitwise.network.process import random_state_kept
from digitwise.runtimes import import_onnxruntime, import_openvino
from digitwise.storage import check_output, move_whole, protected

TOLERANCE = 1e-4  # largest difference of a probability that counts as agreement
_MOST_DIFFERING = 0.01  # of images, that eight bits may change the class of
_REFUSALS = (
    "No space left on device",
    "File too large",
    "Permission denied",
    "Read-only file system",
)
_EXAMPLES = 1000  # images, and as many of them distorted, that quantization measures
_BATCH = 500
_SMALLEST_PAGE = 32  # pixels: the side of a network's input that takes any size
_DENSE = ("MatMul", "Gemm")  # what a dense layer is in ONNX
_QUANTIZED = ("Conv", "Relu", "MaxPool", "AveragePool", "Add", "Resize")
_COMPOSED_TOLERANCE = 1e-3  # largest difference of a score on a page or a line
_CERTAIN = 0.5  # score of what is surely a character

Network = Callable[[Float32[np.ndarray, "n h w c"]], Float32[np.ndarray, "n ..."]]


@dataclass(frozen=True)
class Export:
    """A network in another form, and how far it agrees with the bundle's Keras model.

    Attributes:
        path: the file, or the folder of a SavedModel.
        form: "onnx", "litert", "openvino" or "saved-model".
        int8: whether its weights and values have eight bits.
        bytes: of all its files.
        images: how many images were recognized by both.
        source: what images these are.
        same_class: the share of them that both recognize as the same.
        difference: the largest difference of a probability.
        accuracy: the export's, where the images are a test set; else None.
        keras_accuracy: the Keras model's on the same images.
    """

    path: Path
    form: str
    int8: bool
    bytes: int
    images: int
    source: str
    same_class: float
    difference: float
    accuracy: float | None
    keras_accuracy: float | None

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as plain data."""
        return {**asdict(self), "path": str(self.path)}


def export(
    bundle: Bundle | str | Path,
    form: str = "onnx",
    output: str | Path | None = None,
    *,
    int8: bool = False,
    force: bool = False,
) -> Export:
    """Writes a bundle's network in another form, sure that it agrees with the Keras model.

    Both recognize the test set of the bundle's data where it is at hand, else the built-in sample
    and a thousand distorted digits. In float32 every class must be the same and every probability
    within 1e-4; in eight bits at most one class in a hundred may differ.

    Args:
        bundle: a bundle, or where one lies.
        form: "onnx"; "litert", a `.tflite` file; "openvino", an `.xml` file with a `.bin` beside
            it; or "saved-model", TensorFlow's folder.
        output: the file or folder to write, which must not exist (nor, for "openvino", the `.bin`
            beside it); left out, the network's name with the form's ending, in the current folder.
        int8: quantizes weights and values to eight bits; for ONNX and LiteRT alone.
        force: whether to replace an existing file. Folders, and the bundle's own files, are never
            replaced.

    Returns:
        Where it lies, and how it compares. Its probabilities are the network's own, not divided by
        the bundle's temperature.

    Raises:
        DigitwiseError: there is no such form, `output` exists and must be kept, a package is
            missing, or the export disagrees with the model: then nothing is left.
        MachineError: the disk is full or permission is missing.
    """
    opened = open_classifier(bundle)
    if form not in FORMS:
        raise unknown_name("format", form, FORMS)
    if int8 and FORMS[form].write_int8 is None:
        able = " and ".join(name for name, known in FORMS.items() if known.write_int8)
        raise DigitwiseError(f"--int8 does not go with {form}: it goes with {able}")
    ending = FORMS[form].ending
    target = Path(output or f"{opened.architecture}{'-int8' * int8}{ending}")
    if ending.startswith(".") and target.suffix != ending:
        raise DigitwiseError(f"--output {target}: what is written as {form} ends in {ending}")
    beside = [target.with_suffix(".bin")] if form == "openvino" else []
    with protected([opened.path]):
        for file in (target, *beside):
            check_output(file, force=force)
        return _export(opened, form, target, int8=int8, force=force)


def _export(opened: Bundle, form: str, target: Path, *, int8: bool, force: bool) -> Export:
    """Export a network to a temporary file, and rename it once it agrees with the model."""
    if form == "openvino":
        import_openvino()  # fails early if it is missing
    model = float32_copy(open_model(opened.path / KERAS_FILE))
    images = _comparison_images(opened)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as folder:
            written = Path(folder) / target.name
            with _quiet():
                _write(model, written, form, images.examples if int8 else None)
                found = _by_pieces(FORMS[form].run(written), images.x)
            expected = _by_pieces(lambda x: _predict(model, x), images.x)
            _check_agreement(target.name, found, expected, int8=int8)
            size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
            for part in Path(folder).iterdir():
                move_whole(part, target.parent / part.name, force=force)
    except OSError as error:
        raise machine_error(f"write {target}", error) from error
    accuracies = (
        None
        if images.y is None
        else float((given[:, : len(opened.classes)].argmax(axis=1) == images.y).mean())
        for given in (found, expected)
    )
    same, difference = _agreement(found, expected)
    return Export(
        target, form, int8, size, len(images.x), images.source, same, difference, *accuracies
    )


def export_onnx(model: "keras.Model", path: Path, examples: Float32[np.ndarray, "n h w c"]) -> None:
    """Writes a model as ONNX and checks it against the model.

    Args:
        model: a float32 model.
        path: the file to write.
        examples: images that both must read alike.

    Raises:
        DigitwiseError: the network has no ONNX form, or the export disagrees with the model; the
            file is removed.
    """
    with _removed_on_failure(path), _quiet():
        _write_onnx(model, path)
        _check_agreement(path.name, _run_onnx(path)(examples), _predict(model, examples))


def export_pages(model: "keras.Model", folder: Path, tiles: Float32[np.ndarray, "n h w 1"]) -> None:
    """Write a page network as ONNX, in float32 and in eight bits, and check both.

    Args:
        model: a float32 page network.
        folder: where to write `model.onnx` and `model.int8.onnx`.
        tiles: composed pages, to measure ranges on and to compare the answers.

    Raises:
        DigitwiseError: the scores differ from the model's; the file is removed.
    """
    _export_composed(model, folder, tiles, lambda answers: _sigmoid(answers[..., :-2]), heads=2)


def export_lines(model: "keras.Model", folder: Path, lines: Float32[np.ndarray, "n h w 1"]) -> None:
    """Write a line network as ONNX: see `export_pages`."""
    _export_composed(model, folder, lines, _softmax, heads=1)


def _export_composed(
    model: "keras.Model",
    folder: Path,
    examples: Float32[np.ndarray, "n h w 1"],
    scores_of: Callable[[np.ndarray], np.ndarray],
    heads: int,
) -> None:
    """Write a network for composed pages or lines as ONNX, and check the scores of its answers."""
    scores = scores_of(_predict(model, examples))
    whole, small = folder / ONNX_FILE, folder / INT8_FILE
    with _removed_on_failure(whole), _quiet():
        _write_onnx(model, whole)
        difference = float(np.abs(scores_of(_run_onnx(whole)(examples)) - scores).max())
        if difference > _COMPOSED_TOLERANCE:
            raise DigitwiseError(f"{whole.name}: disagrees with the model by {difference:.1e}")
    with _removed_on_failure(small), _quiet():
        _quantize_onnx(whole, small, examples, heads=("Conv", heads))
        are_certain = scores.max(axis=-1) > _CERTAIN
        found = scores_of(_run_onnx(small)(examples))[are_certain]
        same = float((found.argmax(axis=-1) == scores[are_certain].argmax(axis=-1)).mean())
        if same < 1 - _MOST_DIFFERING:
            raise DigitwiseError(
                f"{small.name}: in eight bits {1 - same:.1%} of the characters are read as "
                f"something else (at most {_MOST_DIFFERING:.0%} is kept)"
            )


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def export_int8(onnx_file: Path, path: Path, examples: Float32[np.ndarray, "n h w c"]) -> None:
    """Writes an ONNX network in eight bits and checks it against the one in float32.

    Args:
        onnx_file: the float32 network.
        path: the file to write.
        examples: a few hundred images such as the network will see.

    Raises:
        DigitwiseError: more than one in a hundred examples are recognized as something else; the
            file is removed.
    """
    with _removed_on_failure(path), _quiet():
        _quantize_onnx(onnx_file, path, examples)
        found, expected = (_run_onnx(file)(examples) for file in (path, onnx_file))
        _check_agreement(path.name, found, expected, int8=True)


@random_state_kept()
def float32_copy(model: "keras.Model") -> "keras.Model":
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
        copy = type(model).from_config(config)
        shape = (side or _SMALLEST_PAGE for side in model.input_shape[1:])
        copy(np.zeros((1, *shape), np.float32))  # an export wants one call
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


class _Images(NamedTuple):
    """Images that a network and its export are compared on; labels where they are a test set."""

    x: UInt8[Images, "n h w"]
    y: UInt8[np.ndarray, " n"] | None
    examples: Float32[np.ndarray, "k h w c"]
    source: str


def _comparison_images(bundle: Bundle) -> _Images:
    """Takes the test set of a bundle's data, or else the sample, as it is and distorted."""
    random = np.random.default_rng(0)
    with warnings_ignored():  # the source of the images is reported in the result
        try:
            data = find_test_data(bundle)
            (x, y), _ = test_images(bundle, data)
            source = data.source
        except DigitwiseError:
            if bundle.input_shape != (28, 28, 1):
                raise
            data = built_in_sample()
            assert data.train is not None
            first = slice(_EXAMPLES)
            distorted, _ = augment(data.train.x[first], data.train.y[first], 10, random)
            x, y = np.concatenate([data.train.x, distorted]), None
            source = f"{data.source} and {_EXAMPLES:,} of its digits distorted"
    examples = data.train or data.test
    assert examples is not None
    shown = examples.x[:_EXAMPLES]
    if data.classes == CATALOG["mnist"].classes and shown.shape[1:] == (28, 28):
        distorted, _ = augment(shown, examples.y[:_EXAMPLES], 10, random)
        shown = np.concatenate([shown, distorted])
    return _Images(x, y, _scaled(shown), source)


def _by_pieces(run: Network, x: UInt8[Images, "n h w"]) -> Float32[np.ndarray, "n ..."]:
    """Run uint8 images, in memory or on disk, through a network in batches."""
    return np.concatenate([run(_scaled(piece)) for piece in chunks(x)])


def _scaled(x: UInt8[np.ndarray, "n h w"]) -> Float32[np.ndarray, "n h w 1"]:
    """Brings images to what a network takes."""
    return normalize(add_channel(x))


def _write(
    model: "keras.Sequential",
    path: Path,
    form: str,
    examples: Float32[np.ndarray, "n h w c"] | None,
) -> None:
    """Writes a model in a form; in eight bits where there are examples to measure."""
    kind = FORMS[form]
    try:
        if examples is None:
            kind.write(model, path)
        else:
            assert kind.write_int8 is not None
            kind.write_int8(model, path, examples)
    except (DigitwiseError, OSError):
        raise
    except Exception as error:  # each converter raises its own kinds
        refusal = next((text for text in _REFUSALS if text.lower() in str(error).lower()), None)
        if refusal:
            raise MachineError(f"write {path.name}", refusal) from error
        raise DigitwiseError(f"{path.name}: {_first_line(error)}") from error


def _write_onnx(model: "keras.Model", path: Path) -> None:
    """Writes an ONNX file."""
    import_onnxruntime()  # before tf2onnx, which imports it too
    try:
        model.export(path, format="onnx", verbose=False)
        open_session(path)
    except OSError:
        raise
    except Exception as error:  # tf2onnx and ONNX Runtime raise their own kinds
        kinds = sorted({type(layer).__name__ for layer in model.layers})
        raise DigitwiseError(
            "the network cannot be written as ONNX, which a bundle holds: one of its layers or "
            f"activations has no ONNX form ({', '.join(kinds)})"
        ) from error


def _write_onnx_int8(
    model: "keras.Sequential", path: Path, examples: Float32[np.ndarray, "n h w c"]
) -> None:
    """Writes an ONNX file in eight bits."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        _write_onnx(model, whole)
        _quantize_onnx(whole, path, examples)


def _quantize_onnx(
    onnx_file: Path,
    path: Path,
    examples: Float32[np.ndarray, "n h w c"],
    heads: tuple[str, int] = ("", 1),
) -> None:
    """Brings an ONNX network to eight bits, all but its last layer, by ONNX Runtime.

    The range of each value is measured on examples; weights have a scale a channel, and seven
    bits, since without VNNI a processor adds two products in sixteen. A relu is quantized with its
    convolution: by itself it would be brought to float32 and back. The last dense layer and what
    follows stay float32: a softmax in eight bits knows no probability below 1/256.
    """
    import onnx

    import_onnxruntime()
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Examples(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._name = open_session(onnx_file).get_inputs()[0].name
            self._batches = iter(np.array_split(examples, max(1, len(examples) // 100)))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self._batches, None)
            return None if batch is None else {self._name: batch}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(onnx_file), str(prepared), skip_symbolic_shape=True)
        nodes = onnx.load(prepared).graph.node
        kind, count = heads
        last = [node.name for node in nodes if node.op_type in ((kind and [kind]) or _DENSE)]
        quantize_static(
            str(prepared),
            str(path),
            Examples(),
            op_types_to_quantize=[*_QUANTIZED, *_DENSE],
            nodes_to_exclude=last[-count:],
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )


def _write_saved_model(model: "keras.Sequential", path: Path) -> None:
    """Writes TensorFlow's folder, whose endpoint is named "serve"."""
    model.export(path, format="tf_saved_model", verbose=False)


def _write_litert(
    model: "keras.Sequential",
    path: Path,
    examples: Float32[np.ndarray, "n h w c"] | None = None,
) -> None:
    """Writes a LiteRT file: input and output are float32 in any case."""
    import tensorflow as tf

    with tempfile.TemporaryDirectory() as folder:
        _write_saved_model(model, Path(folder) / "model")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(folder) / "model"))
        if examples is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[np.newaxis]] for image in examples)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        path.write_bytes(converter.convert())


def _write_openvino(model: "keras.Sequential", path: Path) -> None:
    """Writes OpenVINO's two files, by way of ONNX, whose convolutions come folded."""
    openvino = import_openvino()
    with tempfile.TemporaryDirectory() as folder:
        _write_onnx(model, Path(folder) / "model.onnx")
        # Not convert_model(): it reports each conversion when the host has imported OpenVINO.
        converted = openvino.Core().read_model(Path(folder) / "model.onnx")
        openvino.save_model(converted, path, compress_to_fp16=False)


def _predict(
    model: "keras.Model", x: Float32[np.ndarray, "n h w c"]
) -> Float32[np.ndarray, "n ..."]:
    """Asks the Keras model."""
    return model.predict(x, batch_size=min(_BATCH, len(x)), verbose=0)


def _run_onnx(path: Path) -> Network:
    session = open_session(path)
    return lambda x: predict_raw(session, x)


def _run_litert(path: Path) -> Network:
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(str(path), num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def run(x: Float32[np.ndarray, "n h w c"]) -> Float32[np.ndarray, "n ..."]:
        if tuple(interpreter.get_input_details()[0]["shape"]) != x.shape:
            interpreter.resize_tensor_input(given["index"], x.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])

    return _in_batches(run)


def _run_openvino(path: Path) -> Network:
    compiled = (
        import_openvino().Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    )
    return _in_batches(lambda x: compiled(x)[0])


def _run_saved_model(path: Path) -> Network:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    return _in_batches(lambda x: loaded.serve(x).numpy())


def _in_batches(run: Network) -> Network:
    """Hands a network a few hundred images at a time."""
    return lambda x: np.concatenate(
        [run(x[start : start + _BATCH]) for start in range(0, len(x), _BATCH)]
    )


class _Form(NamedTuple):
    """How a form is written and run, what its name ends in, and whether it knows eight bits."""

    ending: str
    write: Callable[["keras.Sequential", Path], None]
    run: Callable[[Path], Network]
    write_int8: Callable[..., None] | None = None


FORMS = {
    "onnx": _Form(".onnx", _write_onnx, _run_onnx, _write_onnx_int8),
    "litert": _Form(".tflite", _write_litert, _run_litert, _write_litert),
    "openvino": _Form(".xml", _write_openvino, _run_openvino),
    "saved-model": _Form("-saved-model", _write_saved_model, _run_saved_model),
}


def _agreement(
    found: Float32[np.ndarray, "n ..."], expected: Float32[np.ndarray, "n ..."]
) -> tuple[float, float]:
    """Measures the share of images with the same class, and the largest difference."""
    same = float((found.argmax(axis=1) == expected.argmax(axis=1)).mean())
    return same, float(np.abs(found - expected).max())


def _check_agreement(
    name: str,
    found: Float32[np.ndarray, "n ..."],
    expected: Float32[np.ndarray, "n ..."],
    *,
    int8: bool = False,
) -> None:
    """Refuses a form of a network that disagrees with the model."""
    same, difference = _agreement(found, expected)
    if int8 and 1 - same > _MOST_DIFFERING:
        raise DigitwiseError(
            f"{name}: in eight bits the network recognizes {1 - same:.1%} of {len(found):,} images "
            f"as something else (at most {_MOST_DIFFERING:.0%} is kept)"
        )
    if not int8 and (same < 1 or difference > TOLERANCE):
        raise DigitwiseError(
            f"{name}: disagrees with the model by {difference:.1e} (at most {TOLERANCE:.0e} is "
            "kept): report this"
        )


@contextlib.contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    """Removes a file that something went wrong with."""
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _hush() -> Iterator[None]:
    """Silence the log of TensorFlow and the converters."""
    variable = environment_defaults({"TF_CPP_MIN_LOG_LEVEL": "3"})  # tf2onnx sets it for good
    logger = quiet_loggers("tf2onnx", level=logging.CRITICAL + 1)
    with variable, logger, native_log_held_back():
        yield


_hushed = Shared(_hush)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the converters' own log lines and warnings from the screen."""
    with warnings_ignored(), _hushed:
        yield


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

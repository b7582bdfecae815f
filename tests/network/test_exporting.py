"""Every form of a network agrees with the model, or is not kept."""

import json
import re
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import digitwise as dw
from digitwise.cli import main
from digitwise.network import exporting
from tests.conftest import full_disk

Digits = tuple[np.ndarray, np.ndarray]


@pytest.mark.parametrize(
    ("form", "int8", "files"),
    [
        ("onnx", False, {"fast.onnx"}),
        ("onnx", True, {"fast-int8.onnx"}),
        ("litert", False, {"fast.tflite"}),
        ("litert", True, {"fast-int8.tflite"}),
        ("openvino", False, {"fast.xml", "fast.bin"}),
        ("saved-model", False, {"fast-saved-model"}),
    ],
)
def test_each_form_agrees_with_the_model(
    bundle: dw.Bundle,
    form: str,
    int8: bool,
    files: set[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    if form == "openvino":
        pytest.importorskip("openvino")
    capsys.readouterr()
    eight = ["--int8"] if int8 else []
    assert main(["export", str(bundle.path), "--format", form, *eight, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    exported = json.loads(captured.out)
    schema = Path(dw.__file__).parent / "schemas" / "export.json"
    jsonschema.validate(exported, json.loads(schema.read_text()))
    assert {path.name for path in Path().iterdir()} == files
    assert exported["images"] == 300  # the bundle's own test set
    assert exported["accuracy"] == pytest.approx(exported["keras_accuracy"], abs=0.01 * int8)
    if not int8:
        assert exported["same_class"] == 1
        assert exported["difference"] <= 1e-4
    else:
        whole = (bundle.path / "model.onnx").stat().st_size
        assert exported["bytes"] < 0.5 * whole


def test_without_the_test_set_the_sample_is_compared(bundle: dw.Bundle, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(bundle.path, tmp_path / "copy"))
    record = json.loads((copy / "bundle.json").read_text())
    record["settings"]["path"] = str(tmp_path / "gone")
    (copy / "bundle.json").write_text(json.dumps(record))
    exported = dw.export(copy, "onnx", tmp_path / "own" / "reader.onnx")
    assert exported.accuracy is None
    assert exported.images == 5000  # 4,000 of the sample to train with, 1,000 of them distorted
    assert "distorted" in exported.source
    assert exported.path.is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--format", "openvino", "--int8"], "it goes with onnx and litert"),
        (["--format", "litert", "--output", "fast.onnx"], r"ends in \.tflite"),
        (["--output", "taken.onnx"], "taken.onnx exists"),
        (["--format", "openvino", "--output", "taken.xml"], "taken.bin exists"),
        (["--format", "tflite"], "tflite"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    bundle: dw.Bundle, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = Path("taken.onnx"), Path("taken.bin")
    for file in taken:
        file.write_text("mine")
    capsys.readouterr()
    assert main(["export", str(bundle.path), *arguments]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert re.search(named, error)
    assert [file.read_text() for file in taken] == ["mine", "mine"]
    assert len(list(Path().iterdir())) == 2


def test_a_full_disk_leaves_nothing(bundle: dw.Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    model = exporting.float32_copy(exporting.open_model(bundle.path / "model.keras"))
    del model  # Keras is at work before the disk is full
    with full_disk():
        status = main(["export", str(bundle.path), "--format", "saved-model"])
    assert status == 3
    assert not list(Path().iterdir())


def test_a_disagreeing_export_is_refused_and_removed(
    bundle: dw.Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = exporting.predict_raw

    def off_by_a_thousandth(session: object, images: np.ndarray) -> np.ndarray:
        return honest(session, images) + np.float32(1e-3)

    monkeypatch.setattr(exporting, "predict_raw", off_by_a_thousandth)
    with pytest.raises(dw.DigitwiseError, match="disagrees"):
        dw.export(bundle, "onnx")
    model = exporting.float32_copy(dw.build_model("tutorial"))
    with pytest.raises(dw.DigitwiseError, match="disagrees"):
        exporting.export_onnx(model, Path("off.onnx"), np.zeros((20, 28, 28, 1), np.float32))
    assert not list(Path().iterdir())


def test_eight_bits_recognize_what_float32_recognizes(digits: Digits) -> None:
    whole = dw.open_bundle("pretrained").path / "model.onnx"
    x, y = dw.preprocess(digits[0][:1000], digits[1][:1000])
    exporting.export_int8(whole, Path("int8.onnx"), x[:200])
    assert Path("int8.onnx").stat().st_size < 0.3 * whole.stat().st_size
    expected, found = (
        exporting.predict_raw(exporting.open_session(file), x)
        for file in (whole, Path("int8.onnx"))
    )
    assert (expected.argmax(axis=1) == found.argmax(axis=1)).mean() >= 0.998
    assert (found.argmax(axis=1) == y.argmax(axis=1)).mean() >= 0.99
    assert np.abs(expected - found).mean() < 0.002


def test_eight_bits_that_recognize_something_else_are_refused_and_removed(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dw.open_bundle("pretrained").path / "model.onnx"
    x, _ = dw.preprocess(digits[0][:100], digits[1][:100])
    monkeypatch.setattr(exporting, "_MOST_DIFFERING", -1.0)
    with pytest.raises(dw.DigitwiseError, match="in eight bits"):
        exporting.export_int8(whole, Path("int8.onnx"), x)
    assert not Path("int8.onnx").exists()


def test_layers_that_compute_in_bfloat16_are_rebuilt_in_float32() -> None:
    from digitwise.network.backend import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = dw.build_model("fast")
    finally:
        keras.config.set_dtype_policy("float32")
    copy = exporting.float32_copy(model)
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    exporting.export_onnx(copy, Path("copy.onnx"), np.zeros((3, 28, 28, 1), np.float32))

"""An export that disagrees with the model is not kept."""

from pathlib import Path

import numpy as np
import pytest

import digitwise as dw
from digitwise.network import exporting

Digits = tuple[np.ndarray, np.ndarray]


def test_a_disagreeing_export_is_refused_and_removed(
    digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = exporting.float32_copy(dw.build_model("tutorial"))
    x, _ = dw.preprocess(digits[0][:20], digits[1][:20])
    exporting.export_onnx(model, Path("sound.onnx"), x)
    assert Path("sound.onnx").is_file()
    honest = exporting.predict_raw

    def off_by_a_thousandth(session: object, images: np.ndarray) -> np.ndarray:
        return honest(session, images) + np.float32(1e-3)

    monkeypatch.setattr(exporting, "predict_raw", off_by_a_thousandth)
    with pytest.raises(dw.DigitwiseError, match="disagrees"):
        exporting.export_onnx(model, Path("off.onnx"), x)
    assert not Path("off.onnx").exists()


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

"""What is no bundle is refused by a line that says why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import digitwise as dw


@pytest.fixture
def copy(bundle: dw.Bundle, tmp_path: Path) -> Path:
    """A bundle that a test may damage."""
    return Path(shutil.copytree(bundle.path, tmp_path / "copy"))


def test_a_bundle_opens_by_its_folder_or_its_run(bundle: dw.Bundle) -> None:
    assert dw.open_bundle(bundle.path).path == dw.open_bundle(bundle.path.parent).path


def test_a_bundle_computes_in_eight_bits_where_it_has_them(
    copy: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    x, _ = dw.preprocess(digits[0][:3], digits[1][:3])
    assert dw.open_bundle(copy).outputs(x).shape == (3, 10)
    shutil.copy(dw.open_bundle("pretrained").path / "model.int8.onnx", copy)  # has 11 outputs
    assert dw.open_bundle(copy).outputs(x).shape == (3, 11)


@pytest.mark.parametrize("name", ["model.keras", "model.onnx"])
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(dw.DigitwiseError, match=f"lacks {name}"):
        dw.open_bundle(copy)


def test_a_newer_format_asks_for_an_upgrade(copy: Path) -> None:
    record = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**record, "format_version": 2}))
    with pytest.raises(dw.DigitwiseError, match=r"format 2.*upgrade digitwise"):
        dw.open_bundle(copy)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format_version": 1}', '{"classes": []}'])
def test_a_damaged_record_is_refused(copy: Path, text: str) -> None:
    (copy / "bundle.json").write_text(text)
    with pytest.raises(dw.DigitwiseError, match=r"bundle\.json"):
        dw.open_bundle(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"classes": None},
        {"classes": "0123456789"},
        {"classes": ["0", "0"]},
        {"input": {}},
        {"input": {"shape": [28, 28, 1], "divide_by": 1}},
        {"calibration": {"temperature": 0}},
        {"calibration": {"temperature": "1"}},
        {"architecture": None},
        {"dataset": {}},
        {"settings": {"path": 5}},
        {"rejection": []},
        {"rejection": {"min_confidence": "0.5"}},
        {"rejection": {"min_confidence": 2}},
        {"format_version": True},
        {"format_version": "1"},
    ],
)
def test_a_record_with_wrong_values_is_refused(copy: Path, change: dict) -> None:
    record = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**record, **change}))
    with pytest.raises(dw.DigitwiseError, match=r"not a bundle's record: it(s| lacks)"):
        dw.open_bundle(copy)


def test_a_network_of_another_bundle_is_refused(copy: Path) -> None:
    record = json.loads((copy / "bundle.json").read_text())
    (copy / "bundle.json").write_text(json.dumps({**record, "classes": ["0", "1", "2"]}))
    with pytest.raises(dw.DigitwiseError, match="10 outputs for 3 classes"):
        dw.open_bundle(copy).predict(np.zeros((1, 28, 28, 1), np.float32))


def test_a_damaged_network_is_refused(copy: Path) -> None:
    (copy / "model.onnx").write_bytes(b"no network")
    with pytest.raises(dw.DigitwiseError, match=r"model\.onnx: not a network"):
        dw.evaluate(copy)


def test_what_is_no_bundle_says_so(tmp_path: Path) -> None:
    with pytest.raises(dw.DigitwiseError, match="no such bundle"):
        dw.open_bundle(tmp_path / "nowhere")
    with pytest.raises(dw.DigitwiseError, match="not a bundle"):
        dw.open_bundle(tmp_path)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(dw.DigitwiseError, match="--resume"):
        dw.open_bundle(tmp_path)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("convert", "fix"),
    [
        (lambda x: x * 255, r"from 0 to 255.*digitwise\.normalize"),
        (lambda x: (x * 255).astype(np.uint8), r"uint8.*digitwise\.normalize"),
        (lambda x: x > 0.5, "bool"),
        (lambda x: x - 1, "from -1"),
        (lambda x: np.where(x > 0.5, np.nan, x), "NaN"),
        (lambda x: np.where(x > 0.5, np.inf, x), "infinite"),
        (lambda x: x[..., 0], "add_channel"),
        (lambda x: x.tolist(), "np.asarray"),
    ],
)
def test_images_that_would_be_misread_are_refused_with_how_to_convert_them(
    bundle: dw.Bundle, digits: tuple[np.ndarray, np.ndarray], convert: Callable, fix: str
) -> None:
    x, _ = dw.preprocess(digits[0][:3], digits[1][:3])
    for ask in (bundle.predict, bundle.outputs):
        with pytest.raises(dw.DigitwiseError, match=fix):
            ask(convert(x))
    assert bundle.predict(x[:0]).shape == (0, 10)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("call", [dw.open_bundle, dw.Reader, dw.evaluate, dw.report, dw.export])
def test_objects_that_are_not_bundles_are_refused(call: Callable) -> None:
    with pytest.raises(dw.DigitwiseError, match="the bundle is dict; expected a Bundle"):
        call({})

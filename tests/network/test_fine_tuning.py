"""A bundle goes on to learn somebody's own digits, and forgets nothing."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import digitwise as dw
from digitwise.cli import main
from digitwise.errors import DigitwiseError
from digitwise.network import training

Digits = tuple[np.ndarray, np.ndarray]
SCHEMAS = Path(dw.__file__).parent / "schemas"


def _write_mirrored(folder: Path, digits: Digits, classes: tuple[int, ...], count: int) -> Path:
    """Writes a hand that mirrors its digits, as a folder of images per class."""
    x, y = digits
    for label in classes:
        (folder / str(label)).mkdir(parents=True)
        for number, image in enumerate(x[y == label][-count:]):
            Image.fromarray(image[:, ::-1]).save(folder / str(label) / f"{number}.png")
    return folder


@pytest.mark.filterwarnings("ignore::digitwise.errors.SampleDataWarning")
@pytest.mark.filterwarnings("ignore::digitwise.errors.MissingClassWarning")
def test_a_few_dozen_digits_are_learned_and_mnist_is_not_forgotten(
    bundle: dw.Bundle, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = _write_mirrored(Path("mine"), digits, (2, 7), 30)
    capsys.readouterr()
    assert main(["train", "--from", str(bundle.path), "--data", str(mine), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.validate(printed, json.loads((SCHEMAS / "train.json").read_text()))
    (before, after), (mnist_before, mnist_after) = (
        printed["fine_tuning"][name] for name in ("own_test", "mnist_test")
    )
    assert before < 0.6
    assert after >= 0.8
    assert mnist_after >= mnist_before - 0.01
    learned = dw.open_bundle(printed["bundle"])
    jsonschema.validate(learned.record, json.loads((SCHEMAS / "bundle.json").read_text()))
    assert learned.classes == bundle.classes
    assert dw.evaluate(learned, path=mine).images == 10  # what was held out, no more


@pytest.mark.filterwarnings("ignore::digitwise.errors.SampleDataWarning")
@pytest.mark.filterwarnings("ignore::digitwise.errors.MissingClassWarning")
def test_a_run_that_goes_on_from_a_bundle_can_be_resumed(
    bundle: dw.Bundle, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = _write_mirrored(Path("mine"), digits, (2, 7), 12)

    def break_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training, "_leave_bundle", break_off)
        with pytest.raises(KeyboardInterrupt):
            dw.train(start=bundle, path=mine, epochs=1, minimum_steps=10, output="run")
    finished = training.resume("run")
    assert finished.record["fine_tuning"]["own_images"] == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "--from needs --data"),
        ({"dataset": "mnist", "model": "fast"}, "--model does not go with --from"),
    ],
)
def test_what_does_not_go_together_is_refused(
    bundle: dw.Bundle, options: dict[str, str], message: str
) -> None:
    with pytest.raises(DigitwiseError, match=message):
        dw.train(start=bundle, **options)


@pytest.mark.filterwarnings("ignore::digitwise.errors.SampleDataWarning")
def test_a_class_that_is_no_digit_is_refused(bundle: dw.Bundle, digits: Digits) -> None:
    mine = _write_mirrored(Path("mine"), digits, (2, 7), 12)
    (mine / "7").rename(mine / "seven")
    with pytest.raises(DigitwiseError, match="has the class seven"):
        dw.train(start=bundle, path=mine)

"""A bundle goes on to learn somebody's own digits, and forgets nothing."""

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import digitwise as dw
from digitwise.cli import main
from digitwise.data.loading import built_in_sample, load_dataset
from digitwise.data.seen import NOTHING_SEEN, SeenImages, digest_images
from digitwise.errors import DigitwiseError
from digitwise.network import training
from digitwise.network.splitting import Split, split_for_training

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


def _seen(bundle: dw.Bundle) -> SeenImages:
    return SeenImages.read(bundle.path / "seen.npz")


def _split_again(path: str, start: dw.Bundle) -> Split:
    """Split as `train` does, to see which images it would test and validate on."""
    return split_for_training(load_dataset(path=path), None, 0, start=start)


@pytest.mark.filterwarnings("ignore::digitwise.errors.SampleDataWarning")
def test_no_bundle_of_a_chain_is_tested_or_validated_on_what_it_was_trained_on(
    bundle: dw.Bundle, digits: Digits
) -> None:
    x, y = np.roll(digits[0], 1, axis=2), digits[1]  # new images of the same digits
    quick = {"epochs": 1, "minimum_steps": 1}
    np.savez("mine.npz", x_train=x[:240], y_train=y[:240])
    first = dw.train(start=bundle, path="mine.npz", output="first", **quick)
    split = _split_again("mine.npz", bundle)
    held = digest_images(split.validation_images.x)
    assert split.data.digests == first.record["settings"]["digests"]
    assert len(held) > 200
    assert not _seen(bundle).was_trained_on(held).any()
    assert not _seen(first).was_trained_on(held).any()
    assert not _seen(first).was_seen(digest_images(split.data.test.x)).any()
    assert set(_seen(bundle).trained) < set(_seen(first).trained)

    np.savez("grown.npz", x_train=x[:360], y_train=y[:360])
    second = dw.train(start=first, path="grown.npz", output="second", **quick)
    again = _split_again("grown.npz", first)
    tested = digest_images(again.data.test.x)
    assert second.record["test"]["images"] == len(tested) == 60
    assert not _seen(first).was_seen(tested).any()
    assert not _seen(first).was_trained_on(digest_images(again.validation_images.x)).any()
    assert not _seen(second).was_seen(tested).any()
    for bundle_of_chain in (first, second):
        record = bundle_of_chain.record
        evaluation = dw.evaluate(bundle_of_chain)
        assert evaluation.images == record["test"]["images"]
        assert evaluation.accuracy == record["fine_tuning"]["own_test"][1]


@pytest.mark.filterwarnings("ignore::digitwise.errors.SampleDataWarning")
def test_no_accuracy_is_reported_where_every_image_was_trained_on_before(
    bundle: dw.Bundle, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("known.npz", x_train=digits[0][:1200], y_train=digits[1][:1200])
    command = ["train", "--from", str(bundle.path), "--data", "known.npz", "--output", "run"]
    assert main([*command, "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    jsonschema.validate(document, json.loads((SCHEMAS / "train.json").read_text()))
    assert document["accuracy"] is None
    assert document["fine_tuning"]["own_test"] is None
    assert document["fine_tuning"]["mnist_test"] is not None
    assert "known.npz: no unseen images are left to test on" in printed.err
    record = dw.open_bundle("run").record
    jsonschema.validate(record, json.loads((SCHEMAS / "bundle.json").read_text()))
    assert main(["train", "--resume", "run"]) == 0
    assert "accuracy  not measured: no unseen images" in capsys.readouterr().out
    with pytest.raises(DigitwiseError, match="trained or validated on every image"):
        dw.evaluate("run")


@pytest.mark.filterwarnings("ignore::digitwise.errors.SampleDataWarning")
@pytest.mark.filterwarnings("ignore::digitwise.errors.MissingClassWarning")
def test_a_network_that_has_seen_all_of_mnist_keeps_its_calibration(
    bundle: dw.Bundle, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    sample = built_in_sample()
    everything = np.concatenate([sample.train.x, sample.test.x])
    start = dw.open_bundle(shutil.copytree(bundle.path, "start"))
    NOTHING_SEEN.extended(digest_images(everything)).write(start.path / "seen.npz")
    np.savez("mine.npz", x_train=np.roll(digits[0][:60], 1, axis=2), y_train=digits[1][:60])
    tuned = dw.train(start=start, path="mine.npz", epochs=1, minimum_steps=1, output="run")
    assert "too few to calibrate on" in capsys.readouterr().err
    assert tuned.record["calibration"] == start.record["calibration"]
    assert tuned.record["validation"]["images"] < 10
    assert tuned.record["fine_tuning"]["mnist_test"] is None

"""Training real digits, and what it leaves."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import digitwise as dw
from digitwise.data.seen import SeenImages
from digitwise.network import training
from digitwise.network.backend import keras
from digitwise.network.checkpoints import read_latest
from digitwise.network.runs import Run
from digitwise.network.settings import bfloat16_is_faster
from tests.conftest import full_disk

SCHEMAS = Path(dw.__file__).parent / "schemas"
Digits = tuple[np.ndarray, np.ndarray]
layers = keras.layers


def _read_schema(name: str) -> dict:
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def test_a_small_training_learns_and_leaves_everything(bundle: dw.Bundle) -> None:
    assert bundle.record["test"]["accuracy"] > 0.85
    run = bundle.path.parent
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "settings.json",
        "history.csv",
        "checkpoints",
        "bundle",
    }
    jsonschema.validate(json.loads((run / "settings.json").read_text()), _read_schema("settings"))
    jsonschema.validate(bundle.record, _read_schema("bundle"))
    history = Run(run).read_history()
    assert len(history) == 24  # 5 batches an epoch: at least 120 steps
    assert history[-1]["loss"] < history[0]["loss"]


def test_the_bundles_keras_model_is_float32_and_agrees_with_its_onnx(
    bundle: dw.Bundle, digits: Digits
) -> None:
    model = keras.models.load_model(bundle.path / "model.keras", safe_mode=True)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert not model.compiled
    x, _ = dw.preprocess(*digits)
    from digitwise.bundle import predict_raw

    ours, keras_own = predict_raw(bundle.session, x), model.predict(x, verbose=0)
    assert np.abs(ours - keras_own).max() < 1e-4
    assert (ours.argmax(axis=1) == keras_own.argmax(axis=1)).all()


def test_calibration_is_fitted_on_validation_and_lowers_the_loss(bundle: dw.Bundle) -> None:
    calibration = bundle.record["calibration"]
    assert calibration["fitted_on"] == "validation"
    assert calibration["temperature"] < 1  # label smoothing leaves a network too unsure
    uncalibrated = dw.Bundle(bundle.path, {**bundle.record, "calibration": {"temperature": 1.0}})
    before, after = dw.evaluate(uncalibrated), dw.evaluate(bundle)
    assert after.accuracy == before.accuracy
    assert after.loss < before.loss


def test_a_network_of_ones_own_is_trained_in_place(small: Path) -> None:
    mine = keras.Sequential(
        [
            layers.Conv2D(8, (5, 5), strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    bundle = dw.train(mine, path=small, epochs=1, minimum_steps=40, output="run", seed=1)
    assert bundle.record["architecture"]["name"] == "own"
    assert bundle.record["test"]["accuracy"] > 0.6
    saved = keras.models.load_model(bundle.path / "model.keras")
    for trained, kept in zip(mine.get_weights(), saved.get_weights(), strict=True):
        assert (trained == kept).all()
    assert {layer.dtype_policy.name for layer in mine.layers} == {"float32"}


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda: keras.Sequential([layers.Flatten(), layers.Dense(10)]), "no probabilities"),
        (
            lambda: keras.Sequential([layers.Flatten(), layers.Dense(4, activation="softmax")]),
            r"gives \(4,\)",
        ),
        (
            lambda: keras.Sequential(
                [keras.Input((32, 32, 1)), layers.Flatten(), layers.Dense(10, "softmax")]
            ),
            r"takes \(32, 32, 1\)",
        ),
        (
            lambda: keras.Sequential(
                [
                    keras.Input((28, 28, 1)),
                    layers.Flatten(),
                    layers.Lambda(lambda x: x),
                    layers.Dense(10, activation="softmax"),
                ]
            ),
            "cannot be saved",
        ),
        (lambda: 3, "not int"),
        (lambda: None, "not NoneType"),
        (keras.Sequential, "no layers"),
    ],
    ids=["logits", "classes", "size", "lambda", "no-network", "none", "empty"],
)
def test_a_network_that_does_not_fit_is_refused_before_training(
    small: Path, network, words: str
) -> None:
    with pytest.raises(dw.DigitwiseError, match=words):
        dw.train(network(), path=small, output="run")
    assert not Path("run").exists()


def test_a_network_that_build_model_built_keeps_its_name_and_recipe(small: Path) -> None:
    bundle = dw.train(dw.build_model("fast"), path=small, epochs=1, minimum_steps=1)
    assert bundle.path == Path("runs/small-fast-1/bundle")
    assert bundle.record["settings"]["recipe"]["schedule"] == "one-cycle"


def test_two_runs_with_one_seed_are_equal_and_another_seed_differs(small: Path) -> None:
    def variables(output: str, seed: int) -> list[np.ndarray]:
        dw.train("tutorial", path=small, epochs=1, minimum_steps=1, seed=seed, output=output)
        return read_latest(Run(Path(output)).checkpoints).variables

    first, again, other = variables("a", 5), variables("b", 5), variables("c", 6)
    assert all((x == y).all() for x, y in zip(first, again, strict=True))
    assert any((x != y).any() for x, y in zip(first, other, strict=True))


def test_precision_is_chosen_said_and_can_be_forced(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dw.train("tutorial", path=small, epochs=1, minimum_steps=1, output="auto", validation=0)
    chosen = "bfloat16" if bfloat16_is_faster() else "float32"
    assert f"computing in {chosen}" in capsys.readouterr().err
    for precision in ("float32", "bfloat16"):
        bundle = dw.train(
            "tutorial", path=small, epochs=1, minimum_steps=1, precision=precision, output=precision
        )
        assert bundle.record["settings"]["precision"] == precision


def test_without_validation_nothing_is_chosen_or_calibrated(small: Path) -> None:
    bundle = dw.train("tutorial", path=small, epochs=2, validation=0, minimum_steps=1, output="run")
    assert bundle.record["validation"] is None
    assert bundle.record["calibration"] == {"temperature": 1.0, "fitted_on": None}
    assert bundle.record["settings"]["training_images"] == 1200


def test_early_stopping_takes_the_weights_of_the_best_epoch(small: Path) -> None:
    bundle = dw.train("tutorial", path=small, epochs=60, minimum_steps=1, output="run")
    checkpoint = read_latest(Run(Path("run")).checkpoints)
    state = checkpoint.state
    assert state.stopped
    assert state.epoch == state.best_epoch + 4 < 60
    losses = [row["val_loss"] for row in state.history]
    assert int(np.argmin(losses)) + 1 == state.best_epoch
    kept = keras.models.load_model(bundle.path / "model.keras").get_weights()
    best = [value for value in checkpoint.best if value.dtype == np.float32]
    last = [value for value in checkpoint.variables if value.dtype == np.float32]
    assert all((x == y).all() for x, y in zip(kept, best, strict=True))
    assert any((x != y).any() for x, y in zip(kept, last, strict=True))


def test_batch_normalization_ends_with_the_images_as_they_are(small: Path) -> None:
    """`small` trains on varied images; its last statistics are of the images themselves."""
    network = dw.build_model("small")
    dw.train(network, path=small, epochs=1, validation=0, minimum_steps=5)
    (x, y), _ = dw.load_data(path=small)
    sums = keras.ops.convert_to_numpy(network.layers[0](dw.preprocess(x, y)[0]))
    kept = next(item for item in network.layers if isinstance(item, layers.BatchNormalization))
    deviation = sums.std(axis=(0, 1, 2))
    assert np.abs(kept.moving_mean - sums.mean(axis=(0, 1, 2))).max() < 0.001 * deviation.max()
    assert np.allclose(np.sqrt(kept.moving_variance), deviation, rtol=0.01)
    assert kept.momentum == 0.9


def test_a_share_of_an_epoch_shows_so_many_images(small: Path) -> None:
    bundle = dw.train("fast", path=small, epochs=0.5, validation=0, output="run")
    images = bundle.record["dataset"]["train_images"]
    assert bundle.record["settings"]["training_images"] == images // 2
    assert [row["epoch"] for row in bundle.record["history"]] == [1]
    assert training.resume("run", {"epochs": 0.5}).path == bundle.path
    with pytest.raises(dw.DigitwiseError, match=r"--epochs 2.5 is neither a whole number nor"):
        dw.train("fast", path=small, epochs=2.5)


def test_small_data_gets_its_minimum_of_steps_and_that_is_said(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dw.train("tutorial", path=small, epochs=1, minimum_steps=25, output="run")
    assert "3 epochs instead of 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": "tutorail"}, "did you mean tutorial"),
        ({"model": "own"}, "unknown model"),
        ({"epochs": 0}, "--epochs 0 is out of range"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"seed": -1}, "--seed -1"),
        ({"validation": 601}, "at most half of the 1,200"),
        ({"precision": "float16"}, "did you mean bfloat16|did you mean float32"),
        ({"output": "."}, "exists: choose another --output"),
    ],
)
def test_bad_arguments_are_refused(small: Path, options: dict, words: str) -> None:
    with pytest.raises(dw.DigitwiseError, match=words):
        dw.train(**{"path": small, "output": "run", **options})
    assert not Path("run").exists()


def test_one_class_alone_is_refused_and_a_missing_one_is_said(digits: Digits) -> None:
    x, y = digits
    ones = x[y == 1][:60]
    np.savez("ones.npz", x_train=ones, y_train=np.ones(60, int))
    with pytest.raises(dw.DigitwiseError, match="one class alone"):
        dw.train("fast", path="ones.npz")
    chosen = np.flatnonzero((y == 0) | (y == 2))[:120]
    np.savez("gap.npz", x_train=x[chosen], y_train=y[chosen])
    with pytest.warns(dw.MissingClassWarning, match="shows 1"):
        bundle = dw.train("fast", path="gap.npz", minimum_steps=1, output="gap")
    assert bundle.classes == ("0", "1", "2")


def test_a_full_disk_is_the_machines_refusal_and_leaves_nothing(
    small: Path,
) -> None:
    with full_disk(), pytest.raises(dw.MachineError, match="cannot write run"):
        dw.train("fast", path=small, output="run")
    assert not list(Path.cwd().iterdir())


def test_a_network_that_was_compiled_and_trained_before_is_trained_afresh(small: Path) -> None:
    model = dw.build_model("fast")
    model.compile("sgd", "mse")
    model.fit(np.zeros((2, 28, 28, 1)), np.eye(10)[:2], verbose=0)
    dw.train(model, path=small, minimum_steps=20, epochs=1, output="first")
    before = model.get_weights()
    dw.train(model, path=small, minimum_steps=20, epochs=1, output="second")
    assert any((x != y).any() for x, y in zip(before, model.get_weights(), strict=True))
    first, second = (read_latest(Run(Path(name)).checkpoints) for name in ("first", "second"))
    assert first.optimizer[0] == second.optimizer[0]  # the steps that were counted


def test_a_training_step_is_traced_once(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced = []
    loss_of = keras.Sequential.compute_loss

    def counted(model: keras.Sequential, *arguments: Any, **options: Any) -> Any:
        traced.append(model)  # TensorFlow runs Python where it traces, not at every step
        return loss_of(model, *arguments, **options)

    monkeypatch.setattr(keras.Sequential, "compute_loss", counted)
    dw.train("fast", path=small, epochs=2, validation=0, minimum_steps=20, output="run")
    assert len(traced) == 1


def test_random_augmentation_layers_train_and_stay_out_of_the_bundle(small: Path) -> None:
    mine = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.RandomRotation(0.05),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    bundle = dw.train(mine, path=small, epochs=1, minimum_steps=10, output="run")
    kept = keras.models.load_model(bundle.path / "model.keras")
    assert [type(layer).__name__ for layer in kept.layers] == ["Flatten", "Dense"]


def test_numpys_whole_numbers_are_taken(small: Path) -> None:
    bundle = dw.train(
        "tutorial", path=small, epochs=np.int64(1), seed=np.int32(2), minimum_steps=1, output="run"
    )
    assert bundle.record["settings"]["seed"] == 2


def test_two_trainings_that_choose_one_default_name_both_find_a_place(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = training._open_run

    def overtaken(run: Run, *others: object) -> None:
        (run.folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        monkeypatch.setattr(training, "_open_run", planned)
        planned(run, *others)

    monkeypatch.setattr(training, "_open_run", overtaken)
    bundle = dw.train("tutorial", path=small, epochs=1, minimum_steps=1)
    assert bundle.path == Path("runs/small-tutorial-2/bundle")


def test_a_reader_trained_without_validation_rejects_nothing(small: Path) -> None:
    bundle = dw.train("reader", path=small, epochs=1, validation=0, minimum_steps=1, output="run")
    assert bundle.record["rejection"] is None
    assert bundle.record["architecture"]["outputs"] == 11


def test_a_reader_from_build_model_is_trained_without_non_digits(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = dw.build_model("reader")
    bundle = dw.train(model, path=small, epochs=1, minimum_steps=1, output="run")
    jsonschema.validate(bundle.record, _read_schema("bundle"))
    assert bundle.record["architecture"] | {"layers": 0} == {
        "name": "reader",
        "parameters": model.count_params(),
        "outputs": 10,
        "layers": 0,
    }
    assert bundle.record["rejection"] is None
    assert "build_model('reader', 11) has one" in capsys.readouterr().err


def test_a_duplicate_image_has_only_one_role(
    digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = (np.concatenate([part[:200], part[:200]]) for part in digits)
    np.savez("mine.npz", x_train=x, y_train=y, x_test=x[150:250], y_test=y[150:250])
    with pytest.raises(dw.DigitwiseError, match="trained or validated on every image"):
        dw.evaluate(dw.train("fast", path="mine.npz", epochs=1, minimum_steps=1, output="run"))
    said = capsys.readouterr().err
    assert "left out 100 of 100 test images, which are also in the training set" in said
    record = dw.open_bundle("run").record
    assert record["test"] is None
    seen = SeenImages.read(Path("run/bundle/seen.npz"))
    assert len(seen.trained) + len(seen.validated) == 200
    assert 10 < len(seen.validated) < 25

"""A network that learned nothing gets a warning that names the likely cause."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import digitwise as dw
from digitwise.cli import main
from digitwise.data.formats import LabeledImages
from digitwise.network.backend import keras
from digitwise.network.diagnosis import explain_divergence, warn_of_chance
from digitwise.network.evaluation import score
from digitwise.network.settings import TrainingSettings

Digits = tuple[np.ndarray, np.ndarray]
SCHEMAS = Path(dw.__file__).parent / "schemas"
layers = keras.layers


def _train(small: Path, capsys: pytest.CaptureFixture[str], *options: str) -> tuple[dict, str]:
    command = ["train", "--model", "fast", "--data", str(small), "--output", "run", "--json"]
    capsys.readouterr()
    assert main([*command, *options]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    jsonschema.validate(document, json.loads((SCHEMAS / "train.json").read_text()))
    return document, printed.err


def test_a_learning_rate_that_is_far_too_high_is_named(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document, said = _train(small, capsys, "--learning-rate", "1000")
    assert document["accuracy"] < 0.2
    assert "warning: the network is not measurably better than chance" in said
    assert "lower --learning-rate: 1000 is 1,250 times the recipe's 0.8" in said
    assert document["warning"] in said
    assert dw.open_bundle("run").record["warning"] == document["warning"]


def test_the_likely_cause_is_named(bundle: dw.Bundle, digits: Digits) -> None:
    settings = TrainingSettings.from_dict(bundle.record["settings"])
    shuffled = np.random.default_rng(0).permutation(digits[1][1500:2000])
    evaluation = score(bundle, LabeledImages(digits[0][1500:2000], shuffled), "mine", "mine")
    slow = replace(settings, recipe=replace(settings.recipe, learning_rate=1e-6))
    for told, steps, cause in (
        (settings, 1000, "check that each label belongs to its image"),
        (settings, 20, "raise --epochs: it was trained for only 20 steps"),
        (slow, 1000, "raise --learning-rate: 1e-06 is far below the recipe's 0.8"),
    ):
        warning = warn_of_chance(evaluation, told, steps)
        assert warning is not None
        assert cause in warning
    few = replace(evaluation, images=10)
    assert warn_of_chance(few, settings, 1000) is None


def test_a_network_that_learned_gets_no_warning(bundle: dw.Bundle) -> None:
    assert bundle.record["warning"] is None


def test_a_loss_that_is_not_a_number_names_the_learning_rate(small: Path) -> None:
    with pytest.raises(dw.DigitwiseError) as caught:
        dw.train("tutorial", path=small, learning_rate=1e20, output="run")
    assert "is not a number: lower --learning-rate, which is 1e+20 (the recipe's is 0.001)" in (
        str(caught.value)
    )
    assert "layers" not in str(caught.value)
    mine = keras.Sequential(
        [keras.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10), layers.Activation("softmax")]
    )
    with pytest.raises(dw.DigitwiseError, match="or check the network's layers"):
        dw.train(mine, path=small, learning_rate=1e38, output="mine")


def test_a_training_that_diverged_names_the_learning_rate(bundle: dw.Bundle) -> None:
    settings = TrainingSettings.from_dict(bundle.record["settings"])
    assert explain_divergence(settings) is None
    settings = replace(settings, recipe=replace(settings.recipe, learning_rate=1000.0))
    assert explain_divergence(settings) == (
        "training diverged: lower --learning-rate: 1000 is 1,250 times the recipe's 0.8"
    )

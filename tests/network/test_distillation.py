"""A small network learns the answers of others besides the labels."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import digitwise as dw
from digitwise.cli import main
from digitwise.errors import DigitwiseError

SCHEMAS = Path(dw.__file__).parent / "schemas"


def test_a_network_learns_what_its_teacher_says_where_the_labels_say_otherwise(
    bundle: dw.Bundle, small: Path
) -> None:
    (x, y), (x_test, y_test) = dw.load_data(path=small)
    shuffled = Path("shuffled.npz")
    random = np.random.default_rng(0)
    np.savez(shuffled, x_train=x, y_train=random.permutation(y), x_test=x_test, y_test=y_test)
    command = ["train", "--model", "fast", "--data", str(shuffled), "--epochs", "12", "--json"]
    assert main([*command, "--teacher", str(bundle.path), "--output", "taught"]) == 0
    record = json.loads(Path("taught/bundle/bundle.json").read_text())
    jsonschema.validate(record, json.loads((SCHEMAS / "bundle.json").read_text()))
    assert record["settings"]["teachers"] == [str(bundle.path)]
    assert record["test"]["accuracy"] > 0.8  # of the true labels, which it never saw


def test_a_teacher_has_the_outputs_of_its_pupil(bundle: dw.Bundle, small: Path) -> None:
    with pytest.raises(DigitwiseError, match="--teacher pretrained: has other outputs"):
        dw.train("fast", path=small, teachers=[bundle.path, "pretrained"])

"""The page network and the line network learn from composed pages and lines."""

from pathlib import Path

import jsonschema
import keras
import numpy as np
import pytest
from PIL import Image

import digitwise as dw
from digitwise.cli import main
from digitwise.data import characters
from digitwise.data.catalog import CHARACTERS, OTHER
from digitwise.data.writing import IGNORED, Character
from digitwise.network import lines, pages
from digitwise.network.lines import BLANK, LineAccuracy, line_loss
from digitwise.network.pages import KINDS, CenterAccuracy, page_loss, page_targets
from tests.network.test_training import _read_schema

EPOCHS = 0.004
pytestmark = pytest.mark.filterwarnings("ignore::digitwise.errors.SampleDataWarning")
SHAPE = (64, 96)


def _targets() -> np.ndarray:
    """Targets of a page with a 3 and a cut-off character."""
    three = Character(3, 42.0, 30.0, 12.0, 20.0, 0)
    cut = Character(IGNORED, 90.0, 60.0, 20.0, 20.0, 0)
    return page_targets([three, cut], SHAPE)[np.newaxis]


def test_targets_are_highest_at_the_center_and_ignore_what_is_cut_off() -> None:
    (maps,) = _targets()
    assert maps.shape == (16, 24, KINDS + 4)
    row, column = np.unravel_index(maps[..., 3].argmax(), maps.shape[:2])
    assert (row, column) == (7, 10)
    assert maps[row, column, 3] == 1
    assert maps[..., [k for k in range(KINDS) if k != 3]].max() == 0
    assert np.exp(maps[row, column, KINDS : KINDS + 2]) == pytest.approx([12, 20])
    assert maps[15, 23, -1] == 0
    assert maps[0, 0, -1] == 1


def test_the_page_loss_is_least_for_the_right_answer() -> None:
    targets = _targets()
    answers = {}
    for name, label, row in (("right", 3, 7), ("other digit", 8, 7), ("elsewhere", 3, 2)):
        answer = np.full((1, 16, 24, KINDS + 2), -8, np.float32)
        answer[..., KINDS:] = np.log([12, 20])
        answer[0, row, 10, label] = 8
        answers[name] = float(page_loss(targets, answer))
    assert answers["right"] < 0.2 < answers["other digit"] < answers["elsewhere"] + 20
    assert answers["right"] < answers["elsewhere"]
    accuracy = CenterAccuracy()
    accuracy.update_state(targets, answer)
    assert float(accuracy.result()) == 0


def test_the_line_loss_and_accuracy_judge_whole_lines() -> None:
    targets = np.array([[[1, 0], [1, 2], [5, 3]], [[7, 2], [-1, -1], [-1, -1]]])
    columns = np.array([[1, BLANK, 1, 5, 5, BLANK], [BLANK, BLANK, 7, 7, BLANK, BLANK]])
    logits = 9 * np.eye(BLANK + 1, dtype=np.float32)[columns]
    wrong = logits.copy()
    wrong[0, 1] = wrong[0, 0]  # the two 1s run together
    accuracies = []
    for answer in (logits, wrong):
        accuracy = LineAccuracy()
        accuracy.update_state(targets, answer)
        accuracies.append(float(accuracy.result()))
    assert accuracies == [1.0, 0.5]
    assert float(line_loss(targets, logits)) < 0.1 < float(line_loss(targets, wrong))


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dw.Bundle]:
    """A page and a line network, after a few steps."""
    folder = tmp_path_factory.mktemp("composed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "_VALIDATION", 16)
        patch.setattr(lines, "_VALIDATION", 32)
        patch.setattr(characters, "_REDRAWN", 500)
        patch.setattr(characters, "_ALLOGRAPHS", 20)
        return {
            model: dw.train(model, epochs=EPOCHS, validation=200, output=folder / model)
            for model in ("page", "line")
        }


@pytest.mark.parametrize("model", ["page", "line"])
def test_a_composed_training_leaves_a_bundle(composed: dict[str, dw.Bundle], model: str) -> None:
    bundle = composed[model]
    jsonschema.validate(bundle.record, _read_schema("bundle"))
    assert bundle.classes == tuple(CHARACTERS)
    assert not bundle.classifies
    side = {"page": (64, 96), "line": (48, 96)}[model]
    (name,) = [each.name for each in bundle.session.get_inputs()]
    (answer,) = bundle.session.run(None, {name: np.zeros((1, *side, 1), np.float32)})
    expected = {"page": (1, 16, 24, KINDS + 2), "line": (1, 24, BLANK + 1)}[model]
    assert answer.shape == expected
    network = keras.models.load_model(bundle.path / "model.keras")
    assert network.count_params() == bundle.record["architecture"]["parameters"]
    assert (bundle.path / "model.int8.onnx").stat().st_size < 1.3e6


@pytest.mark.parametrize("model", ["page", "line"])
def test_composed_networks_are_refused_where_single_digits_are_classified(
    composed: dict[str, dw.Bundle], model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(composed[model].path)
    Image.fromarray(np.zeros((28, 28), np.uint8)).save("a.png")
    for command in (
        ["evaluate", folder],
        ["report", folder],
        ["export", folder, "--format", "onnx"],
        ["read", "a.png", "--bundle", folder],
        ["explain", "a.png", "--bundle", folder],
        ["train", "--from", folder, "--data", "a.npz"],
        ["train", "--teacher", folder],
        ["serve", "--bundle", folder],
    ):
        assert main(command) == 2, command
        refusal = capsys.readouterr().err
        assert f"a {model} network does not classify single digits" in refusal, command
        assert len(refusal.splitlines()) == 1


def test_composing_refuses_other_data(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--model", "page", "--data", str(small)]) == 2
    assert "neither with --data nor with --dataset" in capsys.readouterr().err


def test_letters_are_the_last_kind() -> None:
    assert KINDS == OTHER + 1 == len(CHARACTERS) + 1 == BLANK

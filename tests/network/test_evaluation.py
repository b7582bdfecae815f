"""The figures of an evaluation are right, and it tests only on what was not trained on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics

import digitwise as dw
from digitwise.cli import main
from digitwise.network.evaluation import expected_calibration_error, wilson_interval

Digits = tuple[np.ndarray, np.ndarray]
SCHEMAS = Path(dw.__file__).parent / "schemas"


@pytest.fixture(scope="module")
def evaluation(bundle: dw.Bundle) -> dw.Evaluation:
    return dw.evaluate(bundle)


def test_figures_agree_with_scikit_learns(evaluation: dw.Evaluation) -> None:
    read = evaluation.probabilities.argmax(axis=1)
    y = evaluation.y
    assert evaluation.accuracy == pytest.approx(metrics.accuracy_score(y, read))
    probabilities = evaluation.probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert evaluation.loss == pytest.approx(metrics.log_loss(y, probabilities), rel=1e-4)
    assert (evaluation.confusion == metrics.confusion_matrix(y, read)).all()
    precision, recall, f1, shown = metrics.precision_recall_fscore_support(y, read)
    for label, figures in enumerate(evaluation.per_class):
        assert figures.precision == pytest.approx(precision[label])
        assert figures.recall == pytest.approx(recall[label])
        assert figures.f1 == pytest.approx(f1[label])
        assert figures.images == shown[label]


def test_mistakes_are_wrong_and_the_surest_come_first(evaluation: dw.Evaluation) -> None:
    read = evaluation.probabilities.argmax(axis=1)
    assert (read[evaluation.mistakes] != evaluation.y[evaluation.mistakes]).all()
    sure = evaluation.probabilities[evaluation.mistakes].max(axis=1)
    assert (np.diff(sure) <= 0).all()


def test_wilsons_interval_is_the_textbooks() -> None:
    # Brown, Cai and DasGupta (2001): 0 of 10 gives [0, 0.2775]; by symmetry for 10 of 10.
    assert wilson_interval(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((0.7225, 1), abs=1e-4)
    low, high = wilson_interval(9916, 10000)
    assert low < 0.9916 < high
    assert high - low == pytest.approx(0.0036, abs=2e-4)


def test_calibration_error_of_made_up_confidence() -> None:
    sure = np.tile(np.array([[0.9, 0.1]], np.float32), (1000, 1))
    y = (np.arange(1000) % 10 == 0).astype(int)
    assert expected_calibration_error(sure, y) < 0.01
    assert expected_calibration_error(sure, np.zeros(1000, int)) == pytest.approx(0.1, abs=1e-3)


def test_predictions_of_another_shape_are_refused(bundle: dw.Bundle) -> None:
    with pytest.raises(dw.DigitwiseError, match="the network takes"):
        bundle.predict(np.zeros((1, 32, 32, 1), np.float32))
    assert bundle.predict(np.zeros((0, 28, 28, 1), np.float32)).shape == (0, 10)


def test_the_sample_may_not_test_what_was_trained_on_more(bundle: dw.Bundle) -> None:
    with pytest.raises(
        dw.DigitwiseError, match=r"could not be downloaded.*DIGITWISE_DATA or --data"
    ):
        dw.evaluate(bundle, dataset="mnist")


def test_the_sample_may_test_what_was_trained_on_its_own_part() -> None:
    with pytest.warns(dw.SampleDataWarning):
        trained = dw.train("fast", minimum_steps=1, epochs=1, output="run")
    assert "all figures are the sample's" in trained.record["notice"]
    with pytest.warns(dw.SampleDataWarning):
        assert dw.evaluate(trained).images == 1000


def test_one_set_alone_is_tested_by_the_part_that_was_held_out(digits: Digits) -> None:
    x, y = digits
    np.savez("mine.npz", x_train=x[:600], y_train=y[:600])
    trained = dw.train("fast", path="mine.npz", minimum_steps=1, seed=4, output="run")
    again = dw.evaluate(trained, path="mine.npz")
    assert again.images == 100
    assert again.accuracy == trained.record["test"]["accuracy"]
    np.savez("others.npz", x_test=x[600:700], y_test=y[600:700])
    assert dw.evaluate(trained, path="others.npz").images == 100


def test_data_that_misses_a_class_is_said(bundle: dw.Bundle, digits: Digits) -> None:
    x, y = (part[1500:] for part in digits)  # the bundle was trained on some of the others
    few = y < 8
    np.savez("few.npz", x_test=x[few][:200], y_test=y[few][:200])
    with pytest.warns(dw.MissingClassWarning, match="no image shows 8, 9"):
        evaluation = dw.evaluate(bundle, path="few.npz")
    assert evaluation.per_class[9].recall is None
    json.dumps(evaluation.to_dict(), allow_nan=False)


def test_folders_are_matched_by_their_names(bundle: dw.Bundle, digits: Digits) -> None:
    x, y = (part[1500:] for part in digits)
    for number, image in enumerate(x[y == 7][:30]):
        Path("only/7").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(f"only/7/{number}.png")
    with pytest.warns(dw.MissingClassWarning):
        assert dw.evaluate(bundle, path="only").accuracy > 0.7
    Path("only/7").rename("only/seven")
    with pytest.raises(dw.DigitwiseError, match="has the class seven"):
        dw.evaluate(bundle, path="only")


def test_the_pretrained_network_is_not_tested_on_mnists_training_files(
    mnist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("mine").mkdir()
    for file in mnist.glob("train-*"):
        (Path("mine") / file.name).symlink_to(file)
    assert main(["evaluate", "pretrained", "--data", "mine"]) == 2
    assert "mine: the network was trained or validated on every image" in capsys.readouterr().err


def test_a_bundle_of_version_1_refuses_its_training_set_and_says_what_it_cannot_check(
    bundle: dw.Bundle, digits: Digits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = dw.open_bundle(shutil.copytree(bundle.path, tmp_path / "old"))
    (old.path / "seen.npz").unlink()
    x, y = digits
    assert dw.evaluate(old).left_out is None  # its own test set
    assert not capsys.readouterr().err
    np.savez("trained.npz", x_train=x[:1200], y_train=y[:1200])
    with pytest.raises(dw.DigitwiseError, match="trained or validated on every image"):
        dw.evaluate(old, path="trained.npz")
    np.savez("part.npz", x_test=x[:300], y_test=y[:300])
    assert dw.evaluate(old, path="part.npz").images == 300
    assert "part.npz: could not be checked for training images" in capsys.readouterr().err
    with pytest.raises(dw.DigitwiseError, match="does not record which images"):
        dw.train(start=old, path="part.npz")

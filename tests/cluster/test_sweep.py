"""Many trainings on a real cluster: the search, the seeds, and what may befall them."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import psutil
import pytest

import digitwise as dw
from digitwise.cli import _print_sweep, main
from digitwise.cluster.sweep import Interval, Sweep, _run, _training, settings_in, space_from
from tests.cluster.test_bulk import kill_one_of, processes_of
from tests.conftest import PATIENCE, running, wait_until

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)  # Ray's own
SCHEMA = Path(dw.__file__).parent / "schemas" / "sweep.json"


def _trainings() -> list[psutil.Process]:
    """The processes that train."""
    return processes_of("ImplicitFunc")


def test_a_sweep_that_is_killed_goes_on_and_keeps_the_best(
    cluster: Any, small: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "sweep"
    options = [*("--model", "fast", "--lr", "1e-5:0.5", "--samples", "3", "--seeds", "2")]
    options += ["--data", str(small), "--epochs", "3", "--cluster", cluster.address]
    options += ["--output", str(output)]
    command = [sys.executable, "-m", "digitwise", "sweep", *options]
    with running(command, stderr=subprocess.DEVNULL) as driver:  # killed at the block's end
        wait_until(lambda: any(output.glob("runs/*/bundle")), driver)
    finished = {file: file.stat().st_mtime_ns for file in output.glob("runs/*/bundle")}
    wait_until(lambda: not _trainings())

    streams = {"stderr": subprocess.DEVNULL, "stdout": subprocess.PIPE}
    with running([*command, "--json"], **streams) as driver:
        wait_until(lambda: len(_trainings()) > 1, driver)
        kill_one_of("ImplicitFunc")
        printed, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0
    document = json.loads(printed)
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert all(file.stat().st_mtime_ns == time for file, time in finished.items())

    searched = document["searched"]
    assert len(searched) == 3
    losses = [training["loss"] for training in searched if training["finished"]]
    assert losses == sorted(losses)
    assert [training["seed"] for training in document["chosen"]] == [0, 1]
    assert document["chosen"][0]["settings"] == searched[0]["settings"] == document["settings"]
    assert document["chosen"][0]["loss"] == searched[0]["loss"]
    best = min(document["chosen"], key=lambda training: training["loss"])
    bundle = dw.open_bundle(output)
    assert bundle.record["settings"]["seed"] == best["seed"]
    assert bundle.record["settings"]["recipe"]["learning_rate"] == best["settings"]["learning_rate"]
    assert bundle.record["test"]["accuracy"] == best["test_accuracy"]
    accuracies = [training["test_accuracy"] for training in document["chosen"]]
    assert document["test_accuracy"] == [np.mean(accuracies), np.std(accuracies, ddof=1)]
    rows = list(csv.DictReader((output / "results.csv").open(newline="")))
    assert [row["stage"] for row in rows] == ["search"] * 3 + ["seeds"] * 2

    changed = [*options[:-4], *options[-4:]]
    changed[changed.index("--seeds") + 1] = "3"
    assert main(["sweep", *changed]) == 2
    assert "holds another sweep" in capfd.readouterr().err


def test_a_run_is_ranked_by_its_bundle_and_one_seed_has_no_deviation(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = _run(tmp_path, {}, 0)
    bundle = dw.train("tutorial", path=small, epochs=3, minimum_steps=1, output=run.folder)
    training = _training(tmp_path, {}, 0, {})
    last = run.read_history()[-1]
    assert training.epochs == last["epoch"]
    assert training.loss == bundle.record["validation"]["loss"] != last["val_loss"]
    assert training.accuracy == bundle.record["validation"]["accuracy"]
    assert training.test_accuracy == bundle.record["test"]["accuracy"]

    swept = Sweep(tmp_path, (), (training,), bundle, 1.0)
    document = swept.to_dict()
    jsonschema.validate(document, json.loads(SCHEMA.read_text()))
    assert document["test_accuracy"] == [training.test_accuracy, None]
    _print_sweep(swept)
    printed = capsys.readouterr().out
    assert "±" not in printed
    assert f"test      {training.test_accuracy:.2%}, 1 seed\n" in printed


def test_a_space_is_every_combination_of_values_with_samples_of_intervals() -> None:
    space = space_from({"learning_rate": "1e-3:1e-1", "batch_size": "64,128", "none": None})
    assert space == {"learning_rate": Interval(1e-3, 1e-1), "batch_size": [64, 128]}
    settings = settings_in(space, 50)
    assert settings == settings_in(space, 50)
    assert [each["batch_size"] for each in settings] == [64] * 50 + [128] * 50
    rates = [each["learning_rate"] for each in settings]
    assert min(rates) >= 1e-3
    assert max(rates) <= 1e-1
    assert 0.3 < np.mean(np.array(rates) < 1e-2) < 0.7  # as likely in each tenfold
    whole = settings_in({"batch_size": Interval(32, 512)}, 20)
    assert all(isinstance(each["batch_size"], int) for each in whole)
    assert settings_in({}) == [{}]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--lr", "fast"], "--learning-rate fast: give a value, several"),
        (["--lr", "1e-2:1e-3"], "goes from low to high"),
        (["--lr", "1:2:3"], "--learning-rate 1:2:3: give a value"),
        (["--lr", "-1"], "--learning-rate -1 is no number above 0"),
        (["--batch-size", "64.5"], "--batch-size 64.5 is no whole number"),
        (["--batch-size", "0,64"], "--batch-size 0 is out of range"),
        (["--validation", "0"], "--validation 0 leaves a sweep nothing to choose by"),
        (["--model", "fats"], "did you mean fast?"),
        (["--data", "nowhere"], "nowhere"),
        (["--cluster", "127.0.0.1:1"], "no Ray cluster answers there"),
    ],
)
def test_a_sweep_that_cannot_begin_says_why(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str], small: Path
) -> None:
    data = [] if "--data" in options else ["--data", str(small)]
    assert main(["sweep", *options, *data]) == 2
    printed = capsys.readouterr().err
    assert reason in printed
    assert printed.count("\n") == 1


def test_trainings_that_fail_are_told(
    cluster: Any, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["--cluster", cluster.address]
    assert main(["sweep", "--data", str(small), "--cpus", "99", *where]) == 2
    assert "--cpus 99: the cluster has" in capsys.readouterr().err
    images, labels = np.zeros((50, 28, 28), np.uint8), np.zeros(50, np.uint8)
    np.savez(tmp_path / "one.npz", x_train=images, y_train=labels)
    data = ["--data", str(tmp_path / "one.npz"), "--seeds", "1", "--output", "another"]
    assert main(["sweep", "--model", "fast", *data, *where]) == 2
    assert "no training came to its end" in capsys.readouterr().err

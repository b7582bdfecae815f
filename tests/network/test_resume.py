"""A training that is killed or interrupted, at any moment, comes to the end it would have had."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import digitwise as dw
from digitwise.cli import main
from digitwise.network.runs import Run
from tests.conftest import PATIENCE, running, wait_until


def _start(*arguments: str) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
    """Start a command line in a process of its own."""
    return running(
        [sys.executable, "-m", "digitwise", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # What a shell runs in the background ignores Ctrl-C, and its children do, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _kill_when(
    starting: contextlib.AbstractContextManager[subprocess.Popen[str]],
    happened: Callable[[], bool],
) -> None:
    """Kill a process as soon as something has happened, and check that it died of that."""
    with starting as process:
        wait_until(happened, process)
        process.kill()
        process.communicate(timeout=PATIENCE)
        assert process.returncode == -signal.SIGKILL


def _checkpoint(run: Path) -> dict[str, np.ndarray]:
    """Reads all that a run's last checkpoint holds, but for the times."""
    file = sorted((run / "checkpoints").glob("*.npz"))[-1]
    with np.load(file) as arrays:
        content = {name: arrays[name] for name in arrays.files}
    state = json.loads(content.pop("state").tobytes())
    state.pop("seconds")
    for row in state["history"]:
        row.pop("seconds")
    return {**content, "state": np.array(json.dumps(state))}


def test_a_training_killed_in_each_of_its_phases_ends_as_the_unbroken_one(small: Path) -> None:
    # The tutorial's network has dropout and early stopping; 60 epochs are more than it uses.
    options = ("--model", "tutorial", "--data", str(small), "--epochs", "60", "--seed", "7")
    broken, unbroken = Path("broken"), Path("unbroken")
    saved = broken / "checkpoints"
    with _start("train", *options, "--output", str(unbroken)) as in_one_go:
        _kill_when(
            _start("train", *options, "--output", str(broken)), (saved / "epoch-00000.npz").is_file
        )
        assert not (broken / "bundle").exists()

        resume = ("train", "--resume", str(broken))
        _kill_when(_start(*resume), (saved / "epoch-00001.npz").is_file)
        assert not (broken / "bundle").exists()

        _kill_when(_start(*resume), lambda: any(broken.glob(".unfinished-bundle-*")))
        assert not (broken / "bundle").exists()

        with _start(*resume, "--json") as process:
            answer, messages = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, messages
        _, messages = in_one_go.communicate(timeout=PATIENCE)
        assert in_one_go.returncode == 0, messages

    ours, theirs = _checkpoint(broken), _checkpoint(unbroken)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert (ours[name] == theirs[name]).all(), name
    state = json.loads(str(ours["state"]))
    assert state["stopped"]
    assert state["epoch"] < 60
    x = np.random.default_rng(0).random((50, 28, 28, 1), np.float32)
    assert (dw.open_bundle(broken).predict(x) == dw.open_bundle(unbroken).predict(x)).all()
    assert json.loads(answer)["accuracy"] == dw.open_bundle(unbroken).record["test"]["accuracy"]
    assert not list(broken.rglob(".unfinished-*"))


@pytest.mark.parametrize("model", ["tutorial", "reader"])  # reader varies its images meanwhile
def test_ctrl_c_ends_with_130_and_says_how_to_go_on(model: str, small: Path) -> None:
    run = Path("run")
    options = ("--model", model, "--data", str(small), "--epochs", "500")
    with _start("train", *options, "--output", str(run)) as process:
        wait_until((run / "checkpoints" / "epoch-00001.npz").is_file, process)
        process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert f"--resume {run}" in messages
    assert messages.splitlines()[-1] == "digitwise: interrupted"
    assert "Traceback" not in messages


@pytest.fixture
def finished(small: Path) -> Path:
    """A run of one short epoch."""
    dw.train("tutorial", path=small, epochs=1, minimum_steps=1, output="finished")
    return Path("finished")


def test_a_network_of_ones_own_is_resumed_too(small: Path) -> None:
    code = f"""
import digitwise as dw, keras
from keras import layers
keras.utils.set_random_seed(3)
mine = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten(), layers.Dropout(0.2),
                         layers.Dense(10, activation="softmax")])
dw.train(mine, path={str(small)!r}, epochs=EPOCHS, minimum_steps=1, output=OUTPUT, validation=0)
"""
    run = Path("own")
    broken = running(
        [sys.executable, "-c", code.replace("EPOCHS", "40").replace("OUTPUT", "'own'")],
        stderr=subprocess.PIPE,
        text=True,
    )
    _kill_when(broken, (run / "checkpoints" / "epoch-00002.npz").is_file)
    dw.resume(run)
    exec(code.replace("EPOCHS", "40").replace("OUTPUT", "'unbroken'"))
    ours, theirs = _checkpoint(run), _checkpoint(Path("unbroken"))
    for name in theirs:
        assert (ours[name] == theirs[name]).all(), name


def test_a_run_that_is_being_trained_cannot_be_resumed(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Run(finished).locked():
        assert main(["train", "--resume", str(finished)]) == 2
    assert "another process is training this run" in capsys.readouterr().err


def test_a_finished_run_is_answered_at_once(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--resume", str(finished)]) == 0
    printed = capsys.readouterr()
    assert "the run is finished" in printed.err
    assert "accuracy" in printed.out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "3"], "the run has epochs 1, not 3"),
        (["--seed", "3", "--model", "fast"], "architecture tutorial, not fast; seed 0, not 3"),
        (["--output", "elsewhere"], "--output does not go with --resume"),
    ],
)
def test_other_settings_than_the_runs_are_refused(
    finished: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    capsys.readouterr()
    assert main(["train", "--resume", str(finished), *options]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert len(printed.err.splitlines()) == 1


def test_changed_data_and_damaged_checkpoints_are_refused(
    finished: Path, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.rmtree(finished / "bundle")
    damaged = sorted((finished / "checkpoints").iterdir())[-1]
    damaged.write_bytes(b"no checkpoint")
    assert main(["train", "--resume", str(finished)]) == 2
    assert str(damaged) in capsys.readouterr().err.splitlines()[-1]

    settings = json.loads((finished / "settings.json").read_text())
    settings["digests"]["x_train"] = "0" * 64
    (finished / "settings.json").write_text(json.dumps(settings))
    assert main(["train", "--resume", str(finished)]) == 2
    assert "the data has changed" in capsys.readouterr().err

    for name, value in (("epochs", "12"), ("precision", "float99"), ("seed", -1), ("path", 5)):
        changed = json.dumps({**settings, name: value})
        (finished / "settings.json").write_text(changed)
        assert main(["train", "--resume", str(finished)]) == 2
        assert name in capsys.readouterr().err

    (finished / "settings.json").write_text("{}")
    assert main(["train", "--resume", str(finished)]) == 2
    assert "do not fit this Digitwise" in capsys.readouterr().err

    assert main(["train", "--resume", "nowhere"]) == 2
    assert "not a run" in capsys.readouterr().err
    assert os.listdir() == ["finished"]

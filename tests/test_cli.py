"""The command line: what it prints, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import digitwise as dw
from digitwise.cli import main
from digitwise.network import training
from tests.conftest import full_disk

SCHEMAS = Path(dw.__file__).parent / "schemas"
Digits = tuple[np.ndarray, np.ndarray]


def _answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """Runs a command with --json and returns its document, which must be all of stdout."""
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def _validate(document: dict, schema: str) -> None:
    jsonschema.validate(document, json.loads((SCHEMAS / f"{schema}.json").read_text()))


def _refusal(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    """Runs a command that is refused, and returns its one line."""
    capsys.readouterr()
    assert main(list(arguments)) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1, printed.err
    return printed.err


# What it prints


def test_evaluate_prints_a_table_or_json_and_draws_figures(
    bundle: dw.Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    document = _answer(capsys, "evaluate", str(bundle.path), "--output", "figures")
    _validate(document, "evaluate")
    for figure in document["figures"]:
        with Image.open(figure) as image:
            assert image.width > 400
    assert document["accuracy"] == bundle.record["test"]["accuracy"]
    assert main(["evaluate", str(bundle.path)]) == 0
    table = capsys.readouterr().out
    assert f"accuracy {document['accuracy']:.2%} of 300 images" in table
    assert "precision" in table


def test_datasets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    _validate(_answer(capsys, "datasets", "list"), "datasets")
    assert main(["datasets", "list"]) == 0
    assert "Kuzushiji" in capsys.readouterr().out


def test_training_on_mnist_reaches_99_percent_after_one_epoch(
    mnist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", "fast", "--epochs", "1", "--seed", "0", "--output", "run")
    document = _answer(capsys, "train", "--data", str(mnist), *options)
    _validate(document, "train")
    assert document["dataset"] == "mnist"
    assert document["accuracy"] >= 0.99
    assert (Path("run") / "figures" / "learning-curves.png").is_file()


def test_fashion_mnist_trains_with_the_same_command(
    fashion_mnist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--model", "fast", "--epochs", "1", "--output", "run")
    document = _answer(capsys, "train", "--data", str(fashion_mnist), *options)
    assert document["dataset"] == "fashion-mnist"
    assert document["accuracy"] > 0.84
    assert dw.open_bundle("run").classes[0] == "T-shirt/top"


def test_a_folder_of_pngs_trains_with_the_same_command(
    digits: Digits, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "FEWEST_SHOWN", 120 * 256)
    x, y = digits
    for number, (image, label) in enumerate(zip(x[:900], y[:900], strict=True)):
        folder = Path("mine") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 - image).save(folder / f"{number}.png")
    document = _answer(capsys, "train", "--model", "fast", "--data", "mine", "--output", "run")
    assert document["dataset"] == "mine"
    assert document["images"] == 150
    assert document["accuracy"] > 0.8
    assert main(["evaluate", "run", "--data", "mine"]) == 0
    assert "of 150 images" in capsys.readouterr().out


def test_the_default_run_folders_are_numbered(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "FEWEST_SHOWN", 1)
    Path("runs/small-fast-1").mkdir(parents=True)
    document = _answer(capsys, "train", "--model", "fast", "--data", str(small))
    assert document["bundle"] == "runs/small-fast-2/bundle"


# How it refuses


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--model", "fsat"], "unknown model 'fsat': did you mean fast?"),
        (["train", "--dataset", "mnits"], "unknown dataset 'mnits': did you mean mnist?"),
        (["train", "--epochs", "0"], "--epochs 0 is out of range: 1 to"),
        (["train", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["train", "--batch-size", "-5"], "--batch-size -5"),
        (["train", "--seed", "99999999999"], "--seed 99999999999"),
        (["train", "--precision", "float16"], "float16"),
        (["train", "--data", "nowhere"], "nowhere: no such file or folder"),
        (["train", "--output", "."], "exists: choose another --output"),
        (["train", "--epoch", "3"], "--epochs"),
        (["train", "--resume", "nowhere"], "nowhere: not a run"),
        (["evaluate"], "Missing argument"),
        (["read", "--no-such"], "(see digitwise read --help)"),
        (["evaluate", "nowhere"], "nowhere: no such bundle"),
        (["evaluate", "pretrained", "--data", "x"], "x: no such file or folder"),
        (["datasets", "fetch", "minst"], "did you mean mnist?"),
        (["trian"], "train"),
        (["train", "--data", ""], "an argument is empty"),
        (["read", "nowhere.png", "--bundle", "nowhere"], "nowhere: no such bundle"),
        (["--nonsense"], "--nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_ends_with_2_and_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in _refusal(capsys, *arguments)
    assert not Path("runs").exists()


def test_missing_permission_ends_with_3(
    small: Path, bundle: dw.Bundle, no_permission: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = no_permission / "run"
    line = _refusal(capsys, "train", "--output", str(target), status=3)
    assert f"cannot write {target}: no permission" in line
    drawn = no_permission / "figures"
    line = _refusal(capsys, "evaluate", str(bundle.path), "--output", str(drawn), status=3)
    assert "Permission denied" in line


def test_a_full_disk_ends_with_3_and_keeps_what_was_there(
    bundle: dw.Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(bundle.path), "--output", "figures"]) == 0
    before = {file: file.read_bytes() for file in Path("figures").iterdir()}
    with full_disk():
        line = _refusal(capsys, "evaluate", str(bundle.path), "--output", "figures", status=3)
    assert "cannot write figures/confusion.png: File too large" in line
    assert {file: file.read_bytes() for file in Path("figures").iterdir()} == before


def test_a_disk_that_fills_while_training_ends_with_3_and_can_be_resumed(small: Path) -> None:
    limited = (
        "import resource, sys; from digitwise.cli import main; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (700_000, -1)); sys.exit(main(sys.argv[1:]))"
    )
    train = ["train", "--model", "fast", "--data", str(small), "--epochs", "1", "--output", "run"]
    done = subprocess.run(
        [sys.executable, "-c", limited, *train], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "File too large" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(Path("run").rglob(".unfinished-*"))
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["epoch-00000.npz"]
    assert main(["train", "--resume", "run"]) == 0


# What reaches the screen


def test_none_of_tensorflows_log_reaches_the_screen_unless_asked_for(small: Path) -> None:
    code = "import digitwise.network.backend"
    quiet = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert quiet.stderr == ""
    asked = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    verbose = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**asked, "DIGITWISE_VERBOSE": "1"},  # an earlier test may have set the level
    )
    assert "TensorFlow" in verbose.stderr or sys.platform != "linux"


def test_the_offline_sample_trains_with_a_notice_and_nothing_else_on_stderr() -> None:
    command = "train --model fast --epochs 1 --output run --json"
    done = subprocess.run(
        [sys.executable, "-m", "digitwise", *command.split()],
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(done.stdout)
    assert document["sample"]
    assert document["accuracy"] >= 0.96
    lines = done.stderr.splitlines()
    assert lines[0].startswith("notice: using the built-in sample")
    assert "10 epochs instead of 1" in lines[1]
    assert lines[2].startswith("training 'fast' on 3,667 images")
    assert len(lines) == 3, lines

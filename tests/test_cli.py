"""The command line: what it prints, and how it ends."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import digitwise as dw
from digitwise.cli import main
from digitwise.network import training
from tests.conftest import PATIENCE, full_disk
from tests.test_promises import save_page

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


# How it ends early


@pytest.fixture
def reading(digits: Digits) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `digitwise read` on a page and on a pipe, at which it waits for the second picture."""
    save_page(digits, "first.png")
    os.mkfifo("second.png")
    processes = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "digitwise", "read", "first.png", "second.png", *options]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, text=True, **pipes))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def _waiting_at(pipe: str) -> Iterator[None]:
    """Wait until a process reads from a named pipe, and keep it waiting there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            writer = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)  # fails until somebody reads
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    time.sleep(0.5)  # a signal just before it blocks would be handled only after it
    yield
    os.close(writer)


@pytest.mark.parametrize("option", ["", "--csv", "--jsonl"])
def test_results_are_printed_as_they_are_read_and_ctrl_c_ends_with_130(
    option: str, reading: Callable[..., subprocess.Popen[str]]
) -> None:
    process = reading(*option.split())
    assert process.stdout is not None
    lines = [process.stdout.readline()]  # printed while the second picture is waited for
    if option != "--jsonl":
        lines.append(process.stdout.readline())
    assert "first.png" in "".join(lines)
    with _waiting_at("second.png"):
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert rest == ""
    assert err.splitlines() == ["stopped: 1 of 2 inputs were read", "digitwise: interrupted"]
    if option == "--jsonl":
        assert json.loads(lines[0])["path"] == "first.png"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_json_is_one_valid_document_when_it_is_interrupted(
    number: signal.Signals, reading: Callable[..., subprocess.Popen[str]]
) -> None:
    process = reading("--json", "--output", "drawn")
    with _waiting_at("second.png"):
        process.send_signal(number)
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    document = json.loads(out)
    _validate(document, "read")
    assert not document["complete"]
    assert [image["path"] for image in document["images"]] == ["first.png"]


def test_a_closed_pipe_ends_quietly(
    reading: Callable[..., subprocess.Popen[str]], digits: Digits
) -> None:
    process = reading()
    assert process.stdout is not None
    assert process.stdout.readline() == "first.png:\n"
    process.stdout.close()  # as head -1 does
    Path("second.png").write_bytes(Path("first.png").read_bytes())
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(PATIENCE) == 141


def test_a_closed_pipe_leaves_the_streams_of_the_process_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    first, pipe = os.fstat(1), os.fstat(writer)
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["datasets", "list"]) == 141
        assert sys.stdout is stream
        assert os.path.samestat(os.fstat(writer), pipe)
        assert stream.errors == "strict"
    assert os.path.samestat(os.fstat(1), first)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (SystemExit(5), 5, None),
        (SystemExit(), 0, None),
        (SystemExit("no"), 1, "digitwise: no"),
        (RuntimeError("a fault\nof ours"), 70, "internal error: RuntimeError: a fault of ours"),
        (MemoryError(), 3, "digitwise: out of memory"),
    ],
    ids=repr,
)
def test_any_exception_in_a_command_has_its_exit_status_and_one_line(
    error: BaseException,
    status: int,
    line: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("digitwise.data.loading.in_data_folder", fail)
    monkeypatch.delenv("DIGITWISE_VERBOSE", raising=False)
    assert main(["datasets", "list"]) == status
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == (0 if line is None else 1)
    assert line is None or line in printed.err
    monkeypatch.setenv("DIGITWISE_VERBOSE", "1")
    assert main(["datasets", "list"]) == status
    assert ("Traceback" in capsys.readouterr().err) == (status == 70)


def test_a_full_disk_keeps_what_was_read(
    digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(2):
        save_page(digits, f"{number}.png", 6 * number)
    with full_disk():
        assert main(["read", "0.png", "1.png", "--output", "drawn", "--csv"]) == 3
    printed = capsys.readouterr()
    assert [line[:10] for line in printed.out.splitlines()[1:]] == ["0.png,1,1,", "1.png,1,1,"]
    assert printed.err.splitlines() == [
        f"digitwise: cannot write drawn/{number}.png: File too large" for number in range(2)
    ]


def test_a_full_stdout_ends_with_3_and_one_line(digits: Digits) -> None:
    save_page(digits, "page.png")
    command = [sys.executable, "-m", "digitwise", "read", "page.png"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert "No space left" in done.stderr


@pytest.mark.parametrize("option", ["", "--csv", "--jsonl", "--json"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_name_can_be_printed_in_any_encoding(
    option: str, encoding: str, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [os.fsdecode(b"scan-\xff.png"), "七.png", "missing-\u2019.png"]
    for name in names[:2]:
        save_page(digits, name)
    with Path("out").open("w", encoding=encoding, newline="") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["read", *names, "--output", "drawn", *option.split()]) == 1
    text = Path("out").read_text(encoding)
    assert "scan-\\xff.png" in text.replace("\\\\", "\\")
    assert sorted(os.listdir("drawn")) == sorted(names[:2])
    if option == "--json":
        paths = [image["path"] for image in json.loads(text)["images"]]
        assert paths == ["scan-\\xff.png", *names[1:]]


def test_a_page_about_a_picture_whose_name_is_not_utf8(
    digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    name = os.fsdecode(b"scan-\xff.png")
    save_page(digits, name, count=1)
    document = _answer(capsys, "explain", name, "--output", "why")
    assert document["path"] == "scan-\\xff.png"
    assert "scan-\\xff.png" in Path("why/index.html").read_text(encoding="utf-8")


def test_long_names_are_drawn_under_names_that_fit(digits: Digits) -> None:
    Path("a").mkdir()
    long = f"{'x' * 251}.bmp", f"{'x' * 240}.png"
    for name in long:
        save_page(digits, name)
        save_page(digits, Path("a") / name)
    assert main(["read", *long, *(f"a/{name}" for name in long), "--output", "drawn"]) == 0
    drawn = sorted(os.listdir("drawn"))
    expected = ["x" * 251 + ".png", "x" * 249 + "-2.png", "x" * 240 + ".png", "x" * 240 + "-2.png"]
    assert drawn == sorted(expected)
    assert main(["read", *long, *(f"a/{name}" for name in long), "--output", "drawn"]) == 0
    assert sorted(os.listdir("drawn")) == drawn

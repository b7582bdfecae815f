"""The promises to a user, each checked across all commands."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

import digitwise as dw
from digitwise.cli import main
from digitwise.insight import figures
from digitwise.storage import MARK, is_marked

SCHEMAS = Path(dw.__file__).parent / "schemas"
Digits = tuple[np.ndarray, np.ndarray]
FOREIGN = b"not from Digitwise"


def save_page(digits: Digits, path: Path | str, first: int = 0, count: int = 6) -> None:
    """Save a page with some digits in a row."""
    page = np.full((120, 400), 255, np.uint8)
    for place, image in enumerate(digits[0][first : first + count]):
        page[40:68, 40 + 52 * place : 68 + 52 * place] = 255 - image
    Image.fromarray(page).save(path)


@pytest.fixture
def page(digits: Digits) -> Path:
    save_page(digits, "page.png", count=1)
    return Path("page.png")


def _contents(folder: Path = Path()) -> dict[Path, bytes]:
    """Return every file below a folder with its bytes."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# Output never destroys input

# A command that writes to a path that the user gives → the files it writes there. B is a bundle.
WRITERS = {
    "read page.png --output out": ["out/page.png"],
    "evaluate B --output out": ["out/confusion.png", "out/calibration.png", "out/mistakes.png"],
    "explain page.png --output out": ["out/index.html", "out/picture.png"],
    "report B --output out/mine.html": ["out/mine.html"],
    "export B --output out/mine.onnx": ["out/mine.onnx"],
}
# Commands that only fill a new folder, or one of their own, and so take no --force.
FILLERS = {
    "train --model fast --output out": ["out/settings.json", "out"],
    "sweep --model fast --output out": ["out/results.csv", "out/bundle/bundle.json", "out"],
    "read page.png --cluster local --output out": [
        "out/part-000000.parquet",
        "out/_job/job.json",
        "out/_job/attempts/notes",
        "out",
    ],
    "serve --collect out": ["out"],
}


def _arguments(command: str, bundle: dw.Bundle) -> list[str]:
    return [str(bundle.path) if word == "B" else word for word in command.split()]


@pytest.mark.parametrize(
    ("command", "target"),
    [(command, target) for command, files in (WRITERS | FILLERS).items() for target in files],
)
def test_a_file_that_digitwise_did_not_write_is_kept(
    command: str, target: str, page: Path, bundle: dw.Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_bytes(FOREIGN)
    before = _contents()
    status = main(_arguments(command, bundle))
    printed = capsys.readouterr()
    # A job's folder cannot be made where a file is, which the file system says first.
    assert status == (3 if "--cluster" in command and target == "out" else 2)
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1, printed.err
    assert "out" in printed.err
    assert _contents() == before


@pytest.mark.parametrize(
    "command",
    [command for command in WRITERS if "report" not in command],  # see insight/test_report.py
)
def test_outputs_of_earlier_runs_are_replaced(command: str, page: Path, bundle: dw.Bundle) -> None:
    is_export = command.startswith("export")  # a model is not a drawing: --force replaces it
    earlier = FOREIGN if is_export else MARK.encode()
    Path("out").mkdir()
    targets = [Path(file) for file in WRITERS[command]]
    for target in targets:
        target.write_bytes(earlier)
    assert main([*_arguments(command, bundle), *(["--force"] if is_export else [])]) == 0
    for target in targets:
        assert target.read_bytes() != earlier
        assert is_marked(target) or is_export


@pytest.mark.parametrize("command", [word for word in WRITERS if word[:4] in ("read", "eval")])
def test_force_replaces_a_foreign_file(command: str, page: Path, bundle: dw.Bundle) -> None:
    Path("out").mkdir()
    targets = [Path(file) for file in WRITERS[command]]
    for target in targets:
        target.write_bytes(FOREIGN)
    assert main([*_arguments(command, bundle), "--force"]) == 0
    assert all(is_marked(target) for target in targets)


INPUTS_AS_OUTPUTS = {
    "read page.png --output .": "page.png",
    "read page.png more/page.jpg --output more": "page.png",
    "read . --output .": "picture.png",
    "explain picture.png --output .": "picture.png",
    "explain page.png --neighbours data --output data": "data/picture.png",
    "evaluate B --data data --output data": "data/confusion.png",
    "report copy --output copy/bundle.json": "copy/bundle.json",
    "report B --data data --output data/mine.html": "data/mine.html",
    "export copy --output copy/model.onnx": "copy/model.onnx",
}


@pytest.mark.parametrize("command", INPUTS_AS_OUTPUTS)
def test_an_input_is_kept_even_with_force(
    command: str,
    page: Path,
    bundle: dw.Bundle,
    small: Path,
    digits: Digits,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("more").mkdir()
    save_page(digits, "more/page.jpg")
    save_page(digits, "picture.png")
    os.symlink(Path("page.png").absolute(), "more/page.png")
    for copy, original in (("copy", bundle.path), ("data", small)):
        Path(copy).mkdir()
        for file in original.iterdir():
            (Path(copy) / file.name).write_bytes(file.read_bytes())
    for name in ("picture.png", "confusion.png", "mine.html"):
        Path("data", name).write_bytes(FOREIGN)
    before = _contents()
    assert main([*_arguments(command, bundle), "--force"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "is an input of this call" in printed.err
    assert Path(INPUTS_AS_OUTPUTS[command]).name in printed.err
    assert _contents() == before


@pytest.mark.parametrize("kind", ["reading", "explanation", "figure", "report"])
def test_python_calls_keep_files_as_commands_do(kind: str, page: Path, bundle: dw.Bundle) -> None:
    reading = dw.Reader().read(page)
    target = Path("out") / ("index.html" if kind == "explanation" else "mine.png")
    save: dict[str, Callable[[bool], object]] = {
        "reading": lambda force: reading.save(target, force=force),
        "explanation": lambda force: dw.explain(page).save(target.parent, force=force),
        "figure": lambda force: figures.save(figures.Figure(), target, force=force),
        "report": lambda force: dw.report(bundle, target, force=force),
    }
    Path("out").mkdir()
    target.write_bytes(FOREIGN)
    with pytest.raises(dw.DigitwiseError, match="exists: choose another"):
        save[kind](False)
    assert _contents(Path("out")) == {target: FOREIGN}
    if kind == "report":
        return  # takes a while
    save[kind](True)
    assert is_marked(target)
    if kind == "reading":
        original = page.read_bytes()
        with pytest.raises(dw.DigitwiseError, match="is an input"):
            reading.save(page, force=True)
        assert page.read_bytes() == original


# Every input is answered

FORMATS = ["text", "--csv", "--jsonl", "--json", "Parquet"]


def _answers(form: str, out: str, err: str) -> dict[str, str]:
    """Return each input's text, or its error, as a command reported it."""
    if form == "text":
        errors = [
            line.split(": ", 1) for line in err.splitlines() if line.startswith("digitwise: ")
        ]
        found = {line.split(": ")[0]: line for _, line in errors}
        path = ""
        for line in out.splitlines():
            path = line[:-1] if line.endswith(":") else path
            found.setdefault(path, "")
            found[path] += "" if line.endswith(":") else line
        return found
    if form == "--csv":
        rows = list(csv.DictReader(out.splitlines()))
        assert len(rows) == len({row["path"] for row in rows})
        return {row["path"]: row["error"] or row["text"] for row in rows}
    if form == "Parquet":
        import pyarrow.parquet as pq

        rows = pq.read_table("read").to_pylist()
        assert len(rows) == len({row["path"] for row in rows})
        return {row["path"]: row["error"] or row["text"] for row in rows}
    documents = [json.loads(line) for line in out.splitlines()] if form == "--jsonl" else None
    if documents is None:
        document = json.loads(out)
        jsonschema.validate(document, json.loads((SCHEMAS / "read.json").read_text()))
        assert document["complete"]
        documents = document["images"]
    assert len(documents) == len({document["path"] for document in documents})
    return {
        document["path"]: document.get("error")
        or "".join(line["text"] for line in document["lines"])
        for document in documents
    }


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # Ray's
def test_every_input_has_its_result_or_its_error(
    form: str, digits: Digits, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = Path("in")
    folder.mkdir()
    save_page(digits, folder / "page.png")
    save_page(digits, os.fsdecode(b"in/scan-\xff.png"))
    save_page(digits, folder / "scan[1].png")
    save_page(digits, folder / f"{'x' * 240}.png")
    Image.new("L", (200, 100), 255).save(folder / "blank.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "broken.png").write_bytes((folder / "page.png").read_bytes()[:300])
    (folder / "notes.txt").write_text("no picture")
    files = sorted(str(file.absolute()) for file in folder.iterdir())
    options = {"text": [], "Parquet": ["--cluster", "local", "--output", "read"]}
    assert main(["read", *files, *options.get(form, [form])]) == 1
    printed = capfd.readouterr()
    answers = _answers(form, printed.out, printed.err)
    names = [file.encode("utf-8", "surrogateescape") for file in files]
    assert sorted(answers) == sorted(name.decode("utf-8", "backslashreplace") for name in names)
    expected = "".join(str(label) for label in digits[1][:6])
    here = folder.absolute()
    for name in ("page.png", "scan-\\xff.png", "scan[1].png", f"{'x' * 240}.png"):
        assert answers.pop(f"{here}/{name}") == expected
    assert answers.pop(f"{here}/blank.png") == ""
    reasons = {
        "empty.png": "empty",
        "broken.png": "cut short or damaged",
        "notes.txt": "not an image",
    }
    assert len(answers) == len(reasons)
    for name, reason in reasons.items():
        assert reason in answers[f"{here}/{name}"]
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("form", ["text", "--csv", "--jsonl", "--json"])
def test_drawings_of_earlier_runs_are_not_read_again(
    form: str, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for number in range(3):
        save_page(digits, f"in/{number}.png", 6 * number)
    command = ["read", "in", "--output", "in/drawn", *([] if form == "text" else [form])]
    assert main(command) == 0
    first = capsys.readouterr()
    assert main(command) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert "notice: 3 drawings by Digitwise skipped" in second.err
    assert "notice" not in first.err
    assert main(["read", "in/drawn/0.png"]) == 0
    assert "notice: in/drawn/0.png is a drawing by Digitwise" in capsys.readouterr().err


# No training image is a test image


def test_training_images_are_not_counted_as_test_images(
    bundle: dw.Bundle, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = digits
    np.savez("fresh.npz", x_test=x[1500:1700], y_test=y[1500:1700])
    np.savez("mixed.npz", x_test=x[1000:1700], y_test=y[1000:1700])  # trained on the first 1,200
    assert main(["evaluate", str(bundle.path), "--data", "fresh.npz", "--json"]) == 0
    fresh = json.loads(capsys.readouterr().out)
    assert fresh["left_out"] == {"trained": 0, "validated": 0}
    assert main(["evaluate", str(bundle.path), "--data", "mixed.npz", "--json"]) == 0
    printed = capsys.readouterr()
    mixed = json.loads(printed.out)
    jsonschema.validate(mixed, json.loads((SCHEMAS / "evaluate.json").read_text()))
    assert mixed["images"] == 500
    assert sum(mixed["left_out"].values()) == 200
    assert mixed["left_out"]["validated"] > 0
    assert "left out 200 of 700 images: the network was trained on" in printed.err
    np.savez("others.npz", x_test=x[1200:1700], y_test=y[1200:1700])
    assert mixed["accuracy"] == dw.evaluate(bundle, path="others.npz").accuracy


def test_training_images_alone_are_refused_by_every_command_that_tests(
    bundle: dw.Bundle, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("trained.npz", x_train=digits[0][:1200], y_train=digits[1][:1200])
    for command in ("evaluate", "report"):
        assert main([command, str(bundle.path), "--data", "trained.npz"]) == 2
        printed = capsys.readouterr()
        assert not printed.out
        assert printed.err.count("\n") == 1
        assert "trained.npz: the network was trained or validated on every image" in printed.err

"""The command line: parse, call, print. Rooms are entered only when a command needs them."""

import codecs
import contextlib
import importlib.util
import io
import itertools
import json
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from digitwise.errors import (
    DigitwiseError,
    MachineError,
    MissingClassWarning,
    SampleDataWarning,
    machine_error,
    missing_extra,
)
from digitwise.messages import (
    printable,
    say,
    shown_progress,
    sigterm_as_interrupt,
    with_progress,
)
from digitwise.storage import LONGEST_NAME, check_output, is_marked, protected

if TYPE_CHECKING:
    from digitwise.bundle import Bundle
    from digitwise.cluster.sweep import Sweep
    from digitwise.data.formats import LabeledImages
    from digitwise.insight.explanation import Explanation
    from digitwise.network.evaluation import Evaluation
    from digitwise.reading.reader import Reader, Reading

_TEST_FIGURES = ("images", "accuracy", "confidence_interval", "loss", "calibration_error")
_CSV_COLUMNS = ("path", "page", "line", "text", "least_confidence", "others", "error")
_PAGED_SUFFIXES = (".pdf", ".tif", ".tiff")
SOME_FAILED = 1
INTERNAL_ERROR = 70
INTERRUPTED = 130
PIPE_CLOSED = 141  # what a shell reports for a process that SIGPIPE ended

app = typer.Typer(
    name="digitwise",
    help="From the five-step Keras MNIST tutorial to a recognizer of your own handwriting.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
datasets_app = typer.Typer(help="The datasets known by name.", no_args_is_help=True)
app.add_typer(datasets_app, name="datasets")


class Normalize(StrEnum):
    """When images are converted to MNIST's form."""

    auto = "auto"
    always = "always"
    never = "never"


class Precision(StrEnum):
    """What a training may compute in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"


class Form(StrEnum):
    """What a network may be written as."""

    onnx = "onnx"
    litert = "litert"
    openvino = "openvino"
    saved_model = "saved-model"


JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document to stdout and nothing else.")
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", help="Show the log of TensorFlow and what lies below it.")
]
ForceOption = Annotated[
    bool,
    typer.Option(
        "--force", help="Overwrite files that Digitwise did not write, but never an input."
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(help="The dataset's name: see digitwise datasets list.", show_default=False),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        help="Your own data: a folder of IDX files, an .npz, a .csv, or a folder of images "
        "per class.",
        show_default=False,
        readable=False,  # so that a missing permission is told as such
    ),
]
SampleOption = Annotated[
    bool,
    typer.Option(
        "--sample/--no-sample", help="Whether the built-in sample may stand in for MNIST."
    ),
]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    for package in ("matplotlib", "tensorflow"):
        logging.getLogger(package).setLevel(logging.ERROR)
    if version:
        from digitwise import __version__

        print(f"digitwise {__version__}")
        raise typer.Exit


@app.command()
def train(
    model: Annotated[
        str | None,
        typer.Option(
            help="tutorial, lenet5, fast, accurate, small or reader.", show_default="tutorial"
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Continue from this bundle, or 'pretrained', on your own digits in --data, mixed "
            "with MNIST.",
            show_default=False,
        ),
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="A bundle whose answers are learned, too; several teach by their mean.",
            show_default=False,
        ),
    ] = None,
    dataset: DatasetOption = None,
    data: DataOption = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            help="Passes over the training images; below 1, the share shown once.",
            show_default="recipe's",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Images a step.", show_default="recipe's")
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(help="The highest of the schedule.", show_default="recipe's"),
    ] = None,
    validation: Annotated[
        int | None,
        typer.Option(
            help="Training images held out to choose by; 0 trains on all of them.",
            show_default="a twelfth, at most 5,000",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides the run.", show_default="0")] = None,
    fonts: Annotated[
        Path | None,
        typer.Option(
            help="A folder of handwriting fonts to train --model reader on.",
            show_default="fonts/ in DIGITWISE_DATA",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder, which must not exist.",
            show_default="runs/<dataset>-<model>-<n>",
        ),
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="auto, float32 or bfloat16: what to compute in; weights are always float32.",
            show_default="auto",
            metavar="<name>",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue the run in this folder; takes no other option but --json.",
            show_default=False,
        ),
    ] = None,
    sample: SampleOption = True,
    verbose: VerboseOption = False,
    json_output: JsonOption = False,
) -> None:
    """Load, preprocess, train and evaluate; leaves a bundle in the run's folder."""
    _set_verbose(verbose)
    from digitwise.network import process, training

    process.keep_freed_memory()
    if resume is not None:
        if output is not None:
            raise DigitwiseError("--output does not go with --resume: the run has its folder")
        if start is not None:
            raise DigitwiseError("--from does not go with --resume: the run has its start")
        if teacher:
            raise DigitwiseError("--teacher does not go with --resume: the run has its teachers")
        if fonts is not None:
            raise DigitwiseError("--fonts does not go with --resume: the run has its fonts")
        asked = {
            "architecture": model,
            "dataset": dataset,
            "path": None if data is None else str(data.absolute()),
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "validation": validation,
            "seed": seed,
            "precision": None if precision in (None, Precision.auto) else precision.value,
        }
        bundle = training.resume(resume, asked)
    else:
        if start is not None and model is not None:
            raise DigitwiseError("--model does not go with --from: the bundle brings its network")
        bundle = training.train(
            model or "tutorial",
            start=start,
            teachers=teacher or (),
            dataset=dataset,
            path=data,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            fonts=fonts,
            validation=validation,
            seed=0 if seed is None else seed,
            output=output,
            precision=(precision or Precision.auto).value,
            allow_sample=sample,
        )
    _draw_run(bundle)
    _print_training(bundle, json_output)


@app.command()
def evaluate(
    bundle: Annotated[str, typer.Argument(help="A bundle, the run that left it, or 'pretrained'.")],
    dataset: DatasetOption = None,
    data: DataOption = None,
    output: Annotated[
        Path | None, typer.Option(help="A folder for the figures, as PNG.", show_default=False)
    ] = None,
    force: ForceOption = False,
    normalize: Annotated[
        Normalize,
        typer.Option(
            help="auto, always or never: convert images to MNIST's form first.", metavar="<name>"
        ),
    ] = Normalize.auto,
    sample: SampleOption = True,
    json_output: JsonOption = False,
) -> None:
    """Test a bundle on images that it was not trained on."""
    from digitwise.bundle import open_classifier
    from digitwise.network.evaluation import evaluate as evaluate_bundle

    opened = open_classifier(bundle)
    drawn: list[Path] = []
    with protected([opened.path, data]):
        if output is not None:
            _check_folder(output)
            from digitwise.insight import figures  # refuses first where matplotlib is missing

            for name in figures.EVALUATION:
                check_output(output / name, force=force)
        evaluation = evaluate_bundle(
            opened, dataset=dataset, path=data, normalize=normalize.value, allow_sample=sample
        )
        if output is not None:
            drawn = figures.save_evaluation(evaluation, output, force=force)
    if json_output:
        _print_json(
            {
                "bundle": str(opened.path),
                "seconds": opened.record.get("seconds"),
                **evaluation.to_dict(),
                "figures": [str(path) for path in drawn],
            }
        )
        return
    _print_evaluation(evaluation)
    for path in drawn:
        print(printable(path))


@app.command()
def export(
    bundle: Annotated[str, typer.Argument(help="A bundle, the run that left it, or 'pretrained'.")],
    form: Annotated[Form, typer.Option("--format", help="What to write.")] = Form.onnx,
    int8: Annotated[
        bool, typer.Option("--int8", help="In eight bits, a quarter of the size; onnx and litert.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file or folder to write; an existing one is refused.",
            show_default="the network's name with the format's ending",
        ),
    ] = None,
    force: ForceOption = False,
    verbose: VerboseOption = False,
    json_output: JsonOption = False,
) -> None:
    """Write a bundle's network in another form, compared with the Keras model."""
    _set_verbose(verbose)
    from digitwise.bundle import open_classifier

    opened = open_classifier(bundle)  # before Keras is imported
    from digitwise.network.exporting import export as export_bundle

    exported = export_bundle(opened, form.value, output, int8=int8, force=force)
    if json_output:
        _print_json({"bundle": str(opened.path), **exported.to_dict()})
        return
    alike = f"{exported.same_class:.2%} of {exported.images:,} images"
    print(f"{printable(exported.path)}, {exported.bytes / 1000:,.0f} kB")
    print(f"same class as Keras on {alike} ({exported.source})")
    print(f"probabilities differ by at most {exported.difference:.1e}")
    if exported.accuracy is not None:
        print(f"accuracy {exported.accuracy:.2%}, Keras's {exported.keras_accuracy:.2%}")


@app.command()
def read(
    images: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, and folders of them; with --cluster also globs, Parquet files and "
            "addresses."
        ),
    ],
    bundle: Annotated[
        str, typer.Option(help="What to read with: a bundle, or the run that left it.")
    ] = "pretrained",
    output: Annotated[
        Path | None,
        typer.Option(
            help="A folder for the pictures with boxes drawn; with --cluster for Parquet files.",
            show_default=False,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            help="Read on a Ray cluster: 'local', 'auto', or host:port of its head.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that read.", min=1, show_default="the cluster's CPUs"),
    ] = None,
    shard_size: Annotated[
        int | None, typer.Option(help="Inputs a Parquet file.", min=1, show_default="500")
    ] = None,
    force: ForceOption = False,
    csv_output: Annotated[
        bool, typer.Option("--csv", help="Print CSV to stdout, a row a line of digits.")
    ] = False,
    jsonl_output: Annotated[
        bool,
        typer.Option(
            "--jsonl", help="Print JSON Lines to stdout: one document per page, as it is read."
        ),
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Read handwritten digits out of pictures."""
    formats = {"--csv": csv_output, "--jsonl": jsonl_output, "--json": json_output}
    chosen = [option for option, is_chosen in formats.items() if is_chosen]
    if len(chosen) > 1:
        raise DigitwiseError(f"{' and '.join(chosen)}: choose one")
    if cluster is not None:
        if csv_output or jsonl_output:
            raise DigitwiseError(
                f"{chosen[0]} does not go with --cluster, which writes Parquet files"
            )
        if force:
            raise DigitwiseError("--force does not go with --cluster, which fills its own folder")
        if output is None:
            raise DigitwiseError("--cluster needs --output: a folder for the Parquet files")
        _read_in_bulk(images, output, cluster, bundle, workers, shard_size, json_output)
        return
    if workers is not None or shard_size is not None:
        option = "--workers" if workers is not None else "--shard-size"
        raise DigitwiseError(f"{option} goes with --cluster alone")
    if output is not None:
        _check_folder(output)
    from digitwise.reading.reader import Reader

    reader = Reader(bundle)
    files = _picture_files([Path(image) for image in images])
    with protected([*files, reader.bundle.path]), sigterm_as_interrupt():
        drawings = None if output is None else _Drawings(output, files, force=force)
        status = _read_files(reader, files, chosen[0] if chosen else "", drawings)
    if status:
        raise typer.Exit(status)


def _read_files(
    reader: "Reader", files: Sequence[Path], form: str, drawings: "_Drawings | None"
) -> int:
    """Read pictures, and print what is on each page as soon as it is read.

    Args:
        reader: what to read with.
        files: the pictures.
        form: "--csv", "--json", "--jsonl", or "" for text.
        drawings: where to save drawings; None for no drawings.

    Returns:
        The exit status.
    """
    documents: list[dict[str, Any]] = []
    status, done, is_complete = 0, 0, False
    try:
        if form == "--csv":
            _print_csv_rows(_CSV_COLUMNS)
        with with_progress(files, "reading", prints=form != "--json") as shown:
            for file in shown:
                for document, page, outcome in _read_file(reader, file):
                    status = max(status, outcome)
                    if form == "--json":
                        documents.append(document)
                    elif form == "--jsonl":
                        _print(_to_json(document))
                    elif form == "--csv":
                        _print_csv_rows(*_csv_rows(document))
                    elif "error" not in document:
                        assert page is not None
                        _print_reading(document, is_named=len(files) > 1 or page.pages > 1)
                    if "error" in document:
                        say(f"digitwise: {document['error']}")
                    elif page is not None and drawings is not None:
                        status = max(status, drawings.save(file, page))
                done += 1
        is_complete = True
    except KeyboardInterrupt:
        say(f"stopped: {done:,} of {len(files):,} inputs were read")
        raise
    finally:
        if form == "--json":
            _print_json({"complete": is_complete, "images": documents})
    return status


def _read_file(
    reader: "Reader", file: Path
) -> Iterator[tuple[dict[str, Any], "Reading | None", int]]:
    """Read a picture; any failure becomes a document with an error.

    Yields:
        For each page its document, the page if it was read, and the exit status for it.
    """
    try:
        for page in reader.iter_pages(file):
            if page.notice:
                say(f"{file}: {page.notice}")
            document = page.to_dict()
            yield document, page, SOME_FAILED if "error" in document else 0
        return
    except MachineError as error:
        reason, status = str(error), error.exit_status
    except DigitwiseError as error:
        reason, status = str(error), SOME_FAILED
    except Exception as error:
        reason, status = f"{file}: {_internal_error(error)}", SOME_FAILED
    yield {"path": printable(file), "error": printable(_one_line(reason))}, None, status


class _Drawings:
    """The folder for pictures with boxes drawn on them.

    Args:
        folder: where the drawings are saved.
        files: the pictures that will be read.
        force: whether files that Digitwise did not write may be replaced.

    Raises:
        DigitwiseError: a drawing would replace an input, or a file that must be kept.
    """

    def __init__(self, folder: Path, files: Sequence[Path], *, force: bool) -> None:
        self._folder, self._force = folder, force
        self._taken: set[str] = set()
        for file in files:
            if file.suffix.lower() not in _PAGED_SUFFIXES:  # otherwise drawings may be numbered
                check_output(self._free_path(file.stem), force=force)
        self._taken.clear()

    def save(self, file: Path, page: "Reading") -> int:
        """Draw a page.

        Returns:
            The exit status: not 0 if the drawing could not be saved, which is reported.
        """
        number = f"-{page.page}" if page.pages > 1 else ""
        try:
            page.save(self._free_path(file.stem, number), force=self._force)
        except DigitwiseError as error:
            say(f"digitwise: {_one_line(str(error))}")
            return error.exit_status
        return 0

    def _free_path(self, stem: str, page: str = "") -> Path:
        """Name a drawing after its picture; number it if the call has used that name already."""
        for number in itertools.count(1):
            ending = f"{page}-{number}.png" if number > 1 else f"{page}.png"
            while len(os.fsencode(stem + ending)) > LONGEST_NAME:
                stem = stem[:-1]
            name = (stem + ending).casefold()  # as file systems that ignore case compare names
            if name not in self._taken:
                break
        self._taken.add(name)
        return self._folder / (stem + ending)


def _read_in_bulk(
    sources: list[str],
    output: Path,
    address: str,
    bundle: str,
    workers: int | None,
    shard_size: int | None,
    json_output: bool,
) -> None:
    """Reads on a Ray cluster, and prints what it came to."""
    from digitwise.cluster.connection import check_ray

    check_ray("reading on a cluster")
    from digitwise.cluster.bulk import SHARD_SIZE, read_in_bulk

    with shown_progress("reading") as on_progress:
        reading = read_in_bulk(
            sources,
            output,
            address=address,
            bundle=bundle,
            workers=workers,
            shard_size=shard_size or SHARD_SIZE,
            on_progress=on_progress,
        )
    counts = reading.counts
    if json_output:
        _print_json(reading.to_dict())
    else:
        print(f"inputs   {counts.inputs:,}")
        print(f"failed   {counts.failed:,}")
        print(f"digits   {counts.digits:,} on {counts.lines:,} lines")
        print(f"seconds  {reading.seconds:,.1f}")
        print(f"output   {printable(reading.output)}, {reading.shards:,} files")
    if counts.others:
        say(f"besides digits {counts.others:,} marks and unknown things: see the column others")
    if counts.failed:
        say(
            f"digitwise: {counts.failed:,} of {counts.inputs:,} inputs could not be read: see the "
            "column error"
        )
        raise typer.Exit(SOME_FAILED)


@app.command()
def explain(
    image: Annotated[Path, typer.Argument(help="A picture.")],
    bundle: Annotated[
        str, typer.Option(help="What to read with: a bundle, or the run that left it.")
    ] = "pretrained",
    output: Annotated[
        Path | None,
        typer.Option(help="A folder for the pictures and a page, index.html.", show_default=False),
    ] = None,
    force: ForceOption = False,
    neighbours: Annotated[
        str | None,
        typer.Option(
            help="Training digits to look for the most alike in: a data path, or 'sample'.",
            show_default=False,
        ),
    ] = None,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Integrated gradients, too; needs Keras.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show how the network came to each digit of a picture."""
    from digitwise.bundle import open_classifier
    from digitwise.insight.explanation import PAGE_FILE, PICTURE_FILE
    from digitwise.insight.explanation import explain as explain_picture

    opened = open_classifier(bundle)
    files: list[Path] = []
    with protected([image, opened.path, neighbours]):
        if output is not None:
            _check_folder(output)
            from digitwise.insight import figures  # noqa: F401  # refuses without matplotlib

            for name in (PAGE_FILE, PICTURE_FILE):
                check_output(output / name, force=force)
        known = None if neighbours is None else _training_digits(neighbours, opened.classes)
        explanation = explain_picture(image, opened, neighbors=known, gradients=gradients)
        if output is not None:
            files = explanation.save(output, force=force)
    if json_output:
        _print_json({**explanation.to_dict(), "figures": [str(path) for path in files]})
        return
    _print_explanation(explanation)
    if files:
        print(printable(files[0]))


@app.command()
def report(
    bundle: Annotated[str, typer.Argument(help="A bundle, the run that left it, or 'pretrained'.")],
    dataset: DatasetOption = None,
    data: DataOption = None,
    output: Annotated[
        Path, typer.Option(help="The HTML file to write; replaces an earlier report.")
    ] = Path("report.html"),
    force: ForceOption = False,
    sample: SampleOption = True,
    json_output: JsonOption = False,
) -> None:
    """Write one HTML file about a bundle: how it learned, how well it reads, what it sees."""
    from digitwise.bundle import open_classifier

    opened = open_classifier(bundle)  # before matplotlib is imported
    from digitwise.insight.report import report as write_report

    file = write_report(
        opened, output, dataset=dataset, path=data, allow_sample=sample, force=force
    )
    if json_output:
        _print_json({"bundle": str(opened.path), "report": str(file)})
    else:
        print(printable(file))


@app.command()
def serve(
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 is reached from elsewhere.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    bundle: Annotated[
        str, typer.Option(help="What to read with: a bundle, or the run that left it.")
    ] = "pretrained",
    collect: Annotated[
        Path | None,
        typer.Option(
            help="A folder for drawings that people correct, to train on; left out, none is kept.",
            show_default=False,
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            help="What requests have to bring as Authorization: Bearer.",
            envvar="DIGITWISE_TOKEN",
            show_default=False,
        ),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Another address that people open the page at, such as "
            "https://digits.example.com behind a proxy. Repeatable.",
            show_default=False,
        ),
    ] = None,
    most_megabytes: Annotated[
        float, typer.Option(help="Of what is sent in one request.", min=0.01)
    ] = 10,
    most_megapixels: Annotated[float, typer.Option(help="Of a picture.", min=0.01)] = 40,
    most_digits: Annotated[int, typer.Option(help="Of a picture.", min=1)] = 2000,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take.", min=0.1)] = 20,
    log_requests: Annotated[
        bool | None,
        typer.Option(
            "--log/--no-log",
            help="A line of JSON on stderr for each request.",
            show_default="unless stderr is a terminal",
        ),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Open the page with the drawing box, and the service behind it."""
    if importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("uvicorn") is None:
        raise missing_extra("serving", "serve")
    from digitwise.serving.server import serve as serve_bundle
    from digitwise.serving.settings import ServiceSettings

    def tell(address: str) -> None:
        if json_output:
            _print_json({"address": address, "bundle": bundle})
            sys.stdout.flush()
        else:
            say(f"Digitwise is at {address}  (Ctrl-C stops it)")

    settings = ServiceSettings(
        bundle=bundle,
        token=token,
        collect=collect,
        origins=tuple(allow_origin or ()),
        most_bytes=int(most_megabytes * 1e6),
        most_pixels=int(most_megapixels * 1e6),
        most_digits=most_digits,
        seconds=timeout,
    )
    serve_bundle(
        settings,
        host,
        port,
        log_requests=not sys.stderr.isatty() if log_requests is None else log_requests,
        on_start=tell,
    )


@app.command()
def sweep(
    model: Annotated[
        str, typer.Option(help="tutorial, lenet5, fast, accurate, small or reader.")
    ] = "tutorial",
    learning_rate: Annotated[
        str | None,
        typer.Option(
            "--learning-rate",
            "--lr",
            help="What to try: one value, several (1e-3,1e-2), or an interval (1e-3:1e-2).",
            show_default="recipe's",
        ),
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="What to try, likewise.", show_default="recipe's")
    ] = None,
    samples: Annotated[int, typer.Option(help="Drawn from the intervals.", min=1)] = 10,
    seeds: Annotated[int, typer.Option(help="Trainings of the best settings.", min=1)] = 3,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images.", show_default="recipe's")
    ] = None,
    validation: Annotated[
        int | None,
        typer.Option(
            help="Training images held out to choose by.",
            show_default="a twelfth, at most 5,000",
        ),
    ] = None,
    dataset: DatasetOption = None,
    data: DataOption = None,
    output: Annotated[
        Path, typer.Option(help="The sweep's folder; one that is there is gone on with.")
    ] = Path("sweep"),
    cluster: Annotated[
        str, typer.Option(help="A Ray cluster: 'local', 'auto', or host:port of its head.")
    ] = "local",
    cpus: Annotated[int, typer.Option(help="Of each training.", min=1)] = 1,
    sample: SampleOption = True,
    json_output: JsonOption = False,
) -> None:
    """Train many networks on a Ray cluster, and keep the best by validation."""
    from digitwise.cluster.connection import check_ray

    check_ray("a sweep")
    from digitwise.cluster.sweep import space_from
    from digitwise.cluster.sweep import sweep as run_sweep

    swept = run_sweep(
        model,
        output,
        space=space_from({"learning_rate": learning_rate, "batch_size": batch_size}),
        samples=samples,
        seeds=seeds,
        epochs=epochs,
        validation=validation,
        dataset=dataset,
        path=data,
        allow_sample=sample,
        address=cluster,
        cpus=cpus,
    )
    if json_output:
        _print_json(swept.to_dict())
    else:
        _print_sweep(swept)


@datasets_app.command("list")
def list_datasets(json_output: JsonOption = False) -> None:
    """List the datasets known by name, and whether they are in the cache."""
    from digitwise.data.catalog import CATALOG
    from digitwise.data.download import cache_folder, fetched
    from digitwise.data.loading import in_data_folder

    rows: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "title": entry.title,
            "classes": list(entry.classes),
            "license": entry.license,
            "homepage": entry.homepage,
            "digests_tried": entry.digests_tried,
            "cached": str(cache_folder() / entry.name) if fetched(entry) else None,
            "in_data_folder": in_data_folder(entry) is not None,
        }
        for entry in CATALOG.values()
    ]
    if json_output:
        _print_json({"datasets": rows})
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "what it is", "license", "at hand", box=None, pad_edge=False)
    for row in rows:
        fetched_or_not = "fetched" if row["cached"] else "no"
        at_hand = "in DIGITWISE_DATA" if row["in_data_folder"] else fetched_or_not
        table.add_row(row["name"], row["title"], row["license"], at_hand)
    Console().print(table)


@datasets_app.command("fetch")
def fetch_dataset(
    name: Annotated[str, typer.Argument(help="The dataset's name: see digitwise datasets list.")],
    json_output: JsonOption = False,
) -> None:
    """Download a dataset into the cache and verify it."""
    from digitwise.data.catalog import catalog_entry
    from digitwise.data.download import fetch

    folder = fetch(catalog_entry(name))
    if json_output:
        _print_json({"name": name, "folder": str(folder)})
    else:
        print(folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line.

    Args:
        arguments: without the program's name; None takes the process's own.

    Returns:
        The exit status: 0 done; 1 some inputs failed; 2 the call or what it names was wrong;
        3 the machine refused; 70 an internal error; 130 interrupted; 141 the output pipe closed.
    """
    warnings.showwarning = _show_warning
    if sys.stdout is None:  # closed by the caller
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    with _kept_streams():
        try:
            status = _run(arguments)
        except BrokenPipeError:
            status = PIPE_CLOSED
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            status = PIPE_CLOSED
        except OSError as error:
            if status != MachineError.exit_status:
                say(f"digitwise: {machine_error('write to standard output', error)}")
            status = MachineError.exit_status
    return status


def _run(arguments: Sequence[str] | None) -> int:
    """Run a command line, and report errors on stderr.

    Raises:
        BrokenPipeError: the reader of stdout closed the pipe.
    """
    try:
        if "" in (sys.argv[1:] if arguments is None else arguments):
            raise DigitwiseError("an argument is empty: leave the option out, or give it a value")
        outcome = typer.main.get_command(app).main(
            args=None if arguments is None else list(arguments),
            prog_name="digitwise",
            standalone_mode=False,
        )
    except DigitwiseError as error:
        say(f"digitwise: {_one_line(str(error))}")
        return error.exit_status
    except typer.BadParameter.__mro__[2] as error:  # the base of every usage error
        message = _one_line(error.format_message()).replace("Value error, ", "")
        if message:  # empty where the help was asked for by giving nothing
            command = error.ctx.command_path if error.ctx else "digitwise"
            say(f"digitwise: {message} (see {command} --help)")
        return DigitwiseError.exit_status
    except BrokenPipeError:
        raise
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # Typer turns it into an exit
            raise error.__context__ from None
        if isinstance(error.code, str):
            say(f"digitwise: {error.code}")
            return SOME_FAILED
        return error.code or 0
    except OSError as error:
        refused = machine_error(f"go on with {error.filename or 'the work'}", error)
        say(f"digitwise: {refused}")
        return refused.exit_status
    except (KeyboardInterrupt, typer.Abort):
        outcome = INTERRUPTED
    except MemoryError:
        say("digitwise: out of memory: close other programs and try again")
        return MachineError.exit_status
    except Exception as error:
        say(f"digitwise: {_internal_error(error)}")
        return INTERNAL_ERROR
    if outcome == INTERRUPTED:  # Typer answers Ctrl-C with it, too
        say("digitwise: interrupted")
    return outcome if isinstance(outcome, int) else 0


def _internal_error(error: Exception) -> str:
    """Format an internal error, and print its traceback if DIGITWISE_VERBOSE is set."""
    if os.environ.get("DIGITWISE_VERBOSE"):
        traceback.print_exception(error)
    return (
        f"internal error: {type(error).__name__}: {_one_line(str(error))}: please report it, with "
        "the traceback that DIGITWISE_VERBOSE=1 shows"
    )


@contextlib.contextmanager
def _kept_streams() -> Iterator[None]:
    """Make stdout and stderr accept any text, and restore them afterwards.

    Output that a closed pipe or a full disk did not accept is dropped; otherwise Python would try
    to write it again at exit, and print an error.
    """
    streams = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        for stream in streams:
            if isinstance(stream, io.TextIOWrapper):
                stack.enter_context(_kept_stream(stream))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams  # Typer replaces them when a pipe is closed


@contextlib.contextmanager
def _kept_stream(stream: io.TextIOWrapper) -> Iterator[None]:
    """Make a stream accept any text, and restore its error handler and file descriptor."""
    errors, kept = stream.errors, -1
    with contextlib.suppress(OSError):  # a stream in memory has no descriptor
        kept = os.dup(stream.fileno())
    with contextlib.suppress(OSError):
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            stream.flush()
        if kept >= 0:
            # Rich also redirects the descriptor of a closed pipe to os.devnull.
            if not os.path.samestat(os.fstat(kept), os.fstat(stream.fileno())):
                os.dup2(kept, stream.fileno())
            os.close(kept)
        stream.reconfigure(errors=errors)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Words our own warnings as a line for people; others name their place."""
    if issubclass(category, SampleDataWarning | MissingClassWarning):
        say(f"notice: {message}")
    else:
        say(f"{filename}:{lineno}: {category.__name__}: {message}")


def _one_line(text: str) -> str:
    """Joins a message's lines."""
    return " ".join(text.split())


def _set_verbose(verbose: bool) -> None:
    """Lets native log lines through; has to be known before Keras is imported."""
    if verbose:
        os.environ["DIGITWISE_VERBOSE"] = "1"
        logging.getLogger("tensorflow").setLevel(logging.NOTSET)


def _check_folder(output: Path) -> None:
    """Refuses a file where a folder is to be filled."""
    if output.exists() and not output.is_dir():
        raise DigitwiseError(f"--output {output} is a file: name a folder")


def _training_digits(name: str, classes: Sequence[str]) -> "LabeledImages":
    """Load the images to search for neighbors: those of the bundle's classes.

    Returns:
        The images, with labels that index the bundle's classes.
    """
    import numpy as np

    from digitwise.data.formats import LabeledImages
    from digitwise.data.loading import built_in_sample, load_dataset

    data = built_in_sample() if name == "sample" else load_dataset(path=name)
    found = data.train or data.test
    assert found is not None
    numbers = [classes.index(one) if one in classes else -1 for one in data.classes]
    labels = np.array(numbers)[found.y]
    known = labels >= 0
    if not known.any():
        raise DigitwiseError(
            f"--neighbours {name}: contains none of the bundle's classes {', '.join(classes)}: "
            "use the data that the bundle was trained on"
        )
    return LabeledImages(found.x[known], labels[known].astype(np.uint8))


def _print_explanation(explanation: "Explanation") -> None:
    """Prints of each digit what else it may be, and what was alike."""
    if explanation.reading.notice:
        say(f"{explanation.reading.path}: {explanation.reading.notice}")
    print(explanation.reading.text or "no digits")
    besides = _count_others(explanation.reading.to_dict()["others"])
    if besides:
        say(f"{explanation.reading.path}: besides digits {besides}: read --json tells where")
    for number, part in enumerate(explanation.digits, 1):
        numbers = part.to_dict(explanation.bundle.classes)
        likely = sorted(numbers["probabilities"].items(), key=lambda item: -item[1])[:3]
        words = ", ".join(f"{name} {value:.1%}" for name, value in likely if value >= 0.001)
        names = [other["text"] for other in numbers.get("neighbors", [])]
        alike = (" " if any(len(name) > 1 for name in names) else "").join(names)
        print(f"digit {number}: {words}{f'; most alike {alike}' if alike else ''}")


def _print(text: str) -> None:
    """Print text to stdout in a single write, so that an interruption leaves complete lines."""
    sys.stdout.write(f"{printable(text)}\n")
    sys.stdout.flush()


def _to_json(document: dict[str, Any], indent: int | None = None) -> str:
    """Serialize a document as JSON that stdout can encode.

    Bytes of a file name that are not UTF-8 are escaped as everywhere else.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=indent)
    text = re.sub("[\ud800-\udfff]", lambda found: json.dumps(printable(found[0]))[1:-1], text)
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    return text if is_utf8 else json.dumps(json.loads(text), indent=indent)


def _print_json(document: dict[str, Any]) -> None:
    """Print one JSON document."""
    _print(_to_json(document, indent=2))


def _picture_files(paths: Sequence[Path]) -> list[Path]:
    """List the given files and, for folders, the pictures below them, sorted by name.

    Drawings from earlier runs are skipped in folders, with a notice. A folder that cannot be listed
    is in the list itself, because reading it reports why.
    """
    from digitwise.data.images import PICTURE_SUFFIXES

    files: list[Path] = []
    skipped = 0
    for path in paths:
        if not path.is_dir():
            if is_marked(path):
                say(f"notice: {path} is a drawing by Digitwise: its labels are read as well")
            files.append(path)
            continue
        pictures = sorted(
            file
            for file in _walk(path)
            if file.is_dir()
            or (file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith("."))
        )
        originals = [picture for picture in pictures if not is_marked(picture)]
        if not originals:
            reason = "only drawings by Digitwise" if pictures else "no pictures"
            raise DigitwiseError(f"{path}: the folder holds {reason}")
        files += originals
        skipped += len(pictures) - len(originals)
    if skipped:
        say(
            f"notice: {skipped:,} drawing{'s' * (skipped > 1)} by Digitwise skipped in folders: "
            "name a file to read it"
        )
    return files


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, and the folders that cannot be listed."""
    refused: list[Path] = []
    for parent, _, names in os.walk(
        folder, onerror=lambda error: refused.append(Path(error.filename))
    ):
        yield from (Path(parent, name) for name in names)
    yield from refused


def _print_reading(document: dict[str, Any], *, is_named: bool) -> None:
    """Print the text of a page, under its name if there are several."""
    page = f", page {document['page']}" if document["page"] > 1 else ""
    lines = [f"{document['path']}{page}:"] if is_named else []
    lines += [line["text"] for line in document["lines"]]
    if lines:
        _print("\n".join(lines))
    if not document["lines"]:
        say(f"{document['path']}{page}: no digits")
    besides = _count_others(document["others"])
    if besides:
        say(f"{document['path']}{page}: besides digits {besides}: --json tells where")


def _count_others(others: Sequence[dict[str, Any]]) -> str:
    """Words how many marks and unknown things were found; empty where there are none."""
    counts = {kind: sum(other["kind"] == kind for other in others) for kind in ("mark", "unknown")}
    words = []
    if counts["mark"]:
        words.append(
            f"{counts['mark']} mark{'s' * (counts['mark'] > 1)} (point, comma, minus, slash)"
        )
    if counts["unknown"]:
        words.append(f"{counts['unknown']} unknown")
    return " and ".join(words)


def _csv_rows(document: dict[str, Any]) -> list[list[Any]]:
    """Return a row per line of digits; a page without digits has one row, too."""
    if "error" in document:
        return [[document["path"], document.get("page", ""), "", "", "", "", document["error"]]]
    rows = []
    for number, line in enumerate(document["lines"] or [{"text": "", "digits": []}], 1):
        least = min((digit["confidence"] for digit in line["digits"]), default="")
        place = [document["path"], document["page"], number]
        rows.append([*place, line["text"], least, len(document["others"]), ""])
    return rows


def _print_csv_rows(*rows: Sequence[Any]) -> None:
    """Print rows as CSV in a single write."""
    import csv

    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    _print(table.getvalue().removesuffix("\n"))


def _draw_run(bundle: "Bundle") -> None:
    """Draws a run's learning curves into its folder, where matplotlib is at hand."""
    from digitwise.network.runs import Run

    run = Run(bundle.path.parent)
    target = run.figures / "learning-curves.png"
    history = run.read_history()
    if target.exists() or not history or importlib.util.find_spec("matplotlib") is None:
        return
    from digitwise.insight import figures

    figures.save(figures.learning_curves(history), target)


def _print_training(bundle: "Bundle", json_output: bool) -> None:
    """Prints what a training came to."""
    record = bundle.record
    if json_output:
        _print_json(
            {
                "bundle": str(bundle.path),
                "architecture": bundle.architecture,
                "dataset": record["dataset"]["name"],
                "sample": record["dataset"]["sample"],
                "notice": record["notice"],
                "warning": record.get("warning"),
                "seed": record["settings"]["seed"],
                "precision": record["settings"]["precision"],
                "seconds": record["seconds"],
                "validation": record["validation"],
                "fine_tuning": record.get("fine_tuning"),
                **(record["test"] or dict.fromkeys(_TEST_FIGURES)),
            }
        )
        return
    test = record["test"]
    if test is None:
        print("accuracy  not measured: no unseen images to test on")
    else:
        low, high = test["confidence_interval"]
        print(
            f"accuracy  {test['accuracy']:.2%} of {test['images']:,} test images "
            f"(95% interval {low:.2%} to {high:.2%})"
        )
    if record.get("fine_tuning"):
        for what, name in (("own_test", "on yours"), ("mnist_test", "on MNIST")):
            if record["fine_tuning"][what] is not None:
                before, after = record["fine_tuning"][what]
                print(f"{name:9} {before:.2%} before, {after:.2%} now")
    print(f"training  {record['seconds']:.1f} s")
    print(f"bundle    {printable(bundle.path)}")


def _print_sweep(swept: "Sweep") -> None:
    """Prints a sweep's trainings as tables: the search, then the seeds of what was chosen."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    for heading, trainings in (("searched", swept.searched), ("chosen", swept.chosen)):
        if not trainings:
            continue
        table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
        names = list(trainings[0].settings)
        for name in (*(name.replace("_", " ") for name in names), "seed", "epochs", "held out"):
            table.add_column(name, justify="right")
        table.add_column("test" if heading == "chosen" else "")
        for training in trainings:
            state = "failed" if training.error else "" if training.finished else "stopped early"
            table.add_row(
                *(f"{training.settings[name]:g}" for name in names),
                str(training.seed),
                str(training.epochs),
                _percent(training.accuracy),
                _percent(training.test_accuracy) if heading == "chosen" else state,
            )
        console.print(f"[bold]{heading}[/bold]")
        console.print(table)
        console.print()
    for what, (mean, deviation) in (
        ("held out", swept.validation_accuracy),
        ("test", swept.test_accuracy),
    ):
        spread = "" if deviation is None else f" ± {deviation:.2%}"
        seeds = f"{len(swept.chosen)} seed{'s' * (len(swept.chosen) > 1)}"
        print(f"{what:9} {_percent(mean)}{spread}, {seeds}")
    print(f"bundle    {printable(swept.best.path)}")


def _print_evaluation(evaluation: "Evaluation") -> None:
    """Prints an evaluation as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    low, high = evaluation.confidence_interval
    console.print(
        f"accuracy [bold]{evaluation.accuracy:.2%}[/bold] of {evaluation.images:,} images of "
        f"{evaluation.dataset} (95% interval {low:.2%} to {high:.2%})"
    )
    console.print(
        f"loss {evaluation.loss:.4f}, expected calibration error "
        f"{evaluation.calibration_error:.2%}\n"
    )
    predicted = evaluation.confusion
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("class")
    for heading in ("images", "precision", "recall", "F1"):
        table.add_column(heading, justify="right")
    table.add_column("most often misread as")
    for label, figures in enumerate(evaluation.per_class):
        others = sorted(
            (
                (int(count), evaluation.classes[other])
                for other, count in enumerate(predicted[label])
                if count and other != label
            ),
            reverse=True,
        )
        table.add_row(
            figures.name,
            f"{figures.images:,}",
            *(_percent(value) for value in (figures.precision, figures.recall, figures.f1)),
            ", ".join(f"{name} ({count})" for count, name in others[:3]),
        )
    console.print(table)


def _percent(share: float | None) -> str:
    """Words a share, a dash where there is none."""
    return "–" if share is None else f"{share:.2%}"

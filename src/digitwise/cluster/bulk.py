"""read_in_bulk(): an archive of pictures → Parquet, on a Ray cluster.

What there is to read is listed once, in numbered shards. Each shard becomes one file, written
under a temporary name and renamed, so that a shard read twice does no harm: whatever dies, the
shards without a file are what is left to do. Ray Data hands them to the workers, and hands those of
a dead worker to another.
"""

import contextlib
import hashlib
import io
import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from digitwise.bundle import RECORD_FILE, Bundle, open_classifier
from digitwise.cluster.connection import LOCAL, check_ray, connected
from digitwise.cluster.listing import (
    Input,
    ParquetImages,
    listing_digest,
    open_address,
    read_shard,
    write_listing,
)
from digitwise.data.images import LARGEST_FILE
from digitwise.errors import DigitwiseError, MachineError, machine_error
from digitwise.messages import printable, quiet_loggers, say, sigterm_as_interrupt
from digitwise.reading.reader import Reader, Reading
from digitwise.storage import (
    MARK,
    is_marked,
    locked,
    open_whole,
    read_json,
    sweep_unfinished,
    write_json,
)

SHARD_SIZE = 500
JOB_FOLDER = "_job"  # readers of Parquet folders leave out what begins with _
_DEATHS = 2  # of workers at one input, until it is given up
_BEGUN = "begun\n"
_COUNTS = "digitwise"
_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("page", pa.int32()),
        ("line", pa.int32()),
        ("text", pa.string()),
        ("texts", pa.list_(pa.string())),
        ("digits", pa.list_(pa.int8())),
        ("confidences", pa.list_(pa.float32())),
        ("boxes", pa.list_(pa.list_(pa.int32(), 4))),
        ("others", pa.int32()),
        ("error", pa.string()),
    ]
)
Row = dict[str, Any]


@dataclass(frozen=True)
class Counts:
    """What a shard, or a whole job, came to.

    Attributes:
        inputs: pictures, each a file or a row of a Parquet file.
        failed: inputs that could not be read, completely or in part.
        lines: of digits.
        digits: on all lines.
        others: what was found and is no digit.
    """

    inputs: int = 0
    failed: int = 0
    lines: int = 0
    digits: int = 0
    others: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        mine, others = asdict(self), asdict(other)
        return Counts(**{name: mine[name] + others[name] for name in mine})


@dataclass(frozen=True)
class BulkReading:
    """What a job came to.

    Attributes:
        output: the folder of Parquet files.
        shards: how many files there are.
        resumed: how many of them were there when the job went on.
        counts: over all shards.
        seconds: of this call.
    """

    output: Path
    shards: int
    resumed: int
    counts: Counts
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as plain data, for JSON."""
        return {
            "output": str(self.output),
            "shards": self.shards,
            "resumed": self.resumed,
            **asdict(self.counts),
            "seconds": self.seconds,
        }


def read_in_bulk(
    sources: Sequence[str],
    output: str | Path,
    *,
    address: str = LOCAL,
    bundle: str | Path = "pretrained",
    workers: int | None = None,
    shard_size: int = SHARD_SIZE,
    on_progress: Callable[[int, int], None] | None = None,
) -> BulkReading:
    """Reads pictures on a Ray cluster, a Parquet file a shard.

    The rows are those of `digitwise read`: one a line of digits, one for a picture without any, and
    one, with its `error`, for what cannot be read. Called again for the same folder, it reads what
    is missing there.

    Args:
        sources: folders, globs, pictures, Parquet files with a column `image`, `bytes` or `content`
            of images' bytes; or addresses of such that fsspec understands, "s3://bucket/scans".
        output: the folder for the files; on several machines one that all share.
        address: "local", "auto", or host:port of a Ray cluster's head.
        bundle: what to read with; on several machines a path that all share.
        workers: how many processes read, one CPU each, as far as the cluster has so many; left
            out, one for each that it has.
        shard_size: inputs a file; a job that goes on has the size that it began with.
        on_progress: is told the inputs that are done, and how many there are, after each shard.

    Raises:
        DigitwiseError: a source is bad, no cluster answers, or `output` holds another job.
        MachineError: the disk is full or permission is missing; what is done is kept.
    """
    check_ray("reading on a cluster")
    opened = open_classifier(bundle)
    folder = Path(output).absolute()
    job = _Job(folder)
    started = time.perf_counter()
    with job.opened(sources, _digest(opened), shard_size) as (inputs, shards):
        done = {number: _read_counts(file) for number, file in job.files()}
        total, resumed = sum(done.values(), Counts()), len(done)
        missing = [number for number in range(shards) if number not in done]
        if on_progress:
            on_progress(total.inputs, inputs)
        if missing:
            worker = (str(folder), str(opened.path.absolute()))
            with connected(address) as cpus, sigterm_as_interrupt():
                try:
                    for counts in _results(missing, worker, min(workers or cpus, cpus)):
                        total += counts
                        if on_progress:
                            on_progress(total.inputs, inputs)
                except KeyboardInterrupt:
                    kept = sum((_read_counts(file).inputs for _, file in job.files()), 0)
                    say(
                        f"stopped: {kept:,} of {inputs:,} inputs are in {output}: run the same "
                        "command again to continue"
                    )
                    raise
        sweep_unfinished(folder)
    return BulkReading(Path(output), shards, resumed, total, time.perf_counter() - started)


def _digest(bundle: Bundle) -> str:
    """Tells two bundles apart: SHA-256 of the networks that read, and of the record."""
    digest = hashlib.sha256()
    for file in sorted([*bundle.path.glob("*.onnx"), bundle.path / RECORD_FILE]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _results(missing: list[int], worker: tuple[str, str], workers: int) -> Iterator[Counts]:
    """Has shards read, and yields what each came to, in the order in which they are finished.

    Raises:
        MachineError: a worker could not write.
    """
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    size = min(workers, len(missing))
    shards = ray.data.from_items(
        [{"shard": number} for number in missing], override_num_blocks=len(missing)
    )
    read = shards.map_batches(
        ShardReader,
        fn_constructor_args=worker,
        batch_size=1,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=size, initial_size=size),
    )
    with quiet_loggers("ray.data"):
        for result in read.iter_rows():
            refused = result.pop("refused")
            if refused:
                raise MachineError(f"write to {worker[0]}", refused)
            yield Counts(**result)


class ShardReader:
    """A worker: reads shards and writes their files, with one thread.

    Args:
        output: the job's folder.
        bundle: what to read with.
    """

    def __init__(self, output: str, bundle: str) -> None:
        import cv2

        cv2.setNumThreads(1)  # ONNX Runtime's are told by OMP_NUM_THREADS, which Ray sets
        self._job = _Job(Path(output))
        self._reader = Reader(bundle)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Reads the shards of a batch.

        Returns:
            The fields of `Counts`, and `refused`: why nothing could be written, else empty.
        """
        results = [self._read(int(number)) for number in batch["shard"]]
        return {name: np.array([result[name] for result in results]) for name in results[0]}

    def _read(self, number: int) -> dict[str, Any]:
        """Reads a shard."""
        try:
            with self._job.attempt(number) as attempt:
                rows = _rows(self._reader, attempt)
                counts = _write(self._job.file(number), rows, len(attempt.inputs))
        except OSError as error:
            return {**asdict(Counts()), "refused": error.strerror or str(error)}
        except MachineError as error:
            return {**asdict(Counts()), "refused": error.reason}
        return {**asdict(counts), "refused": ""}


class _Job:
    """A job's folder: the files of its shards, and what is known about it in `_job/`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own = folder / JOB_FOLDER
        self._listing = self._own / "listing"
        self._attempts = self._own / "attempts"
        self._record = self._own / "job.json"

    def file(self, number: int) -> Path:
        """Names a shard's file."""
        return self._folder / f"part-{number:06}.parquet"

    def files(self) -> Iterator[tuple[int, Path]]:
        """Finds the files that there are: the shards' numbers and paths."""
        for path in self._folder.glob("part-*.parquet"):
            with contextlib.suppress(ValueError):
                yield int(path.stem.removeprefix("part-")), path

    @contextlib.contextmanager
    def opened(
        self, sources: Sequence[str], bundle: str, shard_size: int
    ) -> Iterator[tuple[int, int]]:
        """Begins the job, or goes on with it, while no other process does.

        Args:
            sources: what is to be read.
            bundle: the digest of what it is read with.
            shard_size: inputs a shard, where the job begins.

        Yields:
            How many inputs and shards it has.

        Raises:
            DigitwiseError: the folder holds another job, or the listing has changed.
        """
        if not self._record.exists() and next(self.files(), None) is not None:
            raise DigitwiseError(f"{self._folder} holds Parquet files: name another folder")
        with self._locked():
            if not self._record.exists():
                listed = write_listing(sources, self._listing, shard_size)
                record: dict[str, Any] = {
                    "inputs": listed.inputs,
                    "shard_size": shard_size,
                    "listing": listed.digest,
                    "bundle": bundle,
                }
                write_json(self._record, record)
            else:
                record = read_json(self._record)
                if record["bundle"] != bundle:
                    raise DigitwiseError(
                        f"{self._folder} was begun with another bundle: name another folder"
                    )
                if record["listing"] != listing_digest(sources):
                    raise DigitwiseError(
                        f"{self._folder} was begun with other inputs, or they have changed since: "
                        "name another folder"
                    )
            sweep_unfinished(self._folder)
            shutil.rmtree(self._attempts, ignore_errors=True)  # of workers that died with a driver
            yield record["inputs"], -(-record["inputs"] // record["shard_size"])

    @contextlib.contextmanager
    def attempt(self, number: int) -> Iterator["_Attempt"]:
        """Keeps account of which input of a shard is being read, until the shard is done."""
        trace = self._attempts / f"{number:06}"
        trace.parent.mkdir(exist_ok=True)
        deaths: Counter[int] = Counter()
        if trace.exists():
            for attempt in trace.read_text().split(_BEGUN)[1:]:
                deaths.update(int(index) for index in attempt.split()[-1:])
        given_up = {index: count for index, count in deaths.items() if count >= _DEATHS}
        with trace.open("a", encoding="ascii") as file:
            file.write(_BEGUN)
            yield _Attempt(read_shard(self._listing, number), given_up, file)
        trace.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other processes from working on this job; a killed process lets go.

        Raises:
            DigitwiseError: another process is working on it.
            MachineError: the folder cannot be written.
        """
        file = self._own / "lock"
        try:
            if self._own.is_dir() and any(self._own.iterdir()) and not _is_lock(file):
                raise DigitwiseError(
                    f"{self._own} was not made by Digitwise: choose another --output"
                )
            self._own.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise machine_error(f"write {self._folder}", error) from error
        with locked(file, f"{self._folder}: another process is filling this folder: wait for it"):
            yield


def _is_lock(file: Path) -> bool:
    """Return whether a file is a job's lock file, which is empty when it is created."""
    return file.is_file() and (not file.stat().st_size or is_marked(file))


@dataclass(frozen=True)
class _Attempt:
    """A shard that is being read.

    Attributes:
        inputs: what it holds.
        given_up: indices of inputs at which workers died, and how many did.
        trace: where the index of each input is noted before it is read.
    """

    inputs: list[Input]
    given_up: dict[int, int]
    trace: TextIO

    def begin(self, index: int) -> None:
        """Notes that an input is about to be read."""
        self.trace.write(f"{index}\n")
        self.trace.flush()


class _Fetched(io.BytesIO):
    """A picture's bytes under the name by which errors tell of it."""

    mode = "rb"

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


def _rows(reader: Reader, attempt: _Attempt) -> Iterator[Row]:
    """Reads a shard's inputs."""
    images = ParquetImages()
    for index, item in enumerate(attempt.inputs):
        name = _name(item)
        attempt.begin(index)
        try:
            if index in attempt.given_up:
                raise DigitwiseError(f"{name}: {attempt.given_up[index]} workers died reading it")
            source = _fetch(item.path) if item.row is None else images.take(item.path, item.row)
            for reading in reader.iter_pages(_Fetched(source, name)):
                yield from _rows_of(reading, name)
        except Exception as error:  # whatever it is, the input has its row
            reason = " ".join(str(error).split()) or type(error).__name__
            yield {"path": name, "error": printable(reason)}


def _rows_of(reading: Reading, name: str) -> Iterator[Row]:
    """Makes a row a line of digits; a page without any has one row, too."""
    if reading.error is not None:
        yield {"path": name, "page": reading.page, "error": reading.error}
        return
    document = reading.to_dict()
    for number, line in enumerate(document["lines"] or [{"text": "", "digits": []}], 1):
        yield {
            "path": name,
            "page": reading.page,
            "line": number,
            "text": line["text"],
            "texts": [digit["text"] for digit in line["digits"]],
            "digits": [digit["digit"] for digit in line["digits"]],
            "confidences": [digit["confidence"] for digit in line["digits"]],
            "boxes": [digit["box"] for digit in line["digits"]],
            "others": len(document["others"]),
        }


def _name(item: Input) -> str:
    """Names an input in the rows."""
    path = printable(item.path)
    return path if item.row is None else f"{path}#{item.row}"


def _fetch(address: str) -> bytes:
    """Takes a file's bytes, no more than the reader reads.

    Raises:
        DigitwiseError: it cannot be read.
    """
    system, path = open_address(address)
    try:
        with system.open(path, "rb") as file:
            return bytes(file.read(LARGEST_FILE + 1))
    except FileNotFoundError as error:
        raise DigitwiseError(f"{address}: no such file") from error
    except OSError as error:
        raise DigitwiseError(f"{address}: cannot be read ({error.strerror or error})") from error


def _write(path: Path, rows: Iterator[Row], inputs: int) -> Counts:
    """Writes a shard's file whole, with its counts in it."""
    listed = list(rows)
    table = pa.Table.from_pylist(listed, _SCHEMA)
    digits = table["digits"].combine_chunks()
    counts = Counts(
        inputs=inputs,
        failed=len({row["path"] for row in listed if "error" in row}),
        lines=sum(bool(text) for text in table["text"].to_pylist()),
        digits=len(digits.flatten()),
        others=sum(row["others"] for row in listed if row.get("line") == 1),
    )
    table = table.replace_schema_metadata({_COUNTS: json.dumps(asdict(counts)), "Software": MARK})
    with open_whole(path) as file:
        pq.write_table(table, file)
    return counts


def _read_counts(path: Path) -> Counts:
    """Reads the counts in a shard's file.

    Raises:
        DigitwiseError: it is none of a job's.
    """
    try:
        metadata = pq.read_schema(path).metadata
        return Counts(**json.loads(metadata[_COUNTS.encode()]))
    except (pa.ArrowInvalid, OSError, KeyError, TypeError, ValueError) as error:
        raise DigitwiseError(f"{path}: damaged: remove it, and it is made again") from error

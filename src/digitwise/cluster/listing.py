"""What a job has to read: listed once, in fixed and numbered shards, on disk."""

import bisect
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import has_magic, url_to_fs
from fsspec.implementations.local import LocalFileSystem

from digitwise.data.images import PICTURE_SUFFIXES
from digitwise.errors import DigitwiseError
from digitwise.messages import say
from digitwise.storage import MARK, is_marked, open_whole

_IMAGE_COLUMNS = ("image", "bytes", "content")
_SHARDS_A_FILE = 1000
_BATCH = 16  # of a Parquet file's images, taken at once
_SCHEMA = pa.schema([("path", pa.binary()), ("row", pa.int64())])


class Input(NamedTuple):
    """One picture to read.

    Attributes:
        path: the file's absolute path, or its address.
        row: its number in a Parquet file, from 0; None where it is a file of its own.
    """

    path: str
    row: int | None


class Listed(NamedTuple):
    """How much was listed.

    Attributes:
        inputs: how many there are.
        digest: SHA-256 of all their names and sizes, in order.
    """

    inputs: int
    digest: str


def write_listing(sources: Sequence[str], folder: Path, shard_size: int) -> Listed:
    """Writes down what there is to read, a row group a shard.

    Args:
        sources: folders, globs, files, or addresses of such that fsspec understands.
        folder: where the files of the listing go.
        shard_size: how many inputs a shard has.

    Raises:
        DigitwiseError: a source does not exist or holds nothing to read.
        MachineError: the disk is full or permission is missing.
    """
    digest, inputs = hashlib.sha256(), 0
    shards = _batched(_list(sources, digest), shard_size)
    for number in itertools.count():
        section = itertools.islice(shards, _SHARDS_A_FILE)
        first = next(section, None)
        if first is None:
            break
        with (
            open_whole(_file(folder, number), force=True) as file,  # in a job's folder
            pq.ParquetWriter(file, _SCHEMA) as writer,
        ):
            for shard in itertools.chain([first], section):
                inputs += len(shard)
                paths = [os.fsencode(item.path) for item in shard]
                rows = [item.row for item in shard]
                writer.write_table(pa.table([paths, rows], schema=_SCHEMA))
    return Listed(inputs, digest.hexdigest())


def listing_digest(sources: Sequence[str]) -> str:
    """Lists again, and returns the digest alone.

    Raises:
        DigitwiseError: a source does not exist or holds nothing to read.
    """
    digest = hashlib.sha256()
    for _ in _list(sources, digest):
        pass
    return digest.hexdigest()


def read_shard(folder: Path, number: int) -> list[Input]:
    """Reads which inputs a shard has.

    Args:
        folder: where the listing lies.
        number: of the shard, from 0.
    """
    with pq.ParquetFile(_file(folder, number // _SHARDS_A_FILE)) as file:
        table = file.read_row_group(number % _SHARDS_A_FILE)
    paths, rows = (column.to_pylist() for column in table.columns)
    return [Input(os.fsdecode(path), row) for path, row in zip(paths, rows, strict=True)]


class ParquetImages:
    """Takes images' bytes out of Parquet files, quickly where rows are asked for in order."""

    def __init__(self) -> None:
        self._path = ""
        self._first = 0
        self._images: list[Any] = []

    def take(self, path: str, row: int) -> bytes:
        """Takes a row's image.

        Raises:
            DigitwiseError: there is none, or the file cannot be read.
        """
        try:
            if path != self._path:
                self._open(path)
            if not 0 <= row - self._first < len(self._images):
                self._advance(row)
        except (OSError, pa.ArrowInvalid, StopIteration) as error:
            self._path = ""
            raise DigitwiseError(f"{path}: cannot be read ({error})") from error
        image = self._images[row - self._first]
        content = image["bytes"] if isinstance(image, dict) else image
        if content is None:
            raise DigitwiseError(f"{path}: row {row} holds no image")
        return bytes(content)

    def _open(self, path: str) -> None:
        """Opens a file."""
        system, name = open_address(path)
        self._file = pq.ParquetFile(system.open(name, "rb"))
        self._column = _image_column(self._file.schema_arrow, path)
        self._path, self._first, self._images = path, 0, []
        self._batches: Iterator[Any] = iter(())

    def _advance(self, row: int) -> None:
        """Goes on to the batch that holds a row: the next one, or from its row group's first."""
        if row != self._first + len(self._images) or not self._images:
            metadata = self._file.metadata
            sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
            starts = [0, *itertools.accumulate(sizes)]
            group = bisect.bisect_right(starts, row) - 1
            self._first, self._images = starts[group], []
            self._batches = self._file.iter_batches(
                _BATCH, row_groups=range(group, len(sizes)), columns=[self._column]
            )
        while row >= self._first + len(self._images):
            self._first += len(self._images)
            self._images = next(self._batches).column(0).to_pylist()


def open_address(address: str) -> tuple[Any, str]:
    """Find the file system of an address, and the path there.

    An existing local path is used as it is, even if it contains wildcards.

    Raises:
        DigitwiseError: its kind is unknown, or needs a package that is not installed.
    """
    if os.path.lexists(address):
        return LocalFileSystem(), os.path.abspath(address)
    try:
        return url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise DigitwiseError(f"{address}: cannot be opened: {error}") from error


def _list(sources: Sequence[str], digest: "hashlib._Hash") -> Iterator[Input]:
    """Yield the inputs in order, and add them to the digest."""
    skipped: Counter[str] = Counter()
    for source in sources:
        found = 0
        for path, size, rows in _files(source, skipped):
            digest.update(os.fsencode(path) + f"\0{size}\0{rows}\n".encode())
            found += 1
            if rows is None:
                yield Input(path, None)
            else:
                yield from (Input(path, row) for row in range(rows))
        if not found:
            reason = "only outputs of Digitwise" if skipped[source] else "no pictures"
            raise DigitwiseError(f"{source}: the folder holds {reason}")
    if skipped.total():
        say(
            f"notice: {skipped.total():,} output{'s' * (skipped.total() > 1)} of Digitwise skipped "
            "in folders: name a file to read it"
        )


def _files(source: str, skipped: Counter[str]) -> Iterator[tuple[str, int | None, int | None]]:
    """Yield a source's files: address, size in bytes and, for Parquet, number of rows.

    Outputs of Digitwise are counted in `skipped` instead, unless the source is the file itself.
    Only local files are checked: opening each file of a remote archive would take hours.
    """
    system, path = open_address(source)
    _, *chain = source.split("::", 1)  # such as the archive that the files lie in
    try:
        for name, size in _named(system, path, source):
            is_local = isinstance(system, LocalFileSystem)
            if is_local and _is_output(name):
                if name != path:
                    skipped[source] += 1
                    continue
                say(f"notice: {name} is an output of Digitwise: its labels are read as well")
            address = name if is_local else "::".join([system.unstrip_protocol(name), *chain])
            yield address, size, _rows(system, name) if _is_parquet(name) else None
    except FileNotFoundError as error:
        raise DigitwiseError(f"{source}: no such file or folder") from error
    except OSError as error:
        raise DigitwiseError(f"{source}: cannot be listed: {error}") from error


def _named(system: Any, path: str, source: str) -> Iterator[tuple[str, int | None]]:
    """Finds what a path, or a pattern of paths, names: files and, in folders, pictures."""
    names = [path]
    if has_magic(path) and not system.exists(path):
        names = sorted(system.glob(path))
        if not names:
            raise DigitwiseError(f"{source}: nothing has such a name")
    for name in names:
        if system.isdir(name):
            yield from _walk(system, name)
        else:
            yield name, system.info(name)["size"]


def _walk(system: Any, folder: str) -> Iterator[tuple[str, int | None]]:
    """Goes through a folder's pictures and those of the folders in it, by name."""
    for entry in sorted(system.ls(folder, detail=True), key=lambda entry: str(entry["name"])):
        path = PurePosixPath(entry["name"])
        if entry["type"] == "directory":
            yield from _walk(system, entry["name"])
        elif path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith("."):
            yield entry["name"], entry["size"]


def _is_output(path: str) -> bool:
    """Return whether Digitwise wrote a local file: a drawing, or rows of text."""
    if not _is_parquet(path):
        return is_marked(Path(path))
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return False
    return metadata.get(b"Software") == MARK.encode()


def _is_parquet(path: str) -> bool:
    """Tells by its name whether a file holds rows of images."""
    return path.lower().endswith(".parquet")


def _rows(system: Any, path: str) -> int:
    """Counts a Parquet file's rows, sure that it holds images."""
    try:
        with system.open(path, "rb") as opened, pq.ParquetFile(opened) as file:
            _image_column(file.schema_arrow, path)
            return int(file.metadata.num_rows)
    except pa.ArrowInvalid as error:
        raise DigitwiseError(f"{path}: not a Parquet file that can be read") from error


def _file(folder: Path, number: int) -> Path:
    """Names a file of the listing."""
    return folder / f"{number:05}.parquet"


def _batched(items: Iterator[Input], size: int) -> Iterator[list[Input]]:
    """Parts inputs into lists of one size, the last perhaps shorter."""
    while batch := list(itertools.islice(items, size)):
        yield batch


def _image_column(schema: pa.Schema, path: str) -> str:
    """Finds the column that holds images' bytes, by themselves or as a struct's `bytes`.

    Raises:
        DigitwiseError: no column does.
    """
    for name in _IMAGE_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                kind = kind.field("bytes").type
            if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                return name
    raise DigitwiseError(
        f"{path}: no column of images: name it {', '.join(_IMAGE_COLUMNS[:-1])} or "
        f"{_IMAGE_COLUMNS[-1]}, of bytes"
    )

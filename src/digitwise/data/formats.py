"""IDX, NPZ, NPY, CSV, a folder of images per class → arrays. Bad files are turned away here."""

import contextlib
import csv
import gzip
import hashlib
import io
import itertools
import math
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Integer, Shaped, UInt8

from digitwise.data.images import PICTURE_SUFFIXES, open_picture
from digitwise.data.layout import find_layout
from digitwise.data.mapped import Images, chunks, convert_images
from digitwise.data.normalization import SIDE, fit_all_to_mnist, fit_to_mnist, ink_bright, lift_ink
from digitwise.errors import DigitwiseError, machine_error
from digitwise.messages import say, warnings_ignored
from digitwise.storage import is_marked

_UNSIGNED_BYTE = 0x08
_PIECE = 32 * 2**20  # bytes read at a time
_LABEL_NAMES = frozenset({"class", "digit", "label", "labels", "target", "y"})  # of a CSV's column
_MOST_LABEL = 99  # largest label in the last column of a CSV without a header
_REPEATS_MORE = 0.2  # share of rows by which a corner pixel repeats more than labels do
_FAR_BELOW = 127  # if no pixel is above this value, the range is not 0–255
_ARFF = "ARFF is not supported: convert it to CSV, as with pandas' to_csv(index=False)"


class LabeledImages(NamedTuple):
    """Images and their labels.

    Attributes:
        x: uint8 in [0, 255], ink bright; an array, or `MappedImages` where they stay on disk.
        y: uint8 labels, indices into the classes.
    """

    x: UInt8[Images, "n h w"]
    y: UInt8[np.ndarray, " n"]


@dataclass(frozen=True)
class Contents:
    """What a data path holds.

    Attributes:
        train: its training set, or its only set, or None.
        test: its test set, or None.
        classes: the labels' names, where the format has them.
    """

    train: LabeledImages | None
    test: LabeledImages | None
    classes: tuple[str, ...] | None = None


def read_path(path: str | Path) -> Contents:
    """Reads a data set in any of the formats, told apart by what is there.

    Digits that are clearly stored transposed, turned or with dark ink are converted, and so are
    pixels whose largest value is far below 255; a notice says so, and counts blank images.

    Args:
        path: a folder of IDX files (gzipped or not), an `.npz`, a folder of `.npy` files, a CSV
            (gzipped or not), a folder with `*_train.csv` and `*_test.csv`, or a folder of images
            per class, with or without `train/` and `test/` above them.

    Returns:
        Images of 28×28: other sizes are converted by `fit_to_mnist`. The arrays are writable,
        except images in `.npy` files, which stay on disk.

    Raises:
        DigitwiseError: the path is not there or holds nothing readable, or a file in it is
            damaged or has the wrong contents.
    """
    path = Path(path)
    with readable(path):
        contents = _read_any(path)
        if contents.train is None and contents.test is None:
            raise DigitwiseError(f"{path}: holds no images")
        train, test = (
            part and _as_mnist(f"{path}{name}", part, contents.classes)
            for part, name in ((contents.train, ""), (contents.test, ", test set"))
        )
    return Contents(train, test, contents.classes)


def read_as_stored(path: Path) -> Contents:
    """Read a dataset in any of the formats, without converting images: see `read_path`."""
    with readable(path):
        return _read_any(path)


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the operating system's errors while a path is read into ours.

    Raises:
        DigitwiseError: the path cannot be read.
        MachineError: permission is missing.
    """
    try:
        yield
    except PermissionError as error:
        raise machine_error(f"read {error.filename or path}", error) from error
    except OSError as error:
        raise DigitwiseError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read_any(path: Path) -> Contents:
    """Choose the reader for a path."""
    if not path.exists():
        raise DigitwiseError(f"{path}: no such file or folder")
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise DigitwiseError(f"{path}: neither a file nor a folder")
    if path.suffix.lower() == ".npz":
        return read_npz(path)
    if _is_csv(path):
        return Contents(read_csv(path), None)
    if path.suffix.lower() == ".arff":
        raise DigitwiseError(f"{path}: {_ARFF}")
    if "idx" in path.name:
        raise DigitwiseError(f"{path}: give the folder that holds the IDX files, {path.parent}")
    raise DigitwiseError(
        f"{path}: not a known format: give a folder of IDX files, an .npz, a .csv, "
        "or a folder of images per class"
    )


def _read_folder(folder: Path) -> Contents:
    """Tells what kind of data set a folder is, and reads it."""
    files = sorted(entry for entry in folder.iterdir() if entry.is_file())
    if any(_idx_role(file) for file in files):
        return read_idx_folder(folder)
    tables = [file for file in files if _is_csv(file)]
    if tables:
        return _read_csv_folder(folder, tables)
    if any(file.suffix.lower() == ".npy" for file in files):
        return read_npy_folder(folder)
    archives = [file for file in files if file.suffix.lower() == ".npz"]
    if len(archives) == 1:
        return read_npz(archives[0])
    if len(archives) > 1:
        raise DigitwiseError(f"{folder}: holds {len(archives)} .npz files: name one of them")
    if any(file.suffix.lower() == ".arff" for file in files):
        raise DigitwiseError(f"{folder}: {_ARFF}")
    return read_image_folder(folder)


# IDX


def read_idx_folder(folder: Path) -> Contents:
    """Read the two or four IDX files of a folder, as MNIST and EMNIST are published.

    Args:
        folder: holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the `t10k-` pair,
            or one of the pairs; each gzipped (`.gz`) or not; `images.idx3` is read as well, and so
            are EMNIST's names, such as `emnist-digits-train-images-idx3-ubyte`.

    Raises:
        DigitwiseError: a file is damaged, its partner is missing, their counts differ, or the
            folder holds several data sets.
    """
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    # A plain file is preferred to its gzipped twin: it is listed last and takes the place.
    for file in sorted(folder.iterdir(), key=lambda file: (file.suffix.lower() != ".gz", file)):
        role = _idx_role(file)
        if role and file.is_file():
            sets.setdefault(role[0], {})[role[1:]] = file
    named = sorted(name.rstrip("-") for name in sets if name)
    if len(named) > 1 and "" not in sets:
        raise DigitwiseError(
            f"{folder}: holds {len(named)} data sets ({', '.join(named)}): move one into a folder "
            "of its own"
        )
    found = sets.get("") or next(iter(sets.values()), {})
    if named and "" in sets:
        say(f"notice: {folder}: read the IDX files named as MNIST's, not {', '.join(named)}")
    return Contents(
        _read_idx_pair(folder, found, "train"),
        _read_idx_pair(folder, found, "t10k"),
    )


def _idx_role(file: Path) -> tuple[str, str, str] | None:
    """Parse an IDX file's name into data set, part and contents, such as ("", t10k, labels)."""
    named = re.fullmatch(
        r"(.*-)?(train|t10k|test)-(images|labels)[-.]idx[13]-ubyte(\.gz)?", file.name, re.I
    )
    if not named:
        return None
    return named[1] or "", "train" if named[2].lower() == "train" else "t10k", named[3].lower()


def _read_idx_pair(
    folder: Path, found: dict[tuple[str, str], Path], part: str
) -> LabeledImages | None:
    """Reads the images and labels of one part, None where neither is there."""
    images, labels = found.get((part, "images")), found.get((part, "labels"))
    if images is None and labels is None:
        return None
    if images is None or labels is None:
        missing = "labels" if labels is None else "images"
        raise DigitwiseError(f"{folder}: the {part} {missing} file is missing beside its partner")
    x, y = read_idx(images, dimensions=3), read_idx(labels, dimensions=1)
    if len(x) != len(y):
        raise DigitwiseError(f"{labels}: {len(y)} labels for the {len(x)} images of {images.name}")
    return _labeled(images, x, y)


def read_idx(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Reads one IDX file of unsigned bytes.

    The format is described at MNIST's home page: two zero bytes, a type code, the number of
    dimensions, each dimension as a big-endian 32-bit number, then the values.

    Args:
        path: the file, gzipped where its name ends in `.gz`.
        dimensions: how many it must have: 3 for images, 1 for labels.

    Raises:
        DigitwiseError: it is no IDX file, is cut short, is too long, or is no gzip file.
    """
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            return _parse_idx(path, file, dimensions)
    except gzip.BadGzipFile as error:
        raise DigitwiseError(f"{path}: not a gzip file, though named .gz: fetch it anew") from error
    except (EOFError, zlib.error) as error:
        raise DigitwiseError(f"{path}: the gzip data is cut short or damaged: fetch it anew") from (
            error
        )


def _parse_idx(path: Path, file: io.BufferedIOBase, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """Reads header and values, no more than the header announces and one byte."""
    magic = file.read(4)
    expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if magic != expected:
        raise DigitwiseError(
            f"{path}: not an IDX file of {'images' if dimensions == 3 else 'labels'}: "
            f"begins with {magic.hex() or 'nothing'} instead of {expected.hex()}"
        )
    header = file.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DigitwiseError(f"{path}: cut short inside its header: fetch it anew")
    shape = struct.unpack(f">{dimensions}I", header)
    announced = math.prod(shape)
    values = _read_up_to(file, announced)
    if len(values) < announced:
        raise DigitwiseError(
            f"{path}: cut short: {len(values)} of {announced} bytes: fetch it anew"
        )
    if file.read(1):
        raise DigitwiseError(f"{path}: longer than its header says ({announced} bytes)")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read_up_to(file: io.BufferedIOBase, count: int) -> bytearray:
    """Read the bytes that a header announces in chunks, so that a wrong count wastes no memory."""
    values = bytearray()  # an array over it is writable, unlike one over bytes
    while len(values) < count and (piece := file.read(min(count - len(values), _PIECE))):
        values += piece
    return values


def idx_bytes(array: UInt8[Images, "..."]) -> Iterator[bytes | memoryview]:
    """Yield an array as an IDX file holds it, header first; digests are taken over this.

    Args:
        array: uint8, of any shape; images on disk are read a few thousand at a time.
    """
    yield struct.pack(f">4B{array.ndim}I", 0, 0, _UNSIGNED_BYTE, array.ndim, *array.shape)
    for chunk in chunks(array):
        yield np.ascontiguousarray(chunk).data.cast("B")


def idx_digest(array: UInt8[Images, "..."]) -> str:
    """Return the SHA-256 of an array as an uncompressed IDX file holds it, in hexadecimal."""
    digest = hashlib.sha256()
    for chunk in idx_bytes(array):
        digest.update(chunk)
    return digest.hexdigest()


# NPZ


def read_npz(path: Path) -> Contents:
    """Reads an `.npz` with `x_train, y_train, x_test, y_test`, or one of the pairs.

    Raises:
        DigitwiseError: it is no such file, a key is missing, or an array is pickled or has the
            wrong dtype or shape.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            train = _pair(path, archive, "train")
            test = _pair(path, archive, "test")
            keys = ", ".join(archive.files)
    except (
        zipfile.BadZipFile,
        EOFError,
        zlib.error,
        AttributeError,
        TypeError,
        MemoryError,
        OverflowError,
    ) as error:
        raise DigitwiseError(f"{path}: not a whole .npz file") from error
    except ValueError as error:
        raise DigitwiseError(
            f"{path}: holds pickled objects or damaged arrays; only plain arrays are read"
        ) from error
    if train is None and test is None:
        raise DigitwiseError(
            f"{path}: needs the arrays x_train and y_train, x_test and y_test, or one of the "
            f"pairs; it has {keys or 'none'}"
        )
    return Contents(train, test)


def read_npy_folder(folder: Path) -> Contents:
    """Reads `x_train.npy` and `y_train.npy`, `x_test.npy` and `y_test.npy`, or one of the pairs.

    The images stay on disk, mapped into memory, so that there may be more than memory holds.

    Raises:
        DigitwiseError: as `read_npz`.
    """
    arrays = {}
    for file in sorted(folder.glob("[xy]_*.npy")):
        try:
            arrays[file.stem] = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise DigitwiseError(
                f"{file}: damaged, or pickled objects: plain arrays are read"
            ) from error
    train, test = _pair(folder, arrays, "train"), _pair(folder, arrays, "test")
    if train is None and test is None:
        raise DigitwiseError(
            f"{folder}: needs x_train.npy and y_train.npy, x_test.npy and y_test.npy, or one of "
            "the pairs"
        )
    return Contents(train, test)


def _pair(
    path: Path, archive: "np.lib.npyio.NpzFile | dict[str, np.ndarray]", part: str
) -> LabeledImages | None:
    """Takes the images and labels of one part from arrays by name, None where neither is there."""
    names = (f"x_{part}", f"y_{part}")
    missing = [name for name in names if name not in set(archive)]
    if len(missing) == 2:
        return None
    if missing:
        raise DigitwiseError(f"{path}: the array {missing[0]} is missing")
    x, y = archive[names[0]], archive[names[1]]
    if x.dtype.kind == "f" and np.isnan(x).any():
        raise DigitwiseError(f"{path}: {names[0]} holds NaN pixels: they must be uint8 in 0–255")
    if x.dtype != np.uint8:
        raise DigitwiseError(f"{path}: {names[0]} is {x.dtype}: pixels must be uint8 in 0–255")
    if x.ndim == 4 and x.shape[-1] == 1:
        x = x[..., 0]
    if x.ndim != 3:
        raise DigitwiseError(
            f"{path}: {names[0]} has the shape {x.shape}: it must be (n, height, width)"
        )
    if y.dtype.kind not in "iu" or y.ndim != 1:
        raise DigitwiseError(
            f"{path}: {names[1]} is {y.dtype} of shape {y.shape}: labels must be whole numbers "
            "of shape (n,)"
        )
    if len(x) != len(y):
        raise DigitwiseError(f"{path}: {len(x)} images in {names[0]}, {len(y)} in {names[1]}")
    return _labeled(path, x, y)


# CSV


def _is_csv(path: Path) -> bool:
    """Check by its name whether a file is a CSV, gzipped or not; UCI's are named .tra and .tes."""
    return path.name.lower().removesuffix(".gz").endswith((".csv", ".tra", ".tes"))


def _read_csv_folder(folder: Path, tables: list[Path]) -> Contents:
    """Reads `*_train.csv` and `*_test.csv`, or the only CSV of a folder."""
    patterns = r"((^|[_-])train\.csv|\.tra)(\.gz)?$", r"((^|[_-])test\.csv|\.tes)(\.gz)?$"
    train, test = (
        [file for file in tables if re.search(pattern, file.name, re.I)] for pattern in patterns
    )
    if len(tables) == 1 and not train and not test:
        train = tables
    if len(train) > 1 or len(test) > 1 or not (train or test):
        names = ", ".join(file.name for file in tables)
        raise DigitwiseError(
            f"{folder}: expected one *_train.csv and one *_test.csv, found {names}"
        )
    return Contents(
        read_csv(train[0]) if train else None,
        read_csv(test[0]) if test else None,
    )


def read_csv(path: Path) -> LabeledImages:
    """Read a CSV with one image per row: a label and the pixels of a square image.

    The label's column is the one that the header names label, class, digit, target or y.
    Otherwise it is the first, or the last if the values of the first look like a corner pixel.

    Args:
        path: the file, gzipped where its name ends in `.gz`; a header row is skipped.

    Raises:
        DigitwiseError: a row is short, holds something that is no whole number, or a value out
            of range; the message names the line.
    """
    try:
        header = _csv_header(path)
        with _open_csv(path) as file, warnings_ignored():  # an empty file is reported below
            table = np.loadtxt(
                file, np.int16, delimiter=",", skiprows=int(bool(header)), ndmin=2, quotechar='"'
            )
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DigitwiseError(f"{path}: the gzip data is cut short or damaged") from error
    except UnicodeDecodeError as error:
        raise DigitwiseError(f"{path}: not a text file") from error
    except (ValueError, OverflowError) as error:
        raise _csv_fault(path) from error
    if table.size == 0:
        raise DigitwiseError(f"{path}: holds no rows")
    side = math.isqrt(table.shape[1] - 1)
    if side == 0 or side * side != table.shape[1] - 1:
        raise DigitwiseError(
            f"{path}: {table.shape[1]} columns a row: expected a label and the pixels of a "
            "square image, such as 1 + 784"
        )
    column = _label_column(header, table)
    if table.min() < 0 or table.max() > 255:
        raise _csv_fault(path, column)
    if column:
        where = "the last column" if column == side * side else f"column {column + 1}"
        say(f"notice: {path}: labels taken from {where}")
    x = np.delete(table, column, axis=1).astype(np.uint8).reshape(-1, side, side)
    return _labeled(path, x, table[:, column])


def _csv_header(path: Path) -> list[str]:
    """Return the column names in a header row; none if the first row is an image.

    A header begins with a word, or numbers its columns as pandas does.
    """
    with _open_csv(path) as file:
        cells = [cell.strip().strip("\"'").lower() for cell in file.readline().split(",")]
    first = cells[0]
    if [*map(str, range(len(cells)))] == cells and len(cells) > 2:
        return cells
    return [] if re.fullmatch(r"[-+]?[\d.]+|", first) or len(first) == 1 else cells


def _label_column(header: list[str], table: Integer[np.ndarray, "n columns"]) -> int:
    """Find the column that holds the labels, by its name or else by its values.

    Labels are small and varied, whereas a corner pixel has the background's value in most rows.
    """
    named = [number for number, name in enumerate(header) if name in _LABEL_NAMES]
    if len(named) == 1 and len(header) == table.shape[1]:
        return named[0]
    first, last = (
        np.unique(table[:, column], return_counts=True)[1].max() / len(table) for column in (0, -1)
    )
    may_be_labels = table[:, -1].min() >= 0 and table[:, -1].max() <= _MOST_LABEL
    return table.shape[1] - 1 if may_be_labels and first > last + _REPEATS_MORE else 0


def _open_csv(path: Path) -> io.TextIOBase:
    """Opens a CSV as text, gzipped or not."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv_fault(path: Path, label_column: int = 0) -> DigitwiseError:
    """Find the first row that could not be read, and say what is wrong with it."""
    with _open_csv(path) as file:
        first = file.readline()
        for separator, name in ((";", "semicolons"), ("\t", "tabs")):
            if first.count(separator) > first.count(","):
                return DigitwiseError(f"{path}: the columns are parted by {name}: use commas")
        file.seek(0)
        rows = csv.reader(file)
        skipped = int(bool(_csv_header(path)))
        columns = 0
        for number, row in enumerate(itertools.islice(rows, skipped, None), skipped + 1):
            columns = columns or len(row)
            if row and len(row) != columns:
                return DigitwiseError(
                    f"{path}, line {number}: {len(row)} columns, the rows before have {columns}"
                )
            for column, value in enumerate(row, 1):
                what = "label" if column == label_column + 1 else "pixel"
                shown = value.strip()[:20]
                if not re.fullmatch(r"\s*[-+]?[0-9]+\s*", value):
                    return DigitwiseError(
                        f"{path}, line {number}, column {column}: the {what} '{shown}' is no "
                        "whole number"
                    )
                if len(value.strip()) > len(shown) or not 0 <= int(value) <= 255:
                    return DigitwiseError(
                        f"{path}, line {number}, column {column}: the {what} {shown} is "
                        "out of range: 0–255"
                    )
    return DigitwiseError(f"{path}: cannot be read as rows of whole numbers")


# A folder of images per class


def read_image_folder(folder: Path) -> Contents:
    """Read a folder with one folder of image files per class.

    Images are decoded as for reading (`digitwise.data.images`): upright by their EXIF orientation,
    any bit depth, transparent parts on the paper that shows their ink.

    Args:
        folder: holds a folder per class, named for it; or `train/` and `test/`, or one of the
            two, each with such folders.

    Returns:
        The images with bright ink, whatever the files' polarity; classes in numeric order if all
        names are numbers, otherwise in alphabetical order. A notice lists ignored files, which are
        not images in class folders.

    Raises:
        DigitwiseError: there are no images, or a file is empty, damaged, a PDF, or not an image
            despite its name.
    """
    parts = {part: folder / part for part in ("train", "test") if (folder / part).is_dir()}
    roots = list(parts.values()) or [folder]
    classes = _class_names(roots)
    if not classes:
        raise DigitwiseError(
            f"{folder}: holds no IDX files, no .npz, no .csv and no folders of images per class"
        )
    if len(classes) > 256:
        raise DigitwiseError(f"{folder}: {len(classes)} folders of classes: at most 256 are read")
    read, notices = {}, Counter[str]()
    for part in parts or ("",):
        read[part] = _read_classes(folder / part, classes, notices)
    for notice, count in notices.items():
        say(f"notice: {folder}: {count} of the images: {notice}")
    _report_ignored(folder, {folder, *roots}, classes)
    if not parts:
        return Contents(read[""], None, classes)
    return Contents(read.get("train"), read.get("test"), classes)


def _class_names(folders: list[Path]) -> tuple[str, ...]:
    """List the folders' subfolders that hold images, in the order of their labels.

    Raises:
        DigitwiseError: two names are the same number, such as 1 and 01: the order is ambiguous.
    """
    names = {
        entry.name
        for folder in folders
        for entry in folder.iterdir()
        if entry.is_dir() and not entry.name.startswith(".") and _image_files(entry)
    }
    ordered = sorted(names)
    if not all(name.isdecimal() for name in names):
        return tuple(ordered)
    ordered.sort(key=int)
    for name, following in itertools.pairwise(ordered):
        if int(name) == int(following):
            parent = next(folder for folder in folders if (folder / name).is_dir())
            raise DigitwiseError(
                f"{parent / name}: the same number as the folder {following}: rename one of them, "
                "or move its images into the other"
            )
    return tuple(ordered)


def _image_files(folder: Path) -> list[Path]:
    """Lists a folder's image files by name."""
    return sorted(file for file in folder.iterdir() if _is_image(file))


def _is_image(file: Path) -> bool:
    """Check by its name whether a file is an image."""
    return (
        file.suffix.lower() in PICTURE_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )


def _report_ignored(folder: Path, roots: set[Path], classes: tuple[str, ...]) -> None:
    """Print one notice about the files and folders that were ignored."""
    class_folders = {root / name for root in roots for name in classes}
    ignored = sorted(
        entry.relative_to(folder)
        for place in sorted(roots | class_folders)
        if place.is_dir()
        for entry in place.iterdir()
        if entry not in roots
        and entry not in class_folders
        and not entry.name.startswith(".")
        and not (place in class_folders and _is_image(entry))
    )
    if ignored:
        more = f" and {len(ignored) - 3:,} more" if len(ignored) > 3 else ""
        say(
            f"notice: {folder}: ignored, because they are not images in class folders: "
            f"{', '.join(map(str, ignored[:3]))}{more}"
        )


def _read_classes(folder: Path, classes: tuple[str, ...], notices: Counter[str]) -> LabeledImages:
    """Read the images of all class folders at 28×28, and count notices for the user."""
    images, labels = [], []
    for label, name in enumerate(classes):
        files = _image_files(folder / name) if (folder / name).is_dir() else []
        drawings = [file for file in files if is_marked(file)]
        if drawings:
            notices["skipped as drawings by Digitwise"] += len(drawings)
            files = [file for file in files if file not in drawings]
        images += [_read_image(file, notices) for file in files]
        labels += [label] * len(files)
    if not images:
        raise DigitwiseError(f"{folder}: holds no images")
    return _labeled(folder, np.stack(images), np.array(labels))


def _read_image(path: Path, notices: Counter[str]) -> UInt8[np.ndarray, "28 28"]:
    """Decode the image of one character, and convert it to 28×28 if needed."""
    if path.suffix.lower() == ".pdf":
        raise DigitwiseError(f"{path}: a PDF in a class folder: save each digit as an image")
    picture = open_picture(path)
    if picture.pages > 1:
        notices["only the first page was read"] += 1
    if picture.notice:
        notices[picture.notice] += 1
    pixels = picture.pixels
    is_gray = pixels.strides[2] == 0  # one channel, shown three times
    gray = pixels[..., 0].copy() if is_gray else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    gray = ink_bright(gray)
    ink = lift_ink(gray)
    return gray if ink is gray and gray.shape == (SIDE, SIDE) else fit_to_mnist(ink)


# Common to the formats


def _labeled(
    path: Path, x: Shaped[np.ndarray, "n h w"], y: Integer[np.ndarray, " n"]
) -> LabeledImages:
    """Pairs images with labels once both are known to be sound."""
    if not len(x) or not x[0].size:
        raise DigitwiseError(f"{path}: holds no images")
    if y.min() < 0 or y.max() > 255:
        raise DigitwiseError(f"{path}: labels must lie in 0–255: found {y.min()} to {y.max()}")
    return LabeledImages(x, y.astype(np.uint8))


def _as_mnist(name: str, images: LabeledImages, classes: tuple[str, ...] | None) -> LabeledImages:
    """Convert images to MNIST's format: upright, bright ink, 0–255, 28×28; report changes."""
    x = images.x
    top = max(int(chunk.max()) for chunk in chunks(x))
    if 0 < top <= _FAR_BELOW:
        say(f"notice: {name}: pixels are 0–{top}: scaled to 0–255")
        brightened = np.rint(np.arange(top + 1) * (255 / top)).astype(np.uint8)
        x = convert_images(x, lambda values: brightened[values])
    layout = find_layout(x, images.y, classes)
    if layout is not None:
        say(
            f"notice: {name}: the images are stored {layout.description}: converted (the "
            f"pretrained network recognizes {layout.accuracy:.0%} of a sample then, "
            f"{layout.stored_accuracy:.0%} as stored)"
        )
        x = convert_images(x if x.shape[1] == x.shape[2] else np.asarray(x), layout.undo)
    if x.shape[1:] != (SIDE, SIDE):
        x = fit_all_to_mnist(x)
    blank = sum(
        int((_flat(chunk).max(axis=1) == _flat(chunk).min(axis=1)).sum()) for chunk in chunks(x)
    )
    if blank:
        say(f"notice: {name}: {blank:,} of {len(x):,} images are blank: they have no ink")
    return LabeledImages(x, images.y)


def _flat(x: UInt8[np.ndarray, "n h w"]) -> UInt8[np.ndarray, "n pixels"]:
    """Return each image as one row."""
    return x.reshape(len(x), -1)

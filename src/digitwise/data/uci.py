"""Read handwritten digits in the formats in which the UCI repository publishes them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from digitwise.data.catalog import CatalogEntry
from digitwise.data.formats import LabeledImages, idx_digest, read_as_stored, readable
from digitwise.data.normalization import fit_all_to_mnist
from digitwise.errors import DigitwiseError, missing_extra

_CLASSES = 10
_SEMEION_SIDE = 16
_FEATURES_SHAPE, _FEATURES_MAX, _FEATURES_PER_CLASS = (16, 15), 6, 200
_BITMAP_SIDE = 32


def read_published(entry: CatalogEntry, folder: Path) -> LabeledImages:
    """Read a set in its published format, or from an `.npz` with the same arrays, and verify it.

    Args:
        entry: a set whose files are not in IDX format.
        folder: contains the files or the `.npz`.

    Returns:
        All of its images as (n, 28, 28), converted by `fit_to_mnist`, with their labels.

    Raises:
        DigitwiseError: a file is missing or damaged, or the arrays are not the published ones.
        MachineError: permission to read a file is missing.
    """
    assert entry.array_digests is not None
    paths = [_present(folder, file.name) for file in entry.files]
    found = [path for path in paths if path is not None]
    if found and len(found) < len(paths):
        names = ", ".join(file.name for file in entry.files)
        raise DigitwiseError(f"{folder}: contains only part of {entry.name}: add all of {names}")
    stored = _READERS[entry.name](found) if found else read_as_stored(folder).train
    if stored is None:
        raise DigitwiseError(f"{folder}: has no training set: add x_train and y_train")
    digests = {"x_train": idx_digest(stored.x), "y_train": idx_digest(stored.y)}
    wrong = [name for name, digest in entry.array_digests.items() if digests[name] != digest]
    if wrong:
        raise DigitwiseError(
            f"{folder}: not {entry.name} as published (differs in {', '.join(wrong)}): give the "
            "folder as --data to use it under another name, or replace its files"
        )
    return LabeledImages(fit_all_to_mnist(stored.x), stored.y)


def _present(folder: Path, name: str) -> Path | None:
    """Return the path of a published file, compressed or not; None if it is missing."""
    candidates = (folder / name, folder / name.removesuffix(".Z"))
    return next((path for path in candidates if path.is_file()), None)


def read_semeion(paths: Sequence[Path]) -> LabeledImages:
    """Read `semeion.data`: a line per digit of 256 pixels, 0 or 1, and a one-hot label.

    Args:
        paths: the file.

    Returns:
        (n, 16, 16) uint8, 0 or 255, and labels.

    Raises:
        DigitwiseError: a row is malformed; the message gives its line.
    """
    pixels = _SEMEION_SIDE**2
    rows = _table(paths[0], pixels + _CLASSES, 1)
    one_hot = rows[:, pixels:]
    bad = np.flatnonzero(one_hot.sum(axis=1) != 1)
    if len(bad):
        raise _malformed(paths[0], int(bad[0]), f"the last {_CLASSES} values are not one-hot")
    x = (rows[:, :pixels] * 255).reshape(-1, _SEMEION_SIDE, _SEMEION_SIDE)
    return LabeledImages(x, one_hot.argmax(axis=1).astype(np.uint8))


def read_multiple_features(paths: Sequence[Path]) -> LabeledImages:
    """Read `mfeat-pix`: a line per digit of 240 pixel averages, 0 to 6; 200 digits per class.

    Args:
        paths: the file.

    Returns:
        (2000, 16, 15) uint8 in [0, 255], and labels.

    Raises:
        DigitwiseError: a row is malformed, or the number of rows is wrong.
    """
    height, width = _FEATURES_SHAPE
    rows = _table(paths[0], height * width, _FEATURES_MAX)
    if len(rows) != _CLASSES * _FEATURES_PER_CLASS:
        raise DigitwiseError(
            f"{paths[0]}: truncated: has {len(rows):,} rows instead of "
            f"{_CLASSES * _FEATURES_PER_CLASS:,}: download it again"
        )
    x = np.rint(rows * (255 / _FEATURES_MAX)).astype(np.uint8).reshape(-1, height, width)
    return LabeledImages(x, np.repeat(np.arange(_CLASSES, dtype=np.uint8), _FEATURES_PER_CLASS))


def read_optdigits(paths: Sequence[Path]) -> LabeledImages:
    """Read `optdigits-orig` files: after a header, 32 lines of 32 bits and a label per digit.

    Args:
        paths: the files, `.Z` or uncompressed.

    Returns:
        (n, 32, 32) uint8, 0 or 255, and labels, file by file.

    Raises:
        DigitwiseError: a file is damaged; the message gives the line.
    """
    parts = [_read_bitmaps(path) for path in paths]
    return LabeledImages(
        np.concatenate([part.x for part in parts]), np.concatenate([part.y for part in parts])
    )


def _read_bitmaps(path: Path) -> LabeledImages:
    """Read one `optdigits-orig` file."""
    lines = [line.strip() for line in _text(path).splitlines()]

    def is_bitmap_row(line: str) -> bool:
        return len(line) == _BITMAP_SIDE and not line.strip("01")

    first = next((number for number, line in enumerate(lines) if is_bitmap_row(line)), None)
    if first is None:
        raise DigitwiseError(f"{path}: contains no bitmaps: download it again")
    while lines and not lines[-1]:
        lines.pop()
    x, y = [], []
    for start in range(first, len(lines), _BITMAP_SIDE + 1):
        bitmap = lines[start : start + _BITMAP_SIDE]
        for number, line in enumerate(bitmap, start):
            if not is_bitmap_row(line):
                raise _malformed(path, number, f"not {_BITMAP_SIDE} zeros and ones")
        label = start + _BITMAP_SIDE
        if label >= len(lines):
            raise _malformed(path, len(lines) - 1, "the file is truncated after it")
        if len(lines[label]) != 1 or not lines[label].isdecimal():
            raise _malformed(path, label, "not a label from 0 to 9")
        x.append(np.frombuffer("".join(bitmap).encode(), np.uint8) - ord("0"))
        y.append(int(lines[label]))
    return LabeledImages(
        np.stack(x).reshape(-1, _BITMAP_SIDE, _BITMAP_SIDE) * np.uint8(255), np.array(y, np.uint8)
    )


def _table(path: Path, columns: int, most: int) -> UInt8[np.ndarray, "n columns"]:
    """Read rows of whole numbers from 0 to `most`, separated by spaces."""
    rows = []
    for number, line in enumerate(_text(path).splitlines()):
        fields = line.split()
        if not fields:
            continue
        try:
            row = np.array(fields, np.float64)
        except ValueError:
            raise _malformed(path, number, "a value is not a number") from None
        if len(row) != columns:
            raise _malformed(path, number, f"has {len(row)} values instead of {columns}")
        if not (np.isin(row, np.arange(most + 1))).all():
            raise _malformed(path, number, f"a value is not one of 0 to {most}")
        rows.append(row.astype(np.uint8))
    if not rows:
        raise DigitwiseError(f"{path}: contains no rows: download it again")
    return np.stack(rows)


def _text(path: Path) -> str:
    """Return a file's text, decompressed if it is a `.Z` file."""
    with readable(path):
        content = path.read_bytes()
    if path.suffix == ".Z":
        try:
            import unlzw3
        except ImportError as error:
            raise missing_extra("reading .Z files", "train") from error
        try:
            content = unlzw3.unlzw(content)
        except (ValueError, IndexError) as error:
            raise DigitwiseError(f"{path}: damaged: download it again") from error
    return content.decode("latin-1")


def _malformed(path: Path, number: int, fault: str) -> DigitwiseError:
    """Return an error about a line, whose number counts from 0."""
    return DigitwiseError(f"{path}, line {number + 1}: {fault}: download the file again")


_READERS: dict[str, Callable[[Sequence[Path]], LabeledImages]] = {
    "semeion": read_semeion,
    "multiple-features": read_multiple_features,
    "optdigits": read_optdigits,
}

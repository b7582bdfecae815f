"""The sets of the UCI repository are read in their own formats, verified, and downloaded."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import digitwise as dw
from digitwise.data import download
from digitwise.data.catalog import CATALOG
from digitwise.data.formats import LabeledImages, read_as_stored
from digitwise.data.loading import load_dataset
from digitwise.data.uci import read_published
from digitwise.errors import DigitwiseError, MachineError
from tests.conftest import PATIENCE, given_data
from tests.data.test_download import Mirror

NAMES = ["semeion", "multiple-features", "optdigits"]
TRAINING_PART = 1934  # bitmaps of optdigits-orig.tra; the rest are those of optdigits-orig.cv
Files = dict[str, bytes]


def _stored(name: str) -> LabeledImages:
    """Read a set's arrays as they are published."""
    train = read_as_stored(given_data(name)).train
    assert train is not None
    return train


def _semeion() -> Files:
    x, y = _stored("semeion")
    rows = np.column_stack([x.reshape(len(x), -1) // 255, np.eye(10)[y]])
    text = io.StringIO()
    np.savetxt(text, rows, "%.4f", newline=" \r\n")
    return {"semeion.data": text.getvalue().encode()}


def _multiple_features() -> Files:
    x, _ = _stored("multiple-features")
    rows = np.rint(x.reshape(len(x), -1) * (6 / 255)).astype(int)
    lines = (" ".join(f"{value:2d}" for value in row) for row in rows)
    return {"mfeat-pix": "".join(f" {line}\n" for line in lines).encode()}


def _optdigits() -> Files:
    x, y = _stored("optdigits")
    bits = (x // 255).astype("U1")
    digits = [
        "".join("".join(row) + "\n" for row in image) + f" {label}\n"
        for image, label in zip(bits, y, strict=True)
    ]
    parts = {"tra": digits[:TRAINING_PART], "cv": digits[TRAINING_PART:]}
    header = "Relation: optdigits-orig\nentwidth = 32\n\n"
    return {
        f"optdigits-orig.{part}.Z": _compressed((header + "".join(lines)).encode())
        for part, lines in parts.items()
    }


def _compressed(content: bytes) -> bytes:
    """Compress as `compress` does, without ever using its dictionary: 9 bits for each byte."""
    clear, group = 256, 239  # with the clear code, as many codes as fill whole bytes
    codes = []
    for start in range(0, len(content), group):
        codes += [*content[start : start + group], clear]
    bits = (np.array(codes)[:, np.newaxis] >> np.arange(9)) & 1
    return b"\x1f\x9d\x90" + np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


WRITERS: dict[str, Callable[[], Files]] = {
    "semeion": _semeion,
    "multiple-features": _multiple_features,
    "optdigits": _optdigits,
}


def _write(files: Files, folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Files], Mirror]]:
    """Serve files from a local mirror."""
    mirrors = []
    for patience in ("OFFLINE_AFTER", "STALLED_AFTER"):
        monkeypatch.setattr(download, patience, float(PATIENCE))

    def start(files: Files) -> Mirror:
        mirrors.append(Mirror(files))
        monkeypatch.setenv("DIGITWISE_MIRROR", mirrors[-1].address)
        return mirrors[-1]

    yield start
    for mirror in mirrors:
        mirror.server.shutdown()
        mirror.server.server_close()


@pytest.mark.parametrize("name", NAMES)
def test_a_set_is_downloaded_and_read_in_its_own_format(
    name: str, serve: Callable[[Files], Mirror]
) -> None:
    mirror = serve(WRITERS[name]())
    (x, y), (x_test, y_test) = dw.load_data(name)
    stored = _stored(name)
    assert len(x) + len(x_test) == len(stored.x)
    assert (np.bincount(y) + np.bincount(y_test) == np.bincount(stored.y)).all()
    assert x.shape[1:] == (28, 28)
    assert sorted(mirror.requests) == sorted(file.name for file in CATALOG[name].files)
    dw.load_data(name)
    assert len(mirror.requests) == len(CATALOG[name].files)  # from the cache


@pytest.mark.parametrize("name", NAMES)
def test_a_set_in_the_data_folder_is_the_same_in_both_formats(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = read_published(CATALOG[name], _write(WRITERS[name](), tmp_path / "data" / name))
    arrays = read_published(CATALOG[name], given_data(name))
    assert (native.x == arrays.x).all()
    assert (native.y == arrays.y).all()
    monkeypatch.setenv("DIGITWISE_DATA", str(tmp_path / "data"))
    assert load_dataset(name).is_published


def test_the_pretrained_network_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITWISE_DATA", str(given_data("semeion").parent))
    for name in NAMES:
        train = load_dataset(name).train
        assert train is not None
        probabilities = dw.open_bundle("pretrained").predict(dw.preprocess(*train)[0])
        assert (probabilities.argmax(axis=1) == train.y).mean() > 0.9


def _cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _letter(content: bytes) -> bytes:
    lines = content.split(b"\n")
    lines[40] = b"x" + lines[40][1:]
    return b"\n".join(lines)


def _swapped(content: bytes) -> bytes:
    first, second, rest = content.split(b"\n", 2)
    return b"\n".join([second, first, rest])


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("semeion", _cut, r"semeion\.data, line \d+: has \d+ values instead of 266"),
        ("semeion", _letter, r"semeion\.data, line 41: a value is not a number"),
        ("semeion", _swapped, r"not semeion as published \(differs in x_train\)"),
        ("semeion", lambda _: b"", r"semeion\.data: contains no rows"),
        ("multiple-features", _cut, r"mfeat-pix(, line \d+: has|: truncated)"),
        ("multiple-features", lambda c: c.replace(b"6", b"7", 1), r"not one of 0 to 6"),
        ("optdigits", lambda c: c[:5000] + bytes(50) + c[5050:], r"optdigits-orig\.\w+\.Z"),
        ("optdigits", lambda _: b"<html>", r"optdigits-orig\.tra\.Z: damaged"),
        ("optdigits", lambda c: c[: len(c) // 2], r"optdigits"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(
    name: str, damage: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    files = {file: damage(content) for file, content in WRITERS[name]().items()}
    folder = _write(files, tmp_path / name)
    with pytest.raises(DigitwiseError, match=message) as caught:
        read_published(CATALOG[name], folder)
    assert "\n" not in str(caught.value)


def test_wrong_files_from_a_mirror_are_not_kept(
    serve: Callable[[Files], Mirror],
) -> None:
    serve({"semeion.data": _swapped(_semeion()["semeion.data"])})
    with pytest.raises(DigitwiseError, match="nothing was kept"):
        dw.load_data("semeion")
    assert not list((download.cache_folder() / "semeion").iterdir())


@pytest.mark.parametrize("is_native", [True, False])
def test_a_file_that_may_not_be_read_is_the_machines_refusal(
    is_native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    folder = given_data("semeion")
    if is_native:
        folder = _write(_semeion(), tmp_path / "semeion")
    monkeypatch.setattr(Path, "read_bytes" if is_native else "open", refuse)
    with pytest.raises(MachineError, match="semeion"):
        read_published(CATALOG["semeion"], folder)


def test_a_part_of_a_set_is_refused(tmp_path: Path) -> None:
    files = _optdigits()
    del files["optdigits-orig.cv.Z"]
    with pytest.raises(DigitwiseError, match=r"contains only part of optdigits"):
        read_published(CATALOG["optdigits"], _write(files, tmp_path / "optdigits"))

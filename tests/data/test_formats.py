"""Every format gives the same digits back, and every damaged file its one clear line."""

import gzip
import os
import subprocess
import sys
from pathlib import Path

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import digitwise
from digitwise.data.formats import idx_bytes, read_idx, read_path
from digitwise.errors import DigitwiseError
from tests.conftest import write_idx, write_idx_folder

Digits = tuple[np.ndarray, np.ndarray]

in_one_folder = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def _refusal(path: Path) -> str:
    """Reads what cannot be read and returns its line."""
    with pytest.raises(DigitwiseError) as caught:
        read_path(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


# The same digits from every format


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_read(tmp_path: Path, digits: Digits, suffix: str) -> None:
    x, y = digits
    read = read_path(write_idx_folder(tmp_path / "idx", x[:50], y[:50], 10, suffix))
    assert (read.train.x == x[:40]).all()
    assert (read.test.y == y[40:50]).all()


def test_npy_files_are_read_and_stay_on_disk(tmp_path: Path, digits: Digits) -> None:
    x, y = digits
    folder = tmp_path / "arrays"
    folder.mkdir()
    np.save(folder / "x_train.npy", x[:300])
    np.save(folder / "y_train.npy", y[:300])
    contents = read_path(folder)
    assert contents.train is not None
    assert isinstance(contents.train.x, np.memmap)
    assert (contents.train.x == x[:300]).all()
    assert contents.test is None
    np.save(folder / "x_test.npy", x[300:310])
    assert "the array y_test is missing" in _refusal(folder)
    (folder / "x_train.npy").write_bytes((folder / "x_train.npy").read_bytes()[:5000])
    assert "x_train.npy: damaged" in _refusal(folder)


def test_npz_is_read_with_both_pairs_or_the_test_pair_alone(tmp_path: Path, digits: Digits) -> None:
    x, y = digits
    both = tmp_path / "both.npz"
    np.savez(both, x_train=x[:20], y_train=y[:20], x_test=x[20:30], y_test=y[20:30])
    assert (read_path(both).train.x == x[:20]).all()
    alone = tmp_path / "test.npz"
    np.savez(alone, x_test=x[:5, ..., None], y_test=y[:5].astype(np.int64))
    read = read_path(alone)
    assert read.train is None
    assert (read.test.x == x[:5]).all()


def test_csv_from_a_spreadsheet_is_read(tmp_path: Path, digits: Digits) -> None:
    text = _csv(digits[0][:3], digits[1][:3])
    quoted = "\r\n".join(",".join(f'"{v}"' for v in line.split(",")) for line in text.splitlines())
    (tmp_path / "quoted.csv").write_text("\ufeff" + quoted)
    assert (read_path(tmp_path / "quoted.csv").train.x == digits[0][:3]).all()


def test_sixteen_bit_images_keep_their_grey_values(tmp_path: Path, digits: Digits) -> None:
    for number, digit in enumerate(digits[0][:2]):
        folder = tmp_path / str(number)
        folder.mkdir()
        Image.fromarray(digit.astype(np.uint16) * 257).save(folder / "a.png")
    assert (read_path(tmp_path).train.x == digits[0][:2]).all()


@pytest.mark.parametrize(
    "header", ["", "label," + ",".join(f"pixel{i}" for i in range(784)) + "\n"]
)
@pytest.mark.parametrize("name", ["mnist_train.csv", "mnist_train.csv.gz"])
def test_csv_is_read_with_and_without_a_header(
    tmp_path: Path, digits: Digits, header: str, name: str
) -> None:
    x, y = digits
    text = header + _csv(x[:12], y[:12])
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    for source in (path, tmp_path):
        read = read_path(source)
        assert (read.train.x == x[:12]).all()
        assert (read.train.y == y[:12]).all()


def test_a_folder_of_pngs_is_read_whichever_way_its_ink_is(tmp_path: Path, digits: Digits) -> None:
    x, y = digits
    _write_images(tmp_path / "bright", x[:60], y[:60])
    _write_images(tmp_path / "dark", 255 - x[:60], y[:60])
    bright, dark = read_path(tmp_path / "bright"), read_path(tmp_path / "dark")
    assert (bright.train.x == dark.train.x).all()
    assert bright.classes == tuple(str(digit) for digit in sorted(set(y[:60])))
    first = x[:60][y[:60] == 3][0]
    assert (bright.train.x[bright.train.y == 3][0] == first).all()


def test_train_and_test_folders_share_their_classes(tmp_path: Path, digits: Digits) -> None:
    x, y = digits
    _write_images(tmp_path / "train", x[:80], y[:80])
    fives = x[y == 5][:3]
    _write_images(tmp_path / "test", fives, np.full(3, 5))
    read = read_path(tmp_path)
    assert read.classes == tuple("0123456789")
    assert (read.test.y == 5).all()
    assert len(read.train.y) == 80


def test_two_folders_with_the_same_number_are_refused_for_any_hash_seed(
    tmp_path: Path, digits: Digits
) -> None:
    for name in ("1", "01", "2"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        Image.fromarray(digits[0][0]).save(tmp_path / "mine" / name / "a.png")
    code = "import digitwise.data.formats as f; print(f.read_path('mine').classes)"
    said = set()
    for seed in range(4):  # a random order is right half of the time
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=False,
        )
        said.add(done.stdout + done.stderr.splitlines()[-1])
    assert len(said) == 1
    assert "mine/01: the same number as the folder 1: rename one of them" in said.pop()


def test_class_folders_with_numbers_are_in_the_order_of_the_numbers(
    tmp_path: Path, digits: Digits
) -> None:
    _write_images(tmp_path, digits[0][:3], np.array([2, 10, 9]))
    assert read_path(tmp_path).classes == ("2", "9", "10")


def test_other_sizes_become_28_by_28(tmp_path: Path, digits: Digits) -> None:
    x, y = digits
    large = np.kron(x[:10], np.ones((1, 3, 3), np.uint8))
    np.savez(tmp_path / "large.npz", x_train=large, y_train=y[:10])
    read = read_path(tmp_path / "large.npz").train.x
    assert read.shape == (10, 28, 28)
    assert np.abs(read.astype(int) - x[:10]).mean() < 12


@pytest.mark.parametrize("side", [28, 61])
def test_crops_of_a_photograph_are_read_without_their_paper(
    tmp_path: Path, digits: Digits, side: int
) -> None:
    x, y = digits
    random = np.random.default_rng(0)
    for number in range(100):
        crop = np.pad(x[number], 2)[: 28 + 4 * (side > 28)]
        ink = np.asarray(Image.fromarray(crop).resize((side, side)), float) / 255
        shade = np.linspace(random.uniform(90, 140), random.uniform(150, 220), side)
        paper = (shade if number % 2 else shade[:, np.newaxis]) + random.normal(0, 2, (side, side))
        grey = np.clip(paper * (1 - 0.75 * ink), 0, 255).astype(np.uint8)
        (tmp_path / str(y[number])).mkdir(exist_ok=True)
        Image.fromarray(grey).save(tmp_path / str(y[number]) / f"{number}.png")
    found = read_path(tmp_path).train
    reader = digitwise.open_bundle("pretrained")
    read_as = reader.predict(digitwise.normalize(digitwise.add_channel(found.x))).argmax(axis=1)
    assert (read_as == found.y).mean() >= 0.98
    assert np.median(found.x) == 0


def test_transparent_pngs_are_read_as_on_white_paper(tmp_path: Path, digits: Digits) -> None:
    x, _ = digits
    for number, digit in enumerate(x[:2]):
        folder = tmp_path / str(number)
        folder.mkdir()
        ink = np.zeros((28, 28, 4), np.uint8)
        ink[..., 3] = digit
        Image.fromarray(ink).save(folder / "a.png")
    assert np.abs(read_path(tmp_path).train.x.astype(int) - x[:2]).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_white_ink_on_transparency_is_not_lost_in_a_folder(
    tmp_path: Path, digits: Digits, mode: str
) -> None:
    x, _ = digits
    for number, digit in enumerate(x[:2]):
        (tmp_path / str(number)).mkdir()
        white = Image.merge("LA", (Image.new("L", (28, 28), 255), Image.fromarray(digit)))
        white.convert(mode).save(tmp_path / str(number) / "a.png")
    assert np.abs(read_path(tmp_path).train.x.astype(int) - x[:2]).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "HEIF"])
def test_sideways_photos_are_loaded_upright(tmp_path: Path, digits: Digits, kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif[0x0112] = 6
    suffix = {"JPEG": "jpg", "HEIF": "heic"}[kind]
    for label in (4, 7):
        (tmp_path / str(label)).mkdir()
        digit = Image.fromarray(255 - digits[0][digits[1] == label][0])
        large = digit.resize((112, 112)).convert("RGB").transpose(Image.Transpose.ROTATE_90)
        options = {"exif": exif} if kind == "JPEG" else {}
        stored = large if kind == "JPEG" else large.transpose(Image.Transpose.ROTATE_270)
        stored.save(tmp_path / str(label) / f"a.{suffix}", kind, quality=95, **options)
    found = read_path(tmp_path).train
    upright = np.stack([digits[0][digits[1] == label][0] for label in (4, 7)])
    sideways = np.rot90(upright, axes=(1, 2))
    distances = [np.abs(found.x.astype(int) - way).mean() for way in (upright, sideways)]
    assert distances[0] < distances[1] / 2


def test_a_float_tiff_keeps_its_gray_values(tmp_path: Path, digits: Digits) -> None:
    for number, digit in enumerate(digits[0][:2]):
        (tmp_path / str(number)).mkdir()
        values = (digit / 255).astype(np.float32)
        Image.fromarray(values).save(tmp_path / str(number) / "a.tif")
    assert (read_path(tmp_path).train.x == digits[0][:2]).all()


def test_ignored_files_in_an_image_folder_are_reported(
    tmp_path: Path, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    _write_images(folder, digits[0][:20], digits[1][:20])
    assert read_path(folder).train is not None
    assert capsys.readouterr().err == ""
    (folder / "3" / "notes.txt").write_text("hello")
    (folder / "stray.png").write_bytes(b"")
    (folder / "4" / "more").mkdir()
    pages = [Image.fromarray(image) for image in digits[0][:2]]
    pages[0].save(folder / "3" / "two.tif", save_all=True, append_images=pages[1:])
    read_path(folder)
    said = capsys.readouterr().err
    assert "not images in class folders: 3/notes.txt, 4/more, stray.png\n" in said
    assert "1 of the images: only the first page was read" in said
    (folder / "3" / "scan.pdf").write_bytes(b"%PDF-1.4")
    assert "a PDF in a class folder" in _refusal(folder)


# Other layouts of the same digits


def _rows(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return one row per digit, with its label last."""
    return np.column_stack([x.reshape(len(x), -1), y])


def test_a_csv_with_the_label_last_is_read_by_its_header(
    tmp_path: Path, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = digits[0][:12], digits[1][:12]
    header = ",".join([f"pixel{number}" for number in range(1, 785)] + ["class"])
    path = tmp_path / "mnist_784.csv"
    np.savetxt(path, _rows(x, y), "%d", ",", header=header, comments="")
    read = read_path(path).train
    assert (read.x == x).all()
    assert (read.y == y).all()
    assert "labels taken from the last column" in capsys.readouterr().err


def test_ucis_digits_with_16_gray_levels_and_the_label_last_are_read(
    tmp_path: Path, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = digits[0][:300], digits[1][:300]
    small = np.stack([np.asarray(Image.fromarray(image).resize((8, 8))) for image in x])
    for name in ("tra", "tes"):
        np.savetxt(tmp_path / f"optdigits.{name}", _rows(np.rint(small / 16), y), "%d", ",")
    read = read_path(tmp_path)
    assert (read.train.y == y).all()
    assert (read.test.y == y).all()
    said = capsys.readouterr().err
    assert "optdigits.tra: labels taken from the last column" in said
    assert "pixels are 0–16: scaled to 0–255" in said
    predicted = digitwise.open_bundle("pretrained").predict(digitwise.preprocess(*read.train)[0])
    assert (predicted.argmax(axis=1) == y).mean() > 0.7


def test_a_csv_with_the_label_first_gets_no_notice(
    tmp_path: Path, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, header in (("a.csv", ""), ("b.csv", ",".join(map(str, range(785))) + "\n")):
        (tmp_path / name).write_text(header + _csv(digits[0][:60], digits[1][:60]))
        assert (read_path(tmp_path / name).train.y == digits[1][:60]).all()
    assert capsys.readouterr().err == ""


def test_arff_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mnist_784.arff"
    path.write_text("@RELATION mnist_784")
    assert "ARFF is not supported: convert it to CSV" in _refusal(path)
    assert "ARFF is not supported" in _refusal(tmp_path)


STORED = {
    "transposed": lambda x: x.transpose(0, 2, 1),
    "with dark ink on a light background": lambda x: 255 - x,
    "transposed with dark ink on a light background": lambda x: 255 - x.transpose(0, 2, 1),
    "rotated 90° clockwise": lambda x: np.rot90(x, -1, (1, 2)),
    "upside down": lambda x: np.rot90(x, 2, (1, 2)),
    "mirrored left to right": lambda x: x[:, :, ::-1],
}


@pytest.mark.parametrize("stored", STORED)
def test_digits_stored_in_another_layout_are_converted(
    tmp_path: Path, digits: Digits, capsys: pytest.CaptureFixture[str], stored: str
) -> None:
    x, y = digits[0][:400], digits[1][:400]
    np.savez(tmp_path / "a.npz", x_train=STORED[stored](x), y_train=y)
    assert (read_path(tmp_path / "a.npz").train.x == x).all()
    assert f"the images are stored {stored}: converted" in capsys.readouterr().err


def test_emnists_files_are_found_and_turned_upright(tmp_path: Path, digits: Digits) -> None:
    x, y = digits[0][:400], digits[1][:400]
    folder = write_idx_folder(tmp_path / "emnist", x.transpose(0, 2, 1), y, 100, ".gz")
    for file in list(folder.iterdir()):
        file.rename(folder / f"emnist-digits-{file.name.replace('t10k', 'test')}")
    read = read_path(folder)
    assert (read.train.x == x[:300]).all()
    assert (read.test.x == x[300:]).all()
    write_idx(folder / "emnist-letters-train-images-idx3-ubyte.gz", x)
    assert "holds 2 data sets (emnist-digits, emnist-letters)" in _refusal(folder)


def test_images_that_are_not_clearly_digits_are_left_as_stored(
    tmp_path: Path, fashion_mnist: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (x, y), _ = digitwise.load_data(path=fashion_mnist)
    np.savez(tmp_path / "a.npz", x_train=x[:2000], y_train=y[:2000])
    assert (read_path(tmp_path / "a.npz").train.x == x[:2000]).all()
    assert capsys.readouterr().err == ""


def test_blank_images_are_counted(
    tmp_path: Path, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    x, y = digits[0][:50].copy(), digits[1][:50]
    x[[3, 9]] = 0
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y)
    _write_images(tmp_path / "mine", x, y)
    for name in ("a.npz", "mine"):
        read_path(tmp_path / name)
        assert "2 of 50 images are blank" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["idx", "npz", "csv", "folder"])
def test_loaded_arrays_can_be_changed_in_place(tmp_path: Path, digits: Digits, kind: str) -> None:
    x, y = digits[0][:60], digits[1][:60]
    path = tmp_path / "mine"
    if kind == "idx":
        write_idx_folder(path, x, y, 20)
    elif kind == "npz":
        path = tmp_path / "mine.npz"
        np.savez(path, x_train=x[:40], y_train=y[:40], x_test=x[40:], y_test=y[40:])
    elif kind == "csv":
        path = tmp_path / "mine.csv"
        path.write_text(_csv(x, y))
    else:
        _write_images(path, x, y)
    for part in digitwise.load_data(path=path):
        for array in part:
            array[0] = 0


# Bad IDX


def _break(folder: Path, digits: Digits, name: str, content: bytes) -> Path:
    """Writes a sound IDX folder, then puts other bytes into one of its files."""
    x, y = digits
    write_idx_folder(folder, x[:30], y[:30], 10)
    (folder / name).write_bytes(content)
    return folder


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[:1000], "cut short: 984 of 15680 bytes"),
        (lambda content: content[:7], "cut short inside its header"),
        (lambda content: content + b"x", "longer than its header says"),
        (lambda content: b"\x00\x00\x0d\x03" + content[4:], "begins with 00000d03"),
        (lambda content: b"", "begins with nothing"),
        (lambda content: content[:4] + b"\xff" * 12 + content[16:], "cut short: 15680 of"),
    ],
    ids=["truncated", "truncated-header", "over-long", "wrong-magic", "empty", "lying"],
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, digits: Digits, change, words: str) -> None:
    content = b"".join(idx_bytes(digits[0][:20]))
    folder = _break(tmp_path / "idx", digits, IMAGES, change(content))
    message = _refusal(folder)
    assert str(folder / IMAGES) in message
    assert words in message


def test_a_gzip_that_is_none_or_is_cut_short_is_named(tmp_path: Path, digits: Digits) -> None:
    x, y = digits
    folder = write_idx_folder(tmp_path / "idx", x[:30], y[:30], 10, ".gz")
    file = folder / f"{IMAGES}.gz"
    whole = file.read_bytes()
    file.write_bytes(b"no gzip at all")
    assert "not a gzip file" in _refusal(folder)
    file.write_bytes(whole[: len(whole) // 2])
    assert "cut short or damaged" in _refusal(folder)


def test_counts_that_differ_and_missing_partners_are_named(tmp_path: Path, digits: Digits) -> None:
    folder = tmp_path / "idx"
    _break(folder, digits, LABELS, b"".join(idx_bytes(digits[1][:19])))
    assert "19 labels for the 20 images" in _refusal(folder)
    (folder / LABELS).unlink()
    assert "the train labels file is missing" in _refusal(folder)


@given(array=arrays.arrays(np.uint8, arrays.array_shapes(min_dims=3, max_dims=3, max_side=9)))
@in_one_folder
def test_whatever_is_written_as_idx_is_read_again(tmp_path: Path, array: np.ndarray) -> None:
    write_idx(tmp_path / "any.gz", array)
    assert (read_idx(tmp_path / "any.gz", 3) == array).all()


@given(content=st.binary(max_size=64), suffix=st.sampled_from(["", ".gz"]))
@in_one_folder
def test_no_bytes_make_idx_reading_fail_otherwise_than_by_its_line(
    tmp_path: Path, content: bytes, suffix: str
) -> None:
    path = tmp_path / f"any-idx3-ubyte{suffix}"
    path.write_bytes(content)
    try:
        read_idx(path, 3)
    except DigitwiseError as error:
        assert str(path) in str(error)


@given(cut=st.integers(0, 400), flip=st.integers(0, 399))
@in_one_folder
def test_no_damage_makes_npz_reading_fail_otherwise_than_by_its_line(
    tmp_path: Path, cut: int, flip: int
) -> None:
    path = tmp_path / "any.npz"
    np.savez(path, x_train=np.zeros((2, 3, 3), np.uint8), y_train=np.arange(2))
    content = bytearray(path.read_bytes())
    content[flip] ^= 0x55
    path.write_bytes(content[: len(content) - cut])
    try:
        read_path(path)
    except DigitwiseError as error:
        assert str(path) in str(error)


@given(text=st.text(st.sampled_from('0123456789,-.\n"ae '), max_size=60))
@in_one_folder
def test_no_text_makes_csv_reading_fail_otherwise_than_by_its_line(
    tmp_path: Path, text: str
) -> None:
    path = tmp_path / "any.csv"
    path.write_text(text)
    try:
        read_path(path)
    except DigitwiseError as error:
        assert str(path) in str(error)


# Bad NPZ


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": np.zeros((2, 28, 28), np.uint8)}, "needs the arrays x_train and y_train"),
        ({"x_test": np.zeros((2, 28, 28), np.uint8)}, "the array y_test is missing"),
        (
            {"x_train": np.full((2, 28, 28), np.nan), "y_train": np.arange(2)},
            "NaN pixels",
        ),
        ({"x_train": np.zeros((2, 28, 28)), "y_train": np.arange(2)}, "is float64"),
        ({"x_train": np.zeros((2, 784), np.uint8), "y_train": np.arange(2)}, "the shape (2, 784)"),
        ({"x_train": np.zeros((2, 28, 28), np.uint8), "y_train": np.eye(2)}, "labels must be"),
        ({"x_train": np.zeros((2, 28, 28), np.uint8), "y_train": np.arange(3)}, "2 images"),
        ({"x_train": np.zeros((2, 28, 28), np.uint8), "y_train": np.array([0, -1])}, "0–255"),
        ({"x_train": np.zeros((0, 28, 28), np.uint8), "y_train": np.arange(0)}, "no images"),
        (
            {"x_train": np.array([[[object()]]], dtype=object), "y_train": np.arange(1)},
            "pickled objects",
        ),
    ],
)
def test_an_npz_with_the_wrong_contents_is_named(
    tmp_path: Path, content: dict[str, np.ndarray], words: str
) -> None:
    path = tmp_path / "bad.npz"
    try:
        np.savez(path, **content)
    except (TypeError, AttributeError):
        np.savez(path, x_train=np.array([[[{"pickled": 1}]]], dtype=object), y_train=np.arange(1))
    message = _refusal(path)
    assert str(path) in message
    assert words in message


def test_an_npz_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(b"hello")
    assert str(path) in _refusal(path)
    np.save(tmp_path / "one.npy", np.arange(3))
    (tmp_path / "one.npy").rename(path)
    assert "not a whole .npz" in _refusal(path)


# Bad CSV


def _csv(x: np.ndarray, y: np.ndarray) -> str:
    """Writes digits as CSV, label first."""
    return "".join(
        f"{label}," + ",".join(map(str, image.ravel())) + "\n"
        for image, label in zip(x, y, strict=True)
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda rows: [rows[0], rows[1].rsplit(",", 1)[0], rows[2]], "line 2: 784 columns"),
        (lambda rows: [rows[0], "a" + rows[1], rows[2]], "line 2, column 1: the label 'a"),
        (lambda rows: [*rows[:2], rows[2][:-1] + "x"], "line 3, column 785: the pixel '"),
        (lambda rows: [rows[0], "300" + rows[1][1:], rows[2]], "line 2, column 1: the label 300"),
        (lambda rows: ["-1" + rows[0][1:], *rows[1:]], "line 1, column 1: the label -1"),
        (lambda rows: [rows[0][:-1] + "99999", *rows[1:]], "line 1, column 785: the pixel"),
        (lambda rows: ["1,2,3"] * 3, "a square image"),
        (lambda rows: [row.replace(",", ";") for row in rows], "parted by semicolons: use commas"),
        (lambda rows: ["9" * 5000 + rows[0][1:], *rows[1:]], "column 1: the label 9999"),
        (lambda rows: [], "no rows"),
    ],
    ids=[
        "short-row",
        "letter",
        "letter-pixel",
        "label-300",
        "label-negative",
        "huge",
        "no-square",
        "semicolons",
        "endless",
        "empty",
    ],
)
def test_a_bad_csv_row_is_named_by_its_line(
    tmp_path: Path, digits: Digits, change, words: str
) -> None:
    path = tmp_path / "bad.csv"
    rows = _csv(digits[0][:3], digits[1][:3]).splitlines()
    path.write_text("\n".join(change(rows)))
    message = _refusal(path)
    assert str(path) in message
    assert words in message


# Bad image folders


def _write_images(folder: Path, x: np.ndarray, y: np.ndarray) -> None:
    """Writes digits as PNG files, a folder per class."""
    for number, (image, label) in enumerate(zip(x, y, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{number:05}.png")


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "the file is empty"), (b"hello", "not an image"), (None, "cut short or damaged")],
    ids=["empty", "no-image", "truncated"],
)
def test_a_broken_image_file_is_named(
    tmp_path: Path, digits: Digits, content: bytes | None, words: str
) -> None:
    _write_images(tmp_path, digits[0][:30], digits[1][:30])
    file = next(tmp_path.rglob("00007.png"))
    file.write_bytes(file.read_bytes()[:120] if content is None else content)
    message = _refusal(tmp_path)
    assert str(file) in message
    assert words in message


@pytest.mark.parametrize("name", ["nowhere", "empty", "note.txt", IMAGES])
def test_a_path_that_holds_no_data_says_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("hello")
    (tmp_path / IMAGES).write_bytes(b"")
    assert str(tmp_path / name) in _refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["MINE.NPZ", "MINE.CSV", "mine.CSV.GZ"])
def test_suffixes_are_recognized_in_upper_case(name: str, digits: Digits) -> None:
    x, y = digits[0][:20], digits[1][:20]
    if "NPZ" in name:
        with Path(name).open("wb") as file:
            np.savez(file, x_train=x, y_train=y)
    else:
        table = np.column_stack([y, x.reshape(20, -1)])
        text = "\n".join(",".join(map(str, row)) for row in table).encode()
        Path(name).write_bytes(gzip.compress(text) if "GZ" in name else text)
    train = read_path(name).train
    assert train is not None
    assert np.array_equal(train.x, x)
    assert np.array_equal(train.y, y)


def test_drawings_of_digitwise_are_not_training_images(
    digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in "01":
        (Path("mine") / label).mkdir(parents=True)
        image = digits[0][np.flatnonzero(digits[1] == int(label))[0]]
        Image.fromarray(255 - image).save(f"mine/{label}/digit.png")
        digitwise.Reader().read(255 - np.pad(image, 20)).save(f"mine/{label}/drawn.png")
    train = read_path("mine").train
    assert train is not None
    assert train.y.tolist() == [0, 1]
    assert "2 of the images: skipped as drawings by Digitwise" in capsys.readouterr().err

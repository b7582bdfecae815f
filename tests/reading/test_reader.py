"""Digits are read out of pages and photographs, with the network that ships."""

import csv
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import pytest
from PIL import Image

import digitwise as dw
from digitwise.cli import main
from digitwise.reading import glyphs, segmentation
from tests.conftest import given_data

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import pages  # composes pages whose truth is known
import reading

SCHEMA = json.loads((Path(dw.__file__).parent / "schemas" / "read.json").read_text())
Digits = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def reader() -> dw.Reader:
    return dw.Reader()


def _digits_of(text: str) -> str:
    return text.replace(" ", "").replace("\n", "")


@pytest.fixture(scope="module")
def photos() -> Path:
    return given_data("photos")


PHOTOS = {
    "pencil-line.jpg": "05221859",
    "pen-line.jpg": "13540",
    "sideways-in-shadow.bmp": "19674899\n354708745",
    "sticky-note.bmp": "13924579693\n02087836761\n510006\n13582007037",
    "webcam-slope.png": "237845",
    "webcam-european.png": "1717",
}


@pytest.mark.parametrize("name", PHOTOS)
def test_photographs_are_read(reader: dw.Reader, photos: Path, name: str) -> None:
    found = reader.read(photos / name).text.replace(" ", "")
    assert sum(pages.compare(PHOTOS[name], found)) <= (name == "sticky-note.bmp")


@pytest.mark.parametrize("name", ["sticky-note.bmp", "sideways-in-shadow.bmp", "pencil-line.jpg"])
def test_photographs_are_read_however_they_are_taken(
    reader: dw.Reader, photos: Path, name: str
) -> None:
    picture, label = Image.open(photos / name).convert("RGB"), {"lines": PHOTOS[name].split("\n")}
    for seed in range(3):
        taken = reading.retake(picture, np.random.default_rng(seed))
        assert reading.count_edits(reader.read(taken).text, label) <= 2


def test_print_that_shows_through_is_not_read(reader: dw.Reader, photos: Path) -> None:
    found = _digits_of(reader.read(photos / "bleed-through.png").text)
    assert sorted(found) == sorted("0112345677889")


@pytest.mark.parametrize("condition", [*pages.LEVELS, "together"])
def test_mild_conditions_cost_no_more_than_a_digit_or_two(
    reader: dw.Reader, digits: Digits, condition: str
) -> None:
    random = np.random.default_rng(1)
    page, lines = pages.page_for(condition, 0, *digits, random)
    found = reader.read(page)
    assert sum(pages.compare("".join(lines), _digits_of(found.text))) <= 2
    assert len(found.lines) == len(lines)


@pytest.mark.parametrize(
    "condition", ["tilt", "sideways", "ruled", "light-on-dark", "size", "form", "ink", "shadow"]
)
def test_strong_conditions_cost_few_digits(
    reader: dw.Reader, digits: Digits, condition: str
) -> None:
    page, lines = pages.page_for(condition, 2, *digits, np.random.default_rng(1))
    found = _digits_of(reader.read(page).text)
    assert sum(pages.compare("".join(lines), found)) <= 3


@pytest.mark.parametrize("condition", ["tilt", "sideways", "perspective"])
def test_predicted_digits_are_matched_to_true_ones_on_transformed_pages(
    reader: dw.Reader, digits: Digits, condition: str
) -> None:
    composed = pages.compose_under(condition, 2, *digits, np.random.default_rng(1))
    found = reader.read(composed.page).digits
    right = [is_right for _, is_right in pages.check_digits(composed, found)]
    assert len(right) == len(found)
    assert sum(right) >= len(composed.digits) - 3
    elsewhere = [replace(digit, box=(0, 0, 5, 5)) for digit in found]
    assert not any(is_right for _, is_right in pages.check_digits(composed, elsewhere))
    twice = pages.check_digits(composed, [*found, *found])
    assert sum(is_right for _, is_right in twice) == sum(right)


def test_reliability_compares_confidence_and_accuracy_in_bands() -> None:
    checked = [(0.6, True), (0.7, False), (0.97, True), (0.99, True), (1.0, False)]
    rows = {row.pop("from"): row for row in pages.reliability(checked)}
    assert [row["digits"] for row in rows.values()] == [0, 2, 0, 1, 2]
    assert rows[0.5]["mean_confidence"] == pytest.approx(0.65)
    assert (rows[0.5]["right"], rows[0.95]["right"], rows[0.0]["right"]) == (0.5, 1.0, None)


def test_touching_digits_are_parted(reader: dw.Reader, digits: Digits) -> None:
    page, lines = pages.page_for("touching", 1, *digits, np.random.default_rng(1))
    found = _digits_of(reader.read(page).text)
    assert sum(pages.compare("".join(lines), found)) <= 4


def _line(digits: Digits, seed: int, mark: str | None = None) -> tuple[np.ndarray, str]:
    """Writes four digits in a small picture, a mark in their middle."""
    random = np.random.default_rng(seed)
    ink, at, text = np.zeros((160, 420), np.uint8), 40, ""
    for number, index in enumerate(random.integers(0, len(digits[1]), 4)):
        large = cv2.resize(digits[0][index], (84, 84), interpolation=cv2.INTER_CUBIC)
        x, y, width, height = cv2.boundingRect((large > 80).astype(np.uint8))
        ink[110 - height : 110, at : at + width] = large[y : y + height, x : x + width]
        at += width + 15
        text += str(digits[1][index])
        if number == 1 and mark:
            ends = {".": (0, 106, 0, 106), ",": (3, 106, -2, 120), "-": (0, 80, 24, 80)}
            left, top, right, bottom = ends.get(mark, (28, 40, 0, 118))
            cv2.line(ink, (at + left, top), (at + right, bottom), 255, 6, cv2.LINE_AA)
            at += 12 + max(left, right)
    return np.clip(235 - ink.astype(int) * 0.8, 0, 255).astype(np.uint8), text


@pytest.mark.parametrize("mark", [".", ",", "-", "/"])
def test_marks_are_reported_and_not_read(reader: dw.Reader, digits: Digits, mark: str) -> None:
    right = reported = 0
    for seed in range(10):
        picture, text = _line(digits, seed, mark)
        reading = reader.read(picture)
        right += _digits_of(reading.text) == text
        reported += any(other.kind == "mark" for other in reading.others)
    assert right >= 9
    assert reported >= 9


def test_ones_in_a_small_picture_are_no_rules(reader: dw.Reader, digits: Digits) -> None:
    ones = digits[0][digits[1] == 1], digits[1][digits[1] == 1]
    for seed in range(6):
        picture, text = _line(ones, seed)
        assert _digits_of(reader.read(picture).text) == text


def test_two_columns_are_read_one_after_the_other(
    reader: dw.Reader, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "WIDTH", 620)
    random = np.random.default_rng(0)
    layouts = pages.Layout(height=44), pages.Layout(height=44)
    page = np.hstack([pages.compose(*digits, layout, random) for layout in layouts])
    lines = [line for layout in layouts for line in layout.lines]
    reading = reader.read(page)
    assert len(reading.lines) == len(lines)
    assert sum(pages.compare("".join(lines), _digits_of(reading.text))) <= 2


def test_a_desk_around_the_page_and_punched_holes_are_left_out(
    reader: dw.Reader, digits: Digits
) -> None:
    layout = pages.Layout()
    page = pages.compose(*digits, layout, np.random.default_rng(0)).copy()
    for row in (350, 950):
        cv2.circle(page, (38, row), 26, (60, 55, 50), -1, cv2.LINE_AA)
    desk = np.full((1500, 1300, 3), (70, 50, 40), np.uint8)
    desk[90:1390, 140:1140] = page
    for picture, left in ((page, 0), (desk, 140)):
        reading = reader.read(picture)
        assert sum(pages.compare("".join(layout.lines), _digits_of(reading.text))) <= 2
        written = left + 70, left + 700  # columns; the holes are left of them, the desk is around
        assert all(written[0] < other.box[0] < written[1] for other in reading.others)


def test_a_sheet_on_a_table_is_read_and_the_table_is_not(reader: dw.Reader, photos: Path) -> None:
    invented = edits = 0
    for name in ("pen-line.jpg", "sticky-note.bmp"):
        label = {"lines": PHOTOS[name].split("\n")}
        for seed in range(3):
            picture = Image.open(photos / name).convert("RGB")
            found = reader.read(reading.on_a_table(picture, np.random.default_rng(seed)))
            edits += reading.count_edits(found.text, label)
            invented += max(0, len(_digits_of(found.text)) - len("".join(label["lines"])))
    assert edits <= 4
    assert invented == 0


def test_shadows_do_not_turn_dark_ink_into_light(reader: dw.Reader, photos: Path) -> None:
    picture = np.asarray(Image.open(photos / "sideways-in-shadow.bmp").convert("RGB"))
    height, width = picture.shape[:2]
    label = {"lines": PHOTOS["sideways-in-shadow.bmp"].split("\n")}
    for seed in (2, 3, 5):
        light = np.random.default_rng(seed).uniform(0.3, 1, (4, 4)).astype(np.float32)
        light = cv2.resize(light, (width, height), interpolation=cv2.INTER_CUBIC)
        shaded = (picture * np.clip(light, 0, 1)[..., np.newaxis]).astype(np.uint8)
        assert reading.count_edits(reader.read(shaded).text, label) <= 3


def test_a_stroke_that_runs_out_of_the_picture_is_no_1(reader: dw.Reader, digits: Digits) -> None:
    picture, text = _line(digits, 0)
    picture[:60, 395:400] = 40
    assert _digits_of(reader.read(picture).text) == text


def test_the_edge_of_a_dim_noisy_page_is_not_read(reader: dw.Reader, digits: Digits) -> None:
    invented = 0
    for seed in range(2):
        page, lines = pages.page_for("together", 1, *digits, np.random.default_rng(seed))
        _, false, _ = pages.compare("".join(lines), _digits_of(reader.read(page).text))
        invented += false
    assert invented <= 1


def test_words_are_told_apart_from_digits(reader: dw.Reader) -> None:
    page = np.full((220, 900), 240, np.uint8)
    cv2.putText(page, "THE QUICK PEN", (40, 130), cv2.FONT_HERSHEY_DUPLEX, 3, 30, 7, cv2.LINE_AA)
    reading = reader.read(page)
    assert len(_digits_of(reading.text)) <= 2
    assert len(reading.others) >= 6


def test_boxes_lie_around_the_digits(reader: dw.Reader, digits: Digits) -> None:
    page = np.full((300, 500, 3), 255, np.uint8)
    digit = digits[0][digits[1] == 3][0]
    page[100:184, 200:284] = 255 - np.kron(digit, np.ones((3, 3), np.uint8))[..., np.newaxis]
    (line,) = reader.read(page).lines
    x, y, width, height = line.digits[0].box
    rows, columns = np.nonzero(digit > 100)
    assert abs(x - (200 + 3 * columns.min())) <= 4
    assert abs(y - (100 + 3 * rows.min())) <= 4
    assert abs(width - 3 * (np.ptp(columns) + 1)) <= 8
    assert abs(height - 3 * (np.ptp(rows) + 1)) <= 8


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("side", [1, 40, 300])
def test_an_empty_page_has_no_digits(reader: dw.Reader, value: int, side: int) -> None:
    reading = reader.read(np.full((side, side), value, np.uint8))
    assert reading.lines == ()
    assert reading.text == ""


def test_a_digit_that_fills_its_picture_is_read(reader: dw.Reader, digits: Digits) -> None:
    right = 0
    for image, label in zip(digits[0][:40], digits[1][:40], strict=True):
        large = np.asarray(Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC))
        right += reader.read(large).text == str(label)
    assert right >= 38


def test_a_bitmap_of_two_colors_is_read(reader: dw.Reader, digits: Digits) -> None:
    right = 0
    for image, label in zip(*(part[:60] for part in digits), strict=True):
        large = np.pad(cv2.resize(image, (56, 56), interpolation=cv2.INTER_CUBIC), 16)
        right += reader.read(np.where(large > 120, 0, 255).astype(np.uint8)).text == str(label)
    assert right >= 58


def test_a_large_0_is_no_sheet_of_paper(reader: dw.Reader, digits: Digits) -> None:
    zeros = digits[0][digits[1] == 0][:12]
    right = 0
    for image in zeros:
        large = np.asarray(Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC))
        right += reader.read(large).text == "0"
    assert right >= 11


def test_what_is_no_digit_is_not_read_as_one(reader: dw.Reader, fashion_mnist: Path) -> None:
    clothes = dw.load_data(path=fashion_mnist)[1][0]
    assert reader.classify(clothes, normalize="never").accepted.mean() < 0.02
    assert reader.classify(clothes).accepted.mean() < 0.02


def _with_threshold(folder: Path, rejection: dict | None) -> dw.Reader:
    """Open the pretrained network with another rejection record."""
    if not folder.exists():
        shutil.copytree(dw.open_bundle("pretrained").path, folder)
    record = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**record, "rejection": rejection}))
    return dw.Reader(folder)


def test_the_threshold_in_the_bundle_decides_what_is_read(digits: Digits, tmp_path: Path) -> None:
    page, lines = pages.page_for("touching", 2, *digits, np.random.default_rng(1))
    counts = {}
    for least in (0.2, 0.5, 0.98):
        strict = _with_threshold(tmp_path / "bundle", {"min_confidence": least})
        reading = strict.read(page)
        counts[least] = len(reading.digits)
        assert all(digit.confidence >= least for digit in reading.digits)
        found = strict.classify(digits[0])
        assert (found.accepted == (found.confidence >= least)).all()
    assert counts[0.2] >= counts[0.5] > counts[0.98]
    assert len("".join(lines)) - counts[0.5] < 10


@pytest.mark.parametrize(
    "rejection",
    [None, {"threshold": 0.1188, "digits_passing": 0.997, "non_digits_passing": 0.0328}],
)
def test_a_bundle_without_the_threshold_is_read_as_by_version_1(
    digits: Digits, tmp_path: Path, rejection: dict | None
) -> None:
    found = _with_threshold(tmp_path / "bundle", rejection).classify(digits[0])
    assert (found.accepted == (found.confidence >= 0.5)).all()


def test_the_recorded_rejection_rate_matches_the_reader(
    reader: dw.Reader, mnist: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from digitwise.data.loading import load_dataset
    from digitwise.data.sources import find_sources
    from digitwise.network.settings import TrainingSettings
    from digitwise.network.splitting import split_for_training
    from digitwise.network.training import _rejection

    monkeypatch.setenv("DIGITWISE_DATA", str(mnist.parent))
    record = reader.bundle.record
    settings = TrainingSettings.from_dict(record["settings"])
    assert set(settings.sources) == set(settings.recipe.sources)
    sources = find_sources(settings.recipe.sources, download=False)
    split = split_for_training(
        load_dataset("mnist"), settings.validation, settings.seed, sources=sources
    )
    validation = split.validation_images
    found = _rejection(reader.bundle, validation, settings.seed)
    assert found == record["rejection"]
    passing = reader.classify(validation.x, normalize="never").accepted.mean()
    assert passing == record["rejection"]["digits_passing"]


CROPS = {
    "float in [0, 1]": (lambda x: x / 255, r"float64.*\(crops \* 255\)\.astype"),
    "float in [0, 255]": (lambda x: x.astype(float), r"float64.*crops\.astype\(np\.uint8\)"),
    "NaN": (lambda x: np.full(x.shape, np.nan), "NaN"),
    "below 0": (lambda x: x.astype(int) - 255, r"scale values from \[-255, 0\]"),
    "bool": (lambda x: x > 100, r"bool.*\* 255"),
    "0 and 1": (lambda x: (x > 100).astype(np.uint8), r"crops \* 255"),
    "one image": (lambda x: x[0], "np.newaxis"),
    "a channel": (lambda x: x[..., np.newaxis], r"crops\[\.\.\., 0\]"),
    "another size": (lambda x: x[:, :20], "Reader.read"),
    "a list": (lambda x: x.tolist(), "np.asarray"),
}


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("kind", CROPS)
def test_crops_that_would_be_misread_are_refused_with_how_to_convert_them(
    reader: dw.Reader, digits: Digits, kind: str
) -> None:
    convert, fix = CROPS[kind]
    with pytest.raises(dw.DigitwiseError, match=fix) as refused:
        reader.classify(convert(digits[0][:50]))
    assert "\n" not in str(refused.value)


def _shrunk(x: np.ndarray) -> np.ndarray:
    """Draw digits small, in a corner."""
    small = [cv2.resize(image, (18, 18), interpolation=cv2.INTER_AREA) for image in x]
    return np.pad(np.stack(small), ((0, 0), (2, 8), (8, 2)))


OTHER_FORMS = {
    "dark ink": lambda x: 255 - x,
    "dark ink on gray": lambda x: 200 - x // 2,
    "bright ink on gray": lambda x: 60 + x // 2,
    "small, in a corner": _shrunk,
}


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_crops_in_another_form_are_converted_and_said_to_be(
    reader: dw.Reader, digits: Digits, form: str
) -> None:
    x, y = digits[0][:300], digits[1][:300]
    found = reader.classify(OTHER_FORMS[form](x))
    assert found.normalized is not None
    assert found.normalized.mean() > 0.98
    assert (found.classes == y).mean() > 0.98
    assert found.accepted.mean() > 0.97
    unconverted = reader.classify(OTHER_FORMS[form](x), normalize="never")
    assert unconverted.normalized is not None
    assert not unconverted.normalized.any()


def test_crops_in_mnists_form_are_classified_as_they_are(reader: dw.Reader, digits: Digits) -> None:
    x = digits[0]
    found, unconverted = reader.classify(x), reader.classify(x, normalize="never")
    assert found.normalized is not None
    assert found.normalized.mean() < 0.005
    left = ~found.normalized
    assert (found.probabilities[left] == unconverted.probabilities[left]).mean() > 0.999
    always = reader.classify(x[:50], normalize="always")
    assert always.normalized is not None
    assert always.normalized.all()
    with pytest.raises(dw.DigitwiseError, match="auto"):
        reader.classify(x[:1], normalize="sometimes")


def test_no_crops_and_blank_crops_are_classified(reader: dw.Reader) -> None:
    assert len(reader.classify(np.zeros((0, 28, 28), np.uint8)).classes) == 0
    for value in (0, 255):
        blank = reader.classify(np.full((2, 28, 28), value, np.uint8))
        assert not blank.accepted.any()


def test_classify_gives_probabilities(reader: dw.Reader, digits: Digits) -> None:
    found = reader.classify(digits[0])
    assert (found.classes == digits[1]).mean() > 0.99
    assert np.allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "image_format"),
    [("a.JPG", "JPEG"), ("a.jpeg", "JPEG"), ("a.Png", "PNG"), ("deep/a.TIFF", "TIFF")],
)
def test_a_drawing_is_saved_in_the_format_of_its_suffix(
    reader: dw.Reader, name: str, image_format: str
) -> None:
    for path in (name, Path(name)):
        reader.read(np.full((40, 40), 255, np.uint8)).save(path)
        with Image.open(path) as saved:
            assert saved.format == image_format


@pytest.mark.parametrize("name", ["a.mpeg", "a", "a.txt"])
def test_a_drawing_of_an_unknown_format_is_refused(reader: dw.Reader, name: str) -> None:
    with pytest.raises(dw.DigitwiseError, match=rf"{name}: unknown image format: use one of .png"):
        reader.read(np.full((40, 40), 255, np.uint8)).save(name)
    assert not Path(name).exists()


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize("source", [None, 5, [[0, 1]]])
def test_objects_that_are_not_pictures_are_refused(reader: dw.Reader, source: object) -> None:
    with pytest.raises(dw.DigitwiseError, match="a picture must be a path, bytes"):
        reader.read(source)


def _full_page(digits: Digits, count: int, side: int) -> np.ndarray:
    """Write digits in rows of 40, small."""
    page = np.full((count // 40 * side + 40, 40 * side + 40), 236, np.uint8)
    for number in range(count):
        image = cv2.resize(digits[0][number], (side - 6,) * 2, interpolation=cv2.INTER_CUBIC)
        y, x = number // 40 * side + 20, number % 40 * side + 20
        page[y : y + side - 6, x : x + side - 6] -= (image * 0.8).astype(np.uint8)
    return page


def test_no_digit_of_a_full_page_is_dropped(reader: dw.Reader, digits: Digits) -> None:
    reading = reader.read(_full_page(digits, 1200, 40))
    assert reading.notice is None
    assert len(reading.digits) + len(reading.others) == pytest.approx(1200, abs=6)
    truth = "".join(map(str, digits[1][:1200]))
    assert sum(pages.compare(truth, _digits_of(reading.text))) <= 20


def test_ink_that_is_too_much_to_read_is_reported(
    reader: dw.Reader, digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = _full_page(digits, 80, 40)
    monkeypatch.setattr(segmentation, "_MOST_PIECES", 60)
    notice = reader.read(page).notice
    assert notice is not None
    assert "of the smallest pieces of ink were not read" in notice
    monkeypatch.undo()
    monkeypatch.setattr(glyphs, "_MOST_SPANS", 0)
    touching, _ = pages.page_for("touching", 1, *digits, np.random.default_rng(1))
    notice = reader.read(touching).notice
    assert notice is not None
    assert "shapes were not checked for touching digits" in notice


# The command


def _write_page(path: str, digits: Digits) -> str:
    """Writes three digits as a picture, and returns what they are."""
    row = np.hstack([np.pad(image, 10) for image in digits[0][:3]])
    Image.fromarray(255 - row).resize((576, 192)).save(path)
    return "".join(map(str, digits[1][:3]))


def test_read_goes_on_after_a_bad_picture(
    digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    truth = _write_page("in/a.png", digits)
    Path("in/b.png").write_bytes(b"no image")
    assert main(["read", "in", "nowhere.png", "--json", "--output", "out"]) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    jsonschema.validate(document, SCHEMA)
    first, second, third = document["images"]
    assert first["lines"][0]["text"].replace(" ", "") == truth
    assert "not an image" in second["error"]
    assert "no such file" in third["error"]
    assert len(printed.err.splitlines()) == 2
    with Image.open("out/a.png") as drawn:
        assert drawn.size == (600, 200)


def test_pictures_of_one_name_are_drawn_into_two_files(
    digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
        _write_page(f"{folder}/a.png", digits)
    assert main(["read", "one", "two", "--output", "out"]) == 0
    assert sorted(file.name for file in Path("out").iterdir()) == ["a-2.png", "a.png"]


def test_a_picture_without_digits_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (200, 100), "white").save("blank.png")
    assert main(["read", "blank.png"]) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    notice, no_digits = printed.err.splitlines()
    assert notice.startswith("blank.png: the picture is blank")
    assert no_digits == "blank.png: no digits"


def test_read_prints_text_or_csv(digits: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    truth = _write_page("a.png", digits)
    assert main(["read", "a.png"]) == 0
    assert capsys.readouterr().out.strip().replace(" ", "") == truth
    assert main(["read", "a.png", "--csv"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.startswith("path,page,line,text")
    assert row.startswith("a.png,1,1,")


def test_marks_are_told_beside_the_text(digits: Digits, capsys: pytest.CaptureFixture[str]) -> None:
    picture, text = _line(digits, 2, ",")
    Image.fromarray(picture).save("a.png")
    assert main(["read", "a.png"]) == 0
    printed = capsys.readouterr()
    assert _digits_of(printed.out) == text
    assert printed.err.startswith("a.png: besides digits 1 mark (")
    assert main(["read", "a.png", "--csv"]) == 0
    row = next(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert (_digits_of(row["text"]), row["others"]) == (text, "1")


def _write_damaged_tiff(path: str, digits: Digits) -> str:
    """Write three pages of the same digits, the second damaged; return each page's true text."""
    truth = _write_page("page.png", digits)
    with Image.open("page.png") as page:
        options = {"append_images": [page, page], "compression": "tiff_deflate"}
        page.save(path, save_all=True, **options)
    with Image.open(path) as tiff:
        tiff.seek(1)
        place = tiff.tag_v2[273][0]  # where the second page's pixels begin
    content = bytearray(Path(path).read_bytes())
    content[place : place + 40] = b"\xff" * 40
    Path(path).write_bytes(content)
    return truth


def test_a_damaged_page_is_reported_and_the_others_are_read(
    reader: dw.Reader, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = _write_damaged_tiff("scan.tif", digits)
    first, second, third = reader.iter_pages("scan.tif")
    assert [_digits_of(page.text) for page in (first, second, third)] == [truth, "", truth]
    assert second.error is not None
    assert main(["read", "scan.tif", "--json", "--output", "drawn"]) == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    jsonschema.validate(document, SCHEMA)
    assert [page.get("error") for page in document["images"]] == [None, second.error, None]
    assert printed.err.startswith("digitwise: scan.tif, page 2: ")
    assert sorted(file.name for file in Path("drawn").iterdir()) == ["scan-1.png", "scan-3.png"]
    assert main(["read", "scan.tif", "--csv"]) == 1
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [(row["page"], bool(row["error"])) for row in rows] == [
        ("1", False),
        ("2", True),
        ("3", False),
    ]


def test_a_damaged_page_has_its_row_in_parquet(reader: dw.Reader, digits: Digits) -> None:
    pytest.importorskip("ray")
    from digitwise.cluster import bulk
    from digitwise.cluster.listing import Input

    _write_damaged_tiff("scan.tif", digits)
    with Path("trace").open("w") as trace:
        attempt = bulk._Attempt([Input(str(Path("scan.tif").absolute()), None)], {}, trace)
        rows = list(bulk._rows(reader, attempt))
    assert [row["page"] for row in rows] == [1, 2, 3]
    assert "page 2" in rows[1]["error"]
    counts = bulk._write(Path("part.parquet"), iter(rows), inputs=1)
    assert (counts.failed, counts.lines) == (1, 2)


def test_white_ink_on_transparency_is_read(reader: dw.Reader, digits: Digits) -> None:
    truth = _write_page("page.png", digits)
    with Image.open("page.png") as page:
        white = Image.new("RGBA", page.size, "white")
        white.putalpha(Image.fromarray(255 - np.asarray(page)))
    reading = reader.read(white)
    assert _digits_of(reading.text) == truth
    assert reading.notice is None
    assert reader.read(Image.new("RGBA", (90, 90))).notice is not None


def test_a_folder_without_pictures_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    assert main(["read", "empty"]) == 2
    assert "the folder holds no pictures" in capsys.readouterr().err

"""Users see the names of a bundle's classes, whatever they are."""

import csv
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from starlette.testclient import TestClient

import digitwise as dw
from digitwise.cli import main
from digitwise.insight import report
from digitwise.serving.app import create_app
from digitwise.serving.settings import ServiceSettings

SCHEMAS = Path(dw.__file__).parent / "schemas"
WORDS = ("T-shirt/top", "a", "seven", "Ü", "10", "<b>", "Ankle boot", "x", "no", "zero")
Digits = tuple[np.ndarray, np.ndarray]
# Starlette's test client uses httpx, which is deprecated under this name.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def one_to_nine(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> dw.Bundle:
    """`fast` trained on a folder for each digit from 1 to 9."""
    folder = tmp_path_factory.mktemp("nine")
    for digit in range(1, 10):
        (folder / "data" / str(digit)).mkdir(parents=True)
        for number, image in enumerate(digits[0][digits[1] == digit][:50]):
            Image.fromarray(image).save(folder / "data" / str(digit) / f"{number}.png")
    return dw.train("fast", path=folder / "data", minimum_steps=40, output=folder / "run")


@pytest.fixture(scope="module")
def worded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pretrained network, with words, letters and a number above 9 as class names."""
    folder = tmp_path_factory.mktemp("words") / "bundle"
    shutil.copytree(dw.open_bundle("pretrained").path, folder)
    record = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**record, "classes": WORDS}))
    return folder


def _picture(
    digits: Digits, bundle: dw.Bundle | str, labels: range | tuple[int, ...]
) -> np.ndarray:
    """Write, dark on light, the image of each label that the network is most confident of."""
    reader = dw.Reader(bundle)
    offset = 10 - len(reader.bundle.classes)  # the bundle from 1 to 9 has no class for 0
    found = reader.classify(digits[0])
    right = np.where(found.classes == digits[1] - offset, found.confidence, 0)
    surest = [np.where(digits[1] == label, right, 0).argmax() for label in labels]
    images = digits[0][surest]
    row = np.hstack([np.kron(image, np.ones((3, 3), np.uint8)) for image in images])
    return np.asarray(255 - np.pad(row, 24), np.uint8)


def _valid(document: dict, schema: str) -> dict:
    jsonschema.validate(document, json.loads((SCHEMAS / f"{schema}.json").read_text()))
    return document


def test_a_bundle_trained_on_1_to_9_reads_every_digit_by_its_name(
    one_to_nine: dw.Bundle, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    assert one_to_nine.classes == tuple("123456789")
    Image.fromarray(_picture(digits, one_to_nine, range(1, 10))).save("nine.png")
    read = ["read", "nine.png", "--bundle", str(one_to_nine.path)]
    assert main(read) == 0
    assert capsys.readouterr().out == "123456789\n"
    assert main([*read, "--csv"]) == 0
    (row,) = csv.DictReader(capsys.readouterr().out.splitlines())
    assert row["text"] == "123456789"
    assert main([*read, "--json"]) == 0
    (document,) = _valid(json.loads(capsys.readouterr().out), "read")["images"]
    found = document["lines"][0]["digits"]
    assert [digit["digit"] for digit in found] == list(range(1, 10))
    assert [digit["text"] for digit in found] == list("123456789")
    reading = dw.Reader(one_to_nine).read("nine.png")
    assert [digit.label for digit in reading.digits] == list(range(9))


def test_words_are_separated_by_spaces_and_have_no_number(
    worded: Path, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(_picture(digits, worded, (1, 3, 7, 0, 4, 3, 5))).save("words.png")
    assert main(["read", "words.png", "--bundle", str(worded)]) == 0
    assert capsys.readouterr().out == "aÜx T-shirt/top 10 Ü <b>\n"
    assert main(["read", "words.png", "--bundle", str(worded), "--json"]) == 0
    (document,) = _valid(json.loads(capsys.readouterr().out), "read")["images"]
    found = document["lines"][0]["digits"]
    assert [digit["text"] for digit in found][-3:] == ["10", "Ü", "<b>"]
    assert {digit["digit"] for digit in found} == {None}


def test_the_labels_of_a_drawing_fit_into_it(worded: Path, digits: Digits) -> None:
    picture = np.pad(_picture(digits, worded, (1, 0)), ((40, 0), (0, 0)), constant_values=255)
    reading = dw.Reader(worded).read(np.minimum(picture, 200))
    assert [digit.text for digit in reading.digits] == ["a", "T-shirt/top"]
    drawn = np.asarray(reading.draw())
    scale = drawn.shape[1] / reading.width
    tops, bottoms = zip(*((d.box[1], d.box[1] + d.box[3]) for d in reading.digits), strict=True)
    above, below = drawn[: int(scale * min(tops)) - 5], drawn[int(scale * max(bottoms)) + 5 :]
    for labels in (above, below):  # of neighbors on either side, so that they do not overlap
        lettering = np.flatnonzero((labels > 240).all(axis=2).any(axis=0))
        tab = np.flatnonzero((labels == (0x1F, 0x5F, 0xD0)).all(axis=2).any(axis=0))
        assert tab.min() < lettering.min()
        assert lettering.max() < tab.max() < drawn.shape[1] - 1


def test_explanations_name_the_classes(
    worded: Path, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = _picture(digits, worded, (0, 5))
    labeled = digits[0][:200], digits[1][:200]
    explanation = dw.explain(picture, worded, neighbors=labeled)
    document = explanation.to_dict()
    _valid({**document, "figures": []}, "explain")
    assert document["text"] == "T-shirt/top <b>"
    assert [digit["text"] for digit in document["digits"]] == ["T-shirt/top", "<b>"]
    assert document["digits"][0]["neighbors"][0]["text"] == "T-shirt/top"
    files = explanation.save("why")
    assert all(file.is_file() for file in files)
    assert "01-digit-T-shirt-top-input.png" in {file.name for file in files}
    page = files[0].read_text()
    assert "Digit 1: read as T-shirt/top" in page
    assert "Digit 2: read as &lt;b&gt;" in page
    Image.fromarray(picture).save("mine.png")
    command = ["explain", "mine.png", "--bundle", str(worded)]
    assert main(command) == 0
    assert "digit 1: T-shirt/top " in capsys.readouterr().out
    assert main([*command, "--neighbours", "sample"]) == 2
    assert "contains none of the bundle's classes T-shirt/top, a" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::digitwise.errors.SampleDataWarning")
def test_neighbors_carry_the_names_of_the_bundles_classes(
    one_to_nine: dw.Bundle, digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(_picture(digits, one_to_nine, (4,))).save("four.png")
    command = ["explain", "four.png", "--bundle", str(one_to_nine.path), "--neighbours", "sample"]
    assert main([*command, "--json"]) == 0
    (digit,) = _valid(json.loads(capsys.readouterr().out), "explain")["digits"]
    assert digit["text"] == "4"
    nearest = [other["text"] for other in digit["neighbors"]]
    assert nearest.count("4") > len(nearest) / 2
    with pytest.raises(dw.DigitwiseError, match="labels from 0 to 9, the bundle's classes are"):
        dw.explain("four.png", one_to_nine, neighbors=digits)


def test_the_service_names_the_classes(worded: Path, digits: Digits) -> None:
    found = dw.Reader(worded).classify(digits[0])
    crop = digits[0][(digits[1] == 0) & (found.confidence > 0.98)][0]
    with TestClient(create_app(ServiceSettings(bundle=str(worded)))) as client:
        body = {"pixels": crop.tolist()}
        read = _valid(client.post("/api/read", json=body).json(), "service-read")
        explained = _valid(client.post("/api/explain", json=body).json(), "service-explain")
    assert read["text"] == explained["text"] == "T-shirt/top"
    assert (read["lines"][0]["digits"][0]["text"], explained["digits"][0]["digit"]) == (
        "T-shirt/top",
        None,
    )


def test_corrections_are_collected_for_digits_that_the_bundle_knows(
    one_to_nine: dw.Bundle, worded: Path
) -> None:
    folder, picture = Path("collected"), np.full((40, 40), 255, np.uint8)
    Image.fromarray(picture).save("blank.png")
    sent = {
        "content": Path("blank.png").read_bytes(),
        "headers": {"content-type": "image/png"},
    }
    settings = ServiceSettings(bundle=str(one_to_nine.path), collect=folder)
    with TestClient(create_app(settings)) as client:
        assert client.post("/api/collect?digit=9", **sent).status_code == 201
        unknown = client.post("/api/collect?digit=0", **sent)
    assert unknown.status_code == 422
    assert "the bundle has no class 0" in unknown.json()["detail"]
    assert [part.name for part in folder.iterdir()] == ["9"]
    with pytest.raises(dw.DigitwiseError, match="classes are not digits"):
        create_app(ServiceSettings(bundle=str(worded), collect=folder))


def test_parquet_rows_name_the_classes(worded: Path, digits: Digits) -> None:
    from digitwise.cluster import bulk

    Image.fromarray(_picture(digits, worded, (1, 0))).save("words.png")
    reading = dw.Reader(worded).read("words.png")
    counts = bulk._write(Path("part.parquet"), bulk._rows_of(reading, "words.png"), 1)
    (row,) = pq.read_table("part.parquet").to_pylist()
    assert counts.digits == 2
    assert row["text"] == "a T-shirt/top"
    assert (row["texts"], row["digits"]) == (["a", "T-shirt/top"], [None, None])


def test_the_map_of_a_report_marks_each_image_with_its_class() -> None:
    digits = tuple("123456789")
    assert report._signs(digits) == digits
    assert report._signs(("a", "ten", "b")) == ("0", "1", "2")

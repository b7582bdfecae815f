"""A reader is trained on other datasets and on fonts in addition to MNIST, and records them."""

import json
import shutil
from pathlib import Path

import jsonschema
import matplotlib
import numpy as np
import pytest

import digitwise as dw
from digitwise.cli import main
from digitwise.data.loading import load_dataset
from digitwise.data.seen import SeenImages, digest_images
from digitwise.network.settings import RECIPES
from tests.conftest import given_data
from tests.network.test_training import _read_schema

EPOCHS = 0.1
pytestmark = pytest.mark.filterwarnings("ignore::digitwise.errors.SampleDataWarning")
FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with Semeion and a font; MNIST's sample stands in for the rest."""
    folder = tmp_path / "data"
    shutil.copytree(given_data("semeion"), folder / "semeion")
    (folder / "fonts").mkdir()
    shutil.copy(FONTS / "DejaVuSans.ttf", folder / "fonts")
    monkeypatch.setenv("DIGITWISE_DATA", str(folder))
    return folder


def _train() -> dw.Bundle:
    return dw.train("reader", epochs=EPOCHS, validation=100, output="run")


def test_sources_and_fonts_are_trained_on_and_recorded(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = _train()
    record = bundle.record
    jsonschema.validate(record, _read_schema("bundle"))
    mnist, semeion = record["sources"]
    assert (mnist["name"], semeion["name"]) == ("mnist", "semeion")
    assert (mnist["trained"], mnist["validation_images"]) == (3900, 100)
    assert (semeion["trained"], semeion["validation_images"]) == (1328, 265)
    assert semeion["license"] == "CC BY 4.0"
    assert "Semeion" in semeion["credit"]
    assert semeion["repeats"] == RECIPES["reader"].sources["semeion"]
    assert record["settings"]["training_images"] == np.ceil(EPOCHS * (3900 + 3 * 1328))
    assert [font["name"] for font in record["fonts"]] == ["DejaVuSans"]
    said = capsys.readouterr().err
    assert "training without multiple-features, optdigits" in said
    assert "mnist, semeion" in said
    seen = SeenImages.read(bundle.path / "seen.npz")
    images = load_dataset("semeion").train
    assert images is not None
    digests = digest_images(images.x)
    assert seen.was_trained_on(digests).sum() == 1328
    assert seen.was_validated_on(digests).sum() == 265
    with pytest.raises(dw.DigitwiseError, match="trained or validated on every image"):
        dw.evaluate(bundle, dataset="semeion")


def test_sources_are_recorded_without_validation_too(data: Path) -> None:
    bundle = dw.train("reader", epochs=EPOCHS, validation=0, output="run")
    mnist, semeion = bundle.record["sources"]
    assert (mnist["trained"], semeion["trained"]) == (4000, 1593)
    assert semeion["validation_images"] == 0
    assert semeion["validation_accuracy"] is None


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Start a training, interrupt it before the first batch, and return what it reported."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("digitwise.network.fitting.fit", interrupt)
        with pytest.raises(KeyboardInterrupt):
            _train()
    return capsys.readouterr().err


@pytest.mark.parametrize("change", ["font", "source"])
def test_a_run_is_not_resumed_with_other_sources(data: Path, notices: str, change: str) -> None:
    if change == "font":
        shutil.copy(FONTS / "DejaVuSerif.ttf", data / "fonts")
        message = "the fonts have changed"
    else:
        shutil.rmtree(data / "semeion")
        message = "semeion are missing or have changed"
    with pytest.raises(dw.DigitwiseError, match=message):
        dw.resume("run")


def test_without_sources_and_fonts_it_trains_and_says_so(notices: str) -> None:
    settings = json.loads(Path("run/settings.json").read_text())
    assert settings["sources"] == {}
    assert settings["font_digests"] == {}
    assert "training without semeion, multiple-features, optdigits" in notices
    assert "training without handwriting fonts" in notices


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "fast", "--fonts", "f"], "--fonts needs --model reader"),
        (["--model", "reader", "--fonts", "f"], "f: no such folder"),
        (["--resume", "run", "--fonts", "f"], "--fonts does not go with --resume"),
    ],
)
def test_fonts_that_cannot_be_used_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *options]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_a_damaged_source_ends_training_in_one_line(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = data / "semeion" / "semeion.npz"
    archive.write_bytes(archive.read_bytes()[:1000])
    assert main(["train", "--model", "reader"]) == 2
    assert "semeion.npz: not a whole .npz file" in capsys.readouterr().err.splitlines()[-1]

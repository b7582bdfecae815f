"""An explanation tells what the network computed, and points at what it went by."""

import json
import re
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest

import digitwise as dw
from digitwise.cli import main
from digitwise.errors import DigitwiseError
from digitwise.insight.activations import Explainer
from digitwise.insight.attribution import class_activation, integrated_gradients, occlusion

Digits = tuple[np.ndarray, np.ndarray]
SCHEMAS = Path(dw.__file__).parent / "schemas"
TENTH = 78  # of 784 pixels


@pytest.fixture(scope="module")
def explainer() -> Explainer:
    return Explainer(dw.open_bundle("pretrained"))


def _picture(digits: Digits, labels: tuple[int, ...]) -> np.ndarray:
    """Writes digits in a row, dark on light."""
    x, y = digits
    row = np.hstack([x[y == label][0] for label in labels])
    return np.asarray(255 - np.pad(np.kron(row, np.ones((3, 3), np.uint8)), 20), np.uint8)


@pytest.mark.parametrize("name", ["pretrained", "fast"])
def test_every_layer_has_the_values_that_keras_computes(
    bundle: dw.Bundle, digits: Digits, name: str
) -> None:
    from digitwise.network.backend import keras, open_model

    chosen = dw.open_bundle(name) if name == "pretrained" else bundle
    model = open_model(chosen.path / "model.keras")
    images = digits[0][:5]
    for image in images:
        outputs = Explainer(chosen).outputs(image)
        names = [output.name for output in outputs]
        kinds = [type(layer).__name__ for layer in model.layers]
        wanted = [kind for kind in kinds if kind in ("Activation", "Dense") or "Pooling" in kind]
        assert len(names) == len(wanted)
        own = keras.Model(model.inputs, [model.get_layer(layer).output for layer in names])
        expected = own.predict(dw.normalize(dw.add_channel(image[np.newaxis])), verbose=0)
        for output, values in zip(outputs, expected, strict=True):
            np.testing.assert_allclose(output.values, values[0], atol=1e-4)


def test_the_first_maps_are_sums_over_patches(explainer: Explainer, digits: Digits) -> None:
    first = explainer.first_layer
    assert first is not None
    height, width, _, _ = first.kernels.shape
    output = explainer.outputs(digits[0][0])[0]
    assert output.name == first.layer
    above, left = first.padding
    scaled = np.pad(digits[0][0] / 255, ((above, height), (left, width)))
    patches = np.lib.stride_tricks.sliding_window_view(scaled, (height, width))
    stride = 28 // output.values.shape[0]
    sums = np.einsum("yxij,ijf->yxf", patches[::stride, ::stride], first.kernels[:, :, 0])
    rows, columns, _ = output.values.shape
    cells = np.maximum(first.scale * sums[:rows, :columns] + first.shift, 0)
    np.testing.assert_allclose(cells, output.values, atol=1e-4)


def _fall(explainer: Explainer, image: np.ndarray, pixels: np.ndarray, label: int) -> float:
    """Tells how far the probability of a class falls where pixels are hidden."""
    hidden = image.copy()
    hidden.ravel()[pixels] = 0
    both = dw.normalize(dw.add_channel(np.stack([image, hidden])))
    before, after = explainer.bundle.outputs(both)[:, label]
    return float(before - after)


@pytest.mark.parametrize(("method", "least"), [("class activation", 0.94), ("occlusion", 0.95)])
def test_hiding_what_a_map_calls_important_costs_more_than_hiding_a_random_tenth(
    explainer: Explainer, digits: Digits, method: str, least: float
) -> None:
    random = np.random.default_rng(0)
    lower = 0
    for image in digits[0][:500]:
        outputs = explainer.outputs(image)
        label = int(outputs[-1].values[:10].argmax())
        if method == "occlusion":
            found = occlusion(explainer, image, label)
        else:
            found = class_activation(explainer, image, outputs, label)
        assert found is not None
        important = np.argsort(-found.ravel(), kind="stable")[:TENTH]
        some = random.permutation(image.size)[:TENTH]
        fall, by_chance = (_fall(explainer, image, part, label) for part in (important, some))
        lower += fall > by_chance
    assert lower >= least * 500


def test_integrated_gradients_add_up_to_what_the_digit_gained(
    explainer: Explainer, digits: Digits
) -> None:
    image, label = digits[0][0], int(digits[1][0])
    found = integrated_gradients(explainer, image, label)
    blank = np.zeros_like(image)
    probabilities = [explainer.outputs(one)[-1].values[label] for one in (blank, image)]
    gained = np.log(probabilities[1]) - np.log(probabilities[0])
    assert abs(found.sum() - gained) < 0.1 * abs(gained)


@pytest.mark.filterwarnings("ignore::digitwise.errors.SampleDataWarning")
def test_a_page_holds_the_figures_of_each_digit(
    digits: Digits, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    Image.fromarray(_picture(digits, (2, 7))).save("mine.png")
    command = ["explain", "mine.png", "--output", "why", "--neighbours", "sample", "--json"]
    assert main(command) == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.validate(printed, json.loads((SCHEMAS / "explain.json").read_text()))
    assert printed["text"] == "27"
    assert [digit["digit"] for digit in printed["digits"]] == [2, 7]
    assert printed["digits"][1]["neighbors"][0]["digit"] == 7
    page = Path("why/index.html").read_text()
    shown = re.findall(r'src="([^"]+)"', page)
    assert len(shown) == len(printed["figures"]) - 1
    assert all((Path("why") / file).read_bytes().startswith(b"\x89PNG") for file in shown)
    assert "http" not in page
    assert main(["explain", "mine.png"]) == 0
    assert "digit 1: 2 " in capsys.readouterr().out


def test_a_bundle_that_lacks_its_layers_says_so(bundle: dw.Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.path, tmp_path / "older")
    (tmp_path / "older" / "outputs.onnx").unlink()
    with pytest.raises(DigitwiseError, match="older: lacks what explaining needs"):
        Explainer(dw.open_bundle(tmp_path / "older"))


def test_an_explanation_takes_neighbors_from_load_data_and_a_folder_name(
    digits: Digits, small: Path
) -> None:
    training = dw.load_data(path=small)[0]
    explanation = dw.explain(_picture(digits, (7,)), neighbors=training)
    assert explanation.to_dict()["digits"][0]["neighbors"][0]["text"] == "7"
    files = explanation.save("why")
    assert files[0] == Path("why/index.html")
    assert all(file.is_file() for file in files)


@pytest.mark.usefixtures("no_type_checks")
@pytest.mark.parametrize(
    ("neighbors", "fix"),
    [
        (np.zeros((2, 28, 28), np.uint8), "a tuple of images and labels"),
        ((np.zeros((2, 28, 28)), np.arange(2)), "neighbors: crops are float64"),
        ((np.zeros((2, 28, 28), np.uint8), np.arange(3)), "2 images and labels"),
        ((np.zeros((2, 28, 28), np.uint8), np.array([0, 10])), "labels from 0 to 10"),
        ((np.zeros((0, 28, 28), np.uint8), np.arange(0)), "no images"),
    ],
)
def test_neighbors_that_are_not_labeled_images_are_refused(neighbors: object, fix: str) -> None:
    with pytest.raises(DigitwiseError, match=fix):
        dw.explain(np.full((40, 40), 255, np.uint8), neighbors=neighbors)


def test_images_are_compared_in_a_network_without_a_dense_layer(
    small: Path, digits: Digits, tmp_path: Path
) -> None:
    from digitwise.network.backend import keras

    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(10, 9, strides=4),
            layers.Activation("relu"),
            layers.GlobalAveragePooling2D(),
            layers.Activation("softmax"),
        ]
    )
    trained = dw.train(network, path=small, minimum_steps=1, epochs=1, output=tmp_path / "run")
    assert Explainer(trained).embed(digits[0][:3]).shape == (3, 10)
    Explainer(trained).outputs(digits[0][0])

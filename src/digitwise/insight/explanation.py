"""Why each digit of a picture was read as it was: numbers, pictures, and a page of them."""

import html
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from digitwise.bundle import Bundle, as_digit, open_classifier
from digitwise.data.formats import LabeledImages
from digitwise.data.images import Source
from digitwise.data.preprocessing import add_channel, normalize
from digitwise.errors import DigitwiseError
from digitwise.insight import pages
from digitwise.insight.activations import Explainer, LayerOutput
from digitwise.insight.attribution import class_activation, integrated_gradients, occlusion
from digitwise.messages import printable
from digitwise.reading.reader import Digit, Reader, Reading
from digitwise.reading.recognizer import check_crops
from digitwise.storage import check_output, protected, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NEIGHBORS = 8
PAGE_FILE = "index.html"
PICTURE_FILE = "picture.png"


@dataclass(frozen=True)
class DigitExplanation:
    """What led to one digit.

    Attributes:
        digit: as it was read.
        crop: (h, w, 3) uint8, its box in the picture.
        probabilities: calibrated, of each class and, where the network tells it, of no digit.
        layers: the output of every activation, pooling and dense layer.
        class_activation: evidence for the digit over its ink, where the network's end is linear.
        occlusion: how much less probable the digit becomes where a square hides a part.
        gradients: integrated gradients, where they were asked for.
        neighbors: the training digits that the network finds most alike, nearest first; their
            labels index the bundle's classes.
        distances: of these, in the space of the last layer's input, 0 alike to 2 opposite.
    """

    digit: Digit
    crop: UInt8[np.ndarray, "h w 3"]
    probabilities: Float32[np.ndarray, " outputs"]
    layers: list[LayerOutput]
    class_activation: Float32[np.ndarray, "28 28"] | None
    occlusion: Float32[np.ndarray, "28 28"]
    gradients: Float32[np.ndarray, "28 28"] | None
    neighbors: LabeledImages | None
    distances: Float32[np.ndarray, " k"] | None

    def to_dict(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """Returns the numbers as plain data."""
        names = [*classes, "no digit"]
        document: dict[str, Any] = {
            **self.digit.to_dict(),
            "probabilities": {
                names[number]: round(float(value), 4)
                for number, value in enumerate(self.probabilities)
            },
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "kernel": None if layer.kernel is None else list(layer.kernel),
                    "strides": None if layer.strides is None else list(layer.strides),
                    "shape": list(layer.values.shape),
                }
                for layer in self.layers
            ],
        }
        if self.neighbors is not None and self.distances is not None:
            document["neighbors"] = [
                {
                    "text": classes[label],
                    "digit": as_digit(classes[label]),
                    "distance": round(float(distance), 4),
                }
                for label, distance in zip(self.neighbors.y, self.distances, strict=True)
            ]
        return document


@dataclass(frozen=True)
class Explanation:
    """Why a picture was read as it was.

    Attributes:
        reading: what was read.
        bundle: with which network.
        digits: a part for each digit, in reading order.
    """

    reading: Reading
    bundle: Bundle
    digits: list[DigitExplanation]

    def to_dict(self) -> dict[str, Any]:
        """Returns the numbers as plain data."""
        return {
            "path": None if self.reading.path is None else printable(self.reading.path),
            "bundle": str(self.bundle.path),
            "text": self.reading.text,
            "digits": [digit.to_dict(self.bundle.classes) for digit in self.digits],
        }

    def save(self, folder: str | Path, *, force: bool = False) -> list[Path]:
        """Save everything to a folder: a PNG per figure, and `index.html`, a page with all of them.

        Args:
            folder: where the files are written; created if missing. Files that Digitwise wrote
                are replaced.
            force: whether to replace files that Digitwise did not write. The picture that was read
                and the bundle are never replaced.

        Returns:
            The files written, the page first.

        Raises:
            DigitwiseError: matplotlib is missing, or a file exists and must be kept.
            MachineError: the disk is full or permission is missing.
        """
        with protected([self.reading.path, self.bundle.path]):
            return self._save(Path(folder), force)

    def _save(self, folder: Path, force: bool) -> list[Path]:
        """Save everything to a folder, whose inputs are protected."""
        from digitwise.insight import figures

        page = folder / PAGE_FILE
        check_output(page, force=force)  # before anything is drawn
        self.reading.save(folder / PICTURE_FILE, force=force)
        sections, files = [], [folder / PICTURE_FILE]
        for number, part in enumerate(self.digits, 1):
            prefix = f"{number:02}-digit-{_file_name(part.digit.text)}"
            shown = []
            for name, (caption, figure) in _figures(part, self.bundle.classes).items():
                file = folder / f"{prefix}-{name}.png"
                files.append(figures.save(figure, file, force=force))
                shown.append((files[-1].name, caption))
            sections.append((f"Digit {number}: read as {part.digit.text}", shown))
        write_text(page, _page(self, sections), force=force)
        return [page, *files]


def explain(
    source: Source,
    bundle: Bundle | str | Path = "pretrained",
    *,
    neighbors: tuple[UInt8[np.ndarray, "n 28 28"], Integer[np.ndarray, " n"]] | None = None,
    gradients: bool = False,
) -> Explanation:
    """Reads a picture and tells of each digit how the network came to it.

    Args:
        source: a path, bytes, an open file, a Pillow image or an array.
        bundle: what to read with.
        neighbors: training digits to search for the most similar ones: images, uint8 (n, 28, 28)
            with bright ink, and labels that index the bundle's classes, such as `load_data()[0]`.
        gradients: whether to compute integrated gradients, which needs Keras.

    Raises:
        DigitwiseError: the picture cannot be read, the neighbors are not labeled images, or the
            bundle lacks what explaining needs.
    """
    opened = open_classifier(bundle)
    explainer = Explainer(opened)
    known_digits = None if neighbors is None else _checked_neighbors(neighbors, opened.classes)
    reading = Reader(opened).read(source)
    known = None if known_digits is None else _unit(explainer.embed(known_digits.x))
    return Explanation(
        reading,
        opened,
        [
            _explain_digit(explainer, reading, digit, known_digits, known, gradients)
            for digit in reading.digits
        ],
    )


def _checked_neighbors(given: Any, classes: tuple[str, ...]) -> LabeledImages:
    """Check images and labels that a caller gave as neighbors.

    Raises:
        DigitwiseError: they are not labeled images, or a label is not one of the classes.
    """
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise DigitwiseError(
            "neighbors must be a tuple of images and labels: use digitwise.load_data()[0]"
        )
    x, y = given
    try:
        check_crops(x)
    except DigitwiseError as error:
        raise DigitwiseError(f"neighbors: {error}") from error
    y = np.asarray(y)
    if y.shape != (len(x),) or y.dtype.kind not in "iu":
        raise DigitwiseError(
            f"neighbors have {len(x)} images and labels of {y.dtype} of shape {y.shape}: give an "
            "integer for each image"
        )
    if not len(y):
        raise DigitwiseError("neighbors hold no images: give at least one")
    if y.min() < 0 or y.max() >= len(classes):
        raise DigitwiseError(
            f"neighbors have labels from {y.min()} to {y.max()}, the bundle's classes are numbered "
            f"0 to {len(classes) - 1}: leave out images of other classes"
        )
    return LabeledImages(x, y.astype(np.uint8))


def _file_name(name: str) -> str:
    """Return a class name as part of a file name."""
    return re.sub(r"[^\w-]+", "-", name)[:40]


def _explain_digit(
    explainer: Explainer,
    reading: Reading,
    digit: Digit,
    neighbors: LabeledImages | None,
    known: Float32[np.ndarray, "n features"] | None,
    gradients: bool,
) -> DigitExplanation:
    """Tells how the network came to one digit."""
    image, label = digit.image, digit.label
    outputs = explainer.outputs(image)
    nearest, distances = None, None
    if neighbors is not None and known is not None:
        away = 1 - known @ _unit(explainer.embed(image[np.newaxis]))[0]
        order = np.argsort(away, kind="stable")[:NEIGHBORS]
        nearest = LabeledImages(neighbors.x[order], neighbors.y[order])
        distances = away[order]
    return DigitExplanation(
        digit,
        _crop(reading, digit),
        explainer.bundle.outputs(normalize(add_channel(image[np.newaxis])))[0],
        outputs,
        class_activation(explainer, image, outputs, label),
        occlusion(explainer, image, label),
        integrated_gradients(explainer, image, label) if gradients else None,
        nearest,
        distances,
    )


def _unit(vectors: Float32[np.ndarray, "n features"]) -> Float32[np.ndarray, "n features"]:
    """Brings vectors to length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _crop(reading: Reading, digit: Digit) -> UInt8[np.ndarray, "h w 3"]:
    """Cuts a digit's box, with some margin, out of the picture."""
    assert reading.pixels is not None
    scale = reading.pixels.shape[1] / reading.width
    x, y, width, height = (value * scale for value in digit.box)
    margin = 0.15 * max(width, height)
    left, top = max(0, round(x - margin)), max(0, round(y - margin))
    right, bottom = round(x + width + margin), round(y + height + margin)
    return np.ascontiguousarray(
        reading.pixels[top : max(bottom, top + 1), left : max(right, left + 1)]
    )


def _figures(part: DigitExplanation, classes: tuple[str, ...]) -> dict[str, tuple[str, "Figure"]]:
    """Draws the figures of one digit, with a sentence to each, by file name."""
    from digitwise.insight import figures

    image = part.digit.image
    drawn: dict[str, tuple[str, Figure]] = {
        "input": (
            "The crop, and the 28×28 pixels that the network saw.",
            figures.crop_and_input(part.crop, image),
        ),
        "probabilities": (
            "How probable each class is.",
            figures.probabilities(part.probabilities, classes, part.digit.label),
        ),
    }
    evidence = [
        (
            "class-activation",
            "Class activation: where the last feature maps speak for the digit, and against it.",
            part.class_activation,
        ),
        (
            "occlusion",
            "Occlusion: how far the digit's log-probability falls where a square hides a part.",
            part.occlusion,
        ),
        (
            "gradients",
            "Integrated gradients: what each pixel adds to the digit's log-probability.",
            part.gradients,
        ),
    ]
    for name, caption, values in evidence:
        if values is not None:
            title = name.replace("-", " ").capitalize()
            drawn[name] = (caption, figures.evidence(image, values, title))
    for number, layer in enumerate(part.layers, 1):
        if layer.is_map:
            drawn[f"layer-{number:02}-{layer.name}"] = (
                f"Layer {layer.name}: {layer.values.shape[-1]} maps.",
                figures.feature_maps(layer),
            )
    if part.neighbors is not None and part.distances is not None:
        drawn["neighbors"] = (
            "The training digits that the network finds most alike.",
            figures.neighbors(image, part.neighbors, part.distances, classes),
        )
    return drawn


def _page(explanation: Explanation, sections: list[tuple[str, list[tuple[str, str]]]]) -> str:
    """Puts the figures together on one page."""
    reading = explanation.reading
    read = html.escape(reading.text or "no digits").replace("\n", "<br>")
    title = f"Why {Path(reading.path).name if reading.path else 'the picture'} reads so"
    parts = [
        f"<h1>{html.escape(title)}</h1><p>Read as <strong>{read}</strong> by the network "
        f"“{html.escape(explanation.bundle.architecture)}”. Evidence is told in nats: one makes a "
        "digit 2.7 times as probable. Each picture opens in full size.</p>",
        f'<p><img src="{PICTURE_FILE}" alt="The picture with a box around each digit"></p>',
    ]
    for heading, shown in sections:
        drawn = "\n".join(pages.figure(file, caption, opens=True) for file, caption in shown)
        parts.append(f'<h2>{html.escape(heading)}</h2><div class="figures">{drawn}</div>')
    return pages.page(title, "\n".join(parts))

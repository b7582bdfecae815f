"""How well a bundle reads: accuracy, per-class report, confusion, calibration, with intervals."""

import math
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int64, Integer, UInt8

from digitwise.bundle import SEEN_FILE, Bundle, open_classifier, soften
from digitwise.data.formats import LabeledImages
from digitwise.data.loading import Dataset, load_dataset, with_classes, with_test_set
from digitwise.data.mapped import Images, chunks
from digitwise.data.normalization import SIDE, normalize_images
from digitwise.data.preprocessing import preprocess
from digitwise.data.seen import SeenImages, digest_images, selected
from digitwise.errors import DigitwiseError, MissingClassWarning
from digitwise.messages import say

CALIBRATION_BINS = 15
_WORST_MISTAKES = 100
_WILSON_Z = 1.959963984540054  # the normal distribution's 97.5% quantile


@dataclass(frozen=True)
class ClassFigures:
    """How well one class is read.

    Attributes:
        name: the class.
        images: how many images show it.
        precision: of those read as it, the share that are; None where none was read as it.
        recall: of those that are, the share read as it; None where there is none.
        f1: harmonic mean of the two; None where there is neither.
    """

    name: str
    images: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class LeftOut:
    """How many images were not tested on because the network had seen them.

    Attributes:
        trained: it was trained on them.
        validated: its weights, temperature or threshold were selected on them.
    """

    trained: int
    validated: int


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        dataset: the data's name.
        source: where the data was taken from.
        classes: the name of each label.
        images: how many images were read.
        accuracy: the share read right.
        confidence_interval: Wilson's 95% interval of the accuracy.
        loss: mean cross-entropy of the calibrated probabilities, in nats.
        calibration_error: expected calibration error over 15 bins of equal mass.
        per_class: figures of each class.
        confusion: [i, j] counts the images of class i read as class j.
        mistakes: indices into `x` of misclassified images, most confident first, at most a hundred.
        x: the images, (n, 28, 28) uint8; `MappedImages` where they stay on disk.
        y: their labels.
        probabilities: (n, classes) float32, calibrated.
        left_out: how many images were not used because the network had seen them; None if the
            bundle does not record what it has seen.
        normalized: how many images were converted to MNIST's form first.
    """

    dataset: str
    source: str
    classes: tuple[str, ...]
    images: int
    accuracy: float
    confidence_interval: tuple[float, float]
    loss: float
    calibration_error: float
    per_class: tuple[ClassFigures, ...]
    confusion: Int64[np.ndarray, "classes classes"] = field(repr=False)
    mistakes: Integer[np.ndarray, " mistakes"] = field(repr=False)
    x: UInt8[Images, "n h w"] = field(repr=False)
    y: UInt8[np.ndarray, " n"] = field(repr=False)
    probabilities: Float32[np.ndarray, "n classes"] = field(repr=False)
    left_out: LeftOut | None = None
    normalized: int = 0

    @cached_property
    def read_as(self) -> Int64[np.ndarray, " n"]:
        """The label that each image was read as."""
        return self.probabilities.argmax(axis=1)

    @cached_property
    def confidence(self) -> Float32[np.ndarray, " n"]:
        """How probable that label was called."""
        return self.probabilities.max(axis=1)

    @cached_property
    def confusions(self) -> Int64[np.ndarray, "classes classes"]:
        """The confusion matrix without what was read right."""
        return self.confusion - np.diag(np.diag(self.confusion))

    @property
    def wrong(self) -> int:
        """How many images were read wrong."""
        return int(self.confusions.sum())

    def summary(self) -> dict[str, Any]:
        """Returns the figures without the tables, as plain data."""
        return {
            "images": self.images,
            "accuracy": self.accuracy,
            "confidence_interval": list(self.confidence_interval),
            "loss": self.loss,
            "calibration_error": self.calibration_error,
        }

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the pictures, as plain data."""
        return {
            "dataset": self.dataset,
            "source": self.source,
            **self.summary(),
            "left_out": None if self.left_out is None else vars(self.left_out),
            "normalized": self.normalized,
            "classes": list(self.classes),
            "per_class": [vars(figures) for figures in self.per_class],
            "confusion": self.confusion.tolist(),
            "mistakes": [
                {
                    "index": int(index),
                    "label": self.classes[self.y[index]],
                    "read_as": self.classes[self.read_as[index]],
                    "confidence": float(self.confidence[index]),
                }
                for index in self.mistakes
            ],
        }


def evaluate(
    bundle: Bundle | str | Path,
    *,
    dataset: str | None = None,
    path: str | Path | None = None,
    normalize: str = "auto",
    allow_sample: bool = True,
) -> Evaluation:
    """Test a bundle on images that it was not trained on.

    Args:
        bundle: a bundle, or where one lies.
        dataset: a name that `load_data` knows; left out, the data that the bundle was trained on.
        path: your own data. The test set is used if there is one, otherwise the only set. Images
            that the bundle was trained or validated on are left out.
        normalize: "auto" converts images that are clearly not in MNIST's form, if the bundle was
            trained on MNIST, and the data is not MNIST; "always" converts all of them, "never"
            none: see `normalize_images`. A notice says how many were converted.
        allow_sample: whether the built-in sample may stand in for MNIST.

    Returns:
        Figures of the network that reads, in ONNX Runtime, calibrated as the bundle says.

    Raises:
        DigitwiseError: the data is bad, has other classes than the bundle, or is not to be had:
            the built-in sample only tests bundles trained on its training part; or the bundle has
            seen every image of it.
    """
    opened = open_classifier(bundle)
    data = find_test_data(opened, dataset, path, allow_sample=allow_sample)
    images, left_out = test_images(opened, data)
    images, normalized = _normalized(opened, data, images, normalize)
    evaluation = score(opened, images, data.name, data.source)
    return replace(evaluation, left_out=left_out, normalized=normalized)


def _normalized(
    bundle: Bundle, data: Dataset, images: LabeledImages, normalize: str
) -> tuple[LabeledImages, int]:
    """Convert images to MNIST's form as asked for; return how many were converted."""
    if normalize == "auto" and (not bundle.expects_mnist_form or data.name == "mnist"):
        normalize = "never"
    if normalize == "never" or images.x.shape[1:] != (SIDE, SIDE):
        return images, 0
    parts = [normalize_images(np.asarray(chunk), normalize) for chunk in chunks(images.x)]
    count = sum(int(converted.sum()) for _, converted in parts)
    if count:
        say(
            f"notice: {data.source}: converted {count:,} of {len(images.y):,} images to MNIST's "
            "form: --normalize never tests them as they are"
        )
    return LabeledImages(np.concatenate([x for x, _ in parts]), images.y), count


def find_test_data(
    bundle: Bundle,
    dataset: str | None = None,
    path: str | Path | None = None,
    *,
    allow_sample: bool = True,
) -> Dataset:
    """Loads what a bundle may be tested on: see `evaluate`.

    Raises:
        DigitwiseError: as `evaluate`.
    """
    trained_on = bundle.record["dataset"]
    if dataset is None and path is None:
        path = bundle.record.get("settings", {}).get("path")
        dataset = None if path else trained_on["name"]
    may_be_sample = allow_sample and trained_on.get("sample", False)  # else it learned from it
    return load_dataset(dataset, path, allow_sample=may_be_sample)


def test_images(bundle: Bundle, data: Dataset) -> tuple[LabeledImages, LeftOut | None]:
    """Return the images that a bundle was neither trained nor validated on, and report the others.

    Returns:
        The images, with labels that index the bundle's classes; and how many were left out, None if
        the bundle, like those of version 1, does not record what it has seen.

    Raises:
        DigitwiseError: no image is left, or a class is unknown to the bundle.
    """
    seen = seen_by(bundle)
    if seen is None:
        return _test_images_of_whole_sets(bundle, data), None
    test = data.test or data.train
    assert test is not None
    test = with_classes(test, data, bundle.classes)
    digests = digest_images(test.x)
    left_out = LeftOut(
        trained=int(seen.was_trained_on(digests).sum()),
        validated=int(seen.was_validated_on(digests).sum()),
    )
    left = np.flatnonzero(~seen.was_seen(digests))
    if not len(left):
        raise _all_seen(data)
    if len(left) < len(digests):
        say(
            f"notice: {data.source}: left out {len(digests) - len(left):,} of {len(digests):,} "
            f"images: the network was trained on {left_out.trained:,} of them and validated on "
            f"{left_out.validated:,}"
        )
    return selected(test, left), left_out


def seen_by(bundle: Bundle) -> SeenImages | None:
    """Read which images a bundle has seen; None if it has no such record, as in version 1.

    Raises:
        DigitwiseError: the record is damaged.
    """
    file = bundle.path / SEEN_FILE
    return SeenImages.read(file) if file.is_file() else None


def _test_images_of_whole_sets(bundle: Bundle, data: Dataset) -> LabeledImages:
    """Return test images, checked by the digests of whole sets if a bundle has no others.

    The bundle's training set is refused; of a single set that it was trained on a part of, the
    other part is used. Whether other data contains training images cannot be checked.
    """
    trained_on = bundle.record["dataset"]
    known = trained_on["digests"]
    if data.test is None and data.digests == trained_on.get("whole_digests"):
        data = with_test_set(data, trained_on["split_seed"])
    test = data.test or data.train
    assert test is not None
    digest = data.digests["x_train" if data.test is None else "x_test"]
    if digest == known.get("x_train"):
        raise _all_seen(data)
    if digest != known.get("x_test"):
        say(
            f"notice: {data.source}: could not be checked for training images, since {bundle.path} "
            "does not record them: retrain it for reliable figures"
        )
    return with_classes(test, data, bundle.classes)


def _all_seen(data: Dataset) -> DigitwiseError:
    """Create the error for data without unseen images."""
    return DigitwiseError(
        f"{data.source}: the network was trained or validated on every image: use other --data"
    )


def score(bundle: Bundle, test: LabeledImages, dataset: str, source: str) -> Evaluation:
    """Reads labeled images and compares.

    Args:
        bundle: the network.
        test: images, and labels as the bundle numbers its classes.
        dataset: the data's name, for the record.
        source: where it was taken from, for the record.
    """
    classes = bundle.classes
    probabilities = _probabilities(bundle, test)
    y = test.y.astype(np.int64)
    predicted = probabilities.argmax(axis=1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (y, predicted), 1)
    missing = [
        name for name, count in zip(classes, confusion.sum(axis=1), strict=True) if not count
    ]
    if missing:
        warnings.warn(
            f"{source}: no image shows {', '.join(missing)}: the accuracy is that of the others",
            MissingClassWarning,
            stacklevel=2,
        )
    right = int(confusion.trace())
    wrong = np.flatnonzero(predicted != y)
    surest = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
    return Evaluation(
        dataset=dataset,
        source=source,
        classes=classes,
        images=len(y),
        accuracy=right / len(y),
        confidence_interval=wilson_interval(right, len(y)),
        loss=_cross_entropy(probabilities, y),
        calibration_error=expected_calibration_error(probabilities, y),
        per_class=_class_figures(confusion, classes),
        confusion=confusion,
        mistakes=surest[:_WORST_MISTAKES],
        x=test.x,
        y=test.y,
        probabilities=probabilities,
    )


def wilson_interval(right: int, images: int) -> tuple[float, float]:
    """Bounds an accuracy by its 95% score interval (Wilson, 1927).

    Args:
        right: how many were read right.
        images: how many were read, at least one.
    """
    share, z2 = right / images, _WILSON_Z**2
    middle = (share + z2 / (2 * images)) / (1 + z2 / images)
    spread = share * (1 - share) / images + z2 / (4 * images**2)
    half = _WILSON_Z / (1 + z2 / images) * math.sqrt(spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def expected_calibration_error(
    probabilities: Float32[np.ndarray, "n classes"],
    y: Integer[np.ndarray, " n"],
    bins: int = CALIBRATION_BINS,
) -> float:
    """Measures how far confidence is from accuracy, on average over bins of equal mass.

    The measure is that of Naeini, Cooper and Hauskrecht (2015), with bins of equal mass for bins
    of equal width: images are sorted by confidence and cut into as many equal parts.

    Args:
        probabilities: rows that sum to 1.
        y: labels.
        bins: how many parts.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == y
    order = np.argsort(confidence, kind="stable")
    gaps = (
        abs(confidence[part].mean() - right[part].mean()) * len(part)
        for part in np.array_split(order, bins)
        if len(part)
    )
    return float(sum(gaps)) / len(y)


def calibrate(bundle: Bundle, validation: LabeledImages) -> float:
    """Finds the temperature with the lowest loss on validation images.

    Temperatures from 0.2 to 5 are searched by golden section on their logarithm; the loss has
    one minimum there. A bundle's probabilities are taken as the network gives them.

    Args:
        bundle: the network, its own temperature still 1.
        validation: images that it was not trained on.
    """
    probabilities = _probabilities(bundle, validation)
    y = validation.y.astype(np.int64)

    def loss(log_temperature: float) -> float:
        return _cross_entropy(soften(probabilities, math.exp(log_temperature)), y)

    low, high = math.log(0.2), math.log(5)
    ratio = (math.sqrt(5) - 1) / 2
    while high - low > 1e-3:
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return round(math.exp((low + high) / 2), 4)


def _probabilities(bundle: Bundle, images: LabeledImages) -> Float32[np.ndarray, "n classes"]:
    """Predict labeled images in batches, so that only one batch is float at a time.

    Raises:
        DigitwiseError: a label is not among the bundle's classes.
    """
    parts = zip(chunks(images.x), chunks(images.y), strict=True)
    found = [bundle.predict(preprocess(x, y, len(bundle.classes))[0]) for x, y in parts]
    return np.concatenate(found) if found else np.zeros((0, len(bundle.classes)), np.float32)


def _cross_entropy(
    probabilities: Float32[np.ndarray, "n classes"], y: Integer[np.ndarray, " n"]
) -> float:
    """Averages the negative log-probability of the right class."""
    of_right: Float[np.ndarray, " n"] = probabilities[np.arange(len(y)), y]
    return float(-np.log(np.maximum(of_right, 1e-12), dtype=np.float64).mean())


def _class_figures(
    confusion: Int64[np.ndarray, "classes classes"], classes: tuple[str, ...]
) -> tuple[ClassFigures, ...]:
    """Takes precision, recall and F1 of each class from the confusion matrix."""
    figures = []
    for label, name in enumerate(classes):
        hits = int(confusion[label, label])
        shown, read = int(confusion[label].sum()), int(confusion[:, label].sum())
        figures.append(
            ClassFigures(
                name=name,
                images=shown,
                precision=hits / read if read else None,
                recall=hits / shown if shown else None,
                f1=2 * hits / (shown + read) if shown + read else None,
            )
        )
    return tuple(figures)

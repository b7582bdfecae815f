"""What a service says of a reading, as plain data."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from digitwise.bundle import Bundle
from digitwise.data.preprocessing import add_channel, normalize
from digitwise.insight.activations import Explainer
from digitwise.insight.attribution import class_activation
from digitwise.reading.reader import Digit, Line, Other, Reading
from digitwise.serving.problems import ProblemError
from digitwise.serving.workers import CropAnswer

_WHOLE = (0, 0, 28, 28)
_MOST_EXPLANATION = 3_000_000  # values of all layers in an answer; each takes 4/3 bytes


def crop_reading(
    crop: UInt8[np.ndarray, "28 28"], found: CropAnswer, classes: Sequence[str]
) -> Reading:
    """Return a crop's classification as the reading of a picture with nothing else on it.

    Args:
        crop: the crop.
        found: its classification.
        classes: the names of the bundle's classes.
    """
    if not found.accepted:
        return Reading(28, 28, 1, (), (Other("unknown", 1 - found.confidence, _WHOLE),))
    digit = Digit(classes[found.label], found.label, found.confidence, _WHOLE, crop)
    return Reading(28, 28, 1, (Line(digit.text, (digit,)),), ())


def reading_answer(reading: Reading) -> dict[str, Any]:
    """Gives a reading, and its text."""
    document = reading.to_dict()
    del document["path"]
    return {"text": reading.text, **document}


def explanation_answer(
    reading: Reading, explainer: Explainer, number: int | None
) -> dict[str, Any]:
    """Gives a reading, and what the network made of its digits.

    Args:
        reading: of a picture.
        explainer: of the network that read it.
        number: which digit, in reading order from 0, -1 the last; None: all.

    Raises:
        ProblemError: all digits are requested, and the answer would be too large.
    """
    numbered = list(enumerate(reading.digits))
    most = max(1, _MOST_EXPLANATION // explainer.values_per_image)
    if number is None and len(numbered) > most:
        raise ProblemError(
            422,
            f"the picture has {len(numbered)} digits, of which {most} can be explained at once: "
            f"ask for one at a time, with ?digit=0 to ?digit={len(numbered) - 1}",
        )
    wanted = numbered if number is None else numbered[number:][:1]
    return {
        **reading_answer(reading),
        "turned": round(reading.turned, 2),
        "digits": [_digit_answer(explainer, digit, index) for index, digit in wanted],
    }


def model_answer(bundle: Bundle, explainer: Explainer | None) -> dict[str, Any]:
    """Tells what reads: its size, its figures, what it was trained on, its first kernels."""
    record = bundle.record
    answer: dict[str, Any] = {
        "architecture": bundle.architecture,
        "classes": list(bundle.classes),
        "parameters": record["architecture"].get("parameters"),
        "dataset": record["dataset"]["name"],
        "accuracy": (record.get("test") or {}).get("accuracy"),
        "created": record.get("created"),
        "layers": [],
        "first_layer": None,
    }
    if explainer is not None:
        answer["layers"] = [
            {key: layer[key] for key in ("name", "kind", "kernel", "strides", "shape")}
            for layer in record["architecture"]["layers"]
        ]
        first = explainer.first_layer
        if first is not None:
            answer["first_layer"] = {
                "layer": first.layer,
                "padding": list(first.padding),
                "kernels": np.round(first.kernels, 4).tolist(),
                "scale": np.round(first.scale, 4).tolist(),
                "shift": np.round(first.shift, 4).tolist(),
            }
    return answer


def _digit_answer(explainer: Explainer, digit: Digit, index: int) -> dict[str, Any]:
    """Gives what the network made of one digit, layer by layer."""
    image = digit.image
    outputs = explainer.outputs(image)
    probabilities = explainer.bundle.outputs(normalize(add_channel(image[np.newaxis])))[0]
    evidence = class_activation(explainer, image, outputs, digit.label)
    names = [*explainer.bundle.classes, "no digit"]
    return {
        "index": index,
        **digit.to_dict(),
        "image": base64.b64encode(image.tobytes()).decode(),
        "probabilities": {
            names[number]: round(float(value), 4) for number, value in enumerate(probabilities)
        },
        "layers": [
            {"name": layer.name, "kind": layer.kind, **_packed(layer.values)} for layer in outputs
        ],
        "class_activation": None if evidence is None else _packed(evidence),
    }


def _packed(values: Float32[np.ndarray, "..."]) -> dict[str, Any]:
    """Packs values into bytes: 0 stands for the lowest, 255 for the highest."""
    low, high = float(values.min()), float(values.max())
    bytes_ = np.round((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
    return {
        "shape": list(values.shape),
        "low": round(low, 5),
        "high": round(high, 5),
        "values": base64.b64encode(np.ascontiguousarray(bytes_).tobytes()).decode(),
    }

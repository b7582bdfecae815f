"""Every layer's output for one picture, from a bundle, without Keras."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from digitwise.bundle import LAYERS_FILE, ONNX_FILE, OUTPUTS_FILE, Bundle, open_session
from digitwise.data.preprocessing import add_channel, normalize
from digitwise.errors import DigitwiseError


@dataclass(frozen=True)
class LayerOutput:
    """What a layer makes of a picture.

    Attributes:
        name: the Keras layer's.
        kind: what it does: "relu", "MaxPooling2D", "Dense", "softmax", …
        kernel: height and width of what a cell sees of the layer before, where there is such.
        strides: how far apart cells look, likewise.
        values: (height, width, channels), or (units,) after flattening.
    """

    name: str
    kind: str
    kernel: tuple[int, int] | None
    strides: tuple[int, int] | None
    values: Float32[np.ndarray, "..."]

    @property
    def is_map(self) -> bool:
        """Whether it has places, not numbers alone."""
        return self.values.ndim == 3


@dataclass(frozen=True)
class FirstLayer:
    """What the first convolution computes with.

    A cell of filter f is activation(scale[f] · Σ patch · kernels[..., f] + shift[f]).

    Attributes:
        layer: the name of the layer whose output that is.
        kernels: of the convolution.
        scale: of each filter's sums, from batch normalization.
        shift: added to them, likewise, or the bias.
        padding: how many rows above and columns left of the picture the first cell sees.
    """

    layer: str
    kernels: Float32[np.ndarray, "kh kw channels filters"]
    scale: Float32[np.ndarray, " filters"]
    shift: Float32[np.ndarray, " filters"]
    padding: tuple[int, int]


class Explainer:
    """A bundle's network, opened so that every layer's output comes out.

    Args:
        bundle: left by `train`.

    Raises:
        DigitwiseError: the bundle lacks what explaining needs.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._layers = bundle.record["architecture"].get("layers")
        outputs, weights = bundle.path / OUTPUTS_FILE, bundle.path / LAYERS_FILE
        if not self._layers or not outputs.is_file() or not weights.is_file():
            raise DigitwiseError(
                f"{bundle.path}: lacks what explaining needs: train the bundle anew"
            )
        self._session = open_session(bundle.path / ONNX_FILE, outputs)
        self._input = self._session.get_inputs()[0].name
        self._weights = _open_weights(weights)

    @property
    def values_per_image(self) -> int:
        """The number of values that `outputs` returns per image."""
        return sum(math.prod(layer["shape"]) for layer in self._layers)

    def outputs(self, image: UInt8[np.ndarray, "28 28"]) -> list[LayerOutput]:
        """Runs one image through the network.

        Args:
            image: as the network sees it, ink bright.

        Returns:
            The outputs of all activations, poolings and dense layers, first to last.
        """
        tensors = [layer["tensor"] for layer in self._layers]
        found = self._session.run(tensors, {self._input: normalize(add_channel(image[np.newaxis]))})
        return [
            LayerOutput(
                layer["name"],
                layer["kind"],
                tuple(layer["kernel"]) if layer["kernel"] else None,
                tuple(layer["strides"]) if layer["strides"] else None,
                np.moveaxis(values[0], 0, -1) if layer["channels_first"] else values[0],
            )
            for layer, values in zip(self._layers, found, strict=True)
        ]

    def embed(self, images: UInt8[np.ndarray, "n 28 28"]) -> Float32[np.ndarray, "n features"]:
        """Return the features of each image: the input of the last dense layer.

        Without a dense layer, these are the output of the second-to-last layer.

        Args:
            images: uint8, ink bright.
        """
        decision = max(
            (number for number, layer in enumerate(self._layers) if layer["kind"] == "Dense"),
            default=len(self._layers) - 1,
        )
        tensor = self._layers[max(0, decision - 1)]["tensor"]
        found = [
            self._session.run(
                [tensor], {self._input: normalize(add_channel(images[start : start + 512]))}
            )[0]
            for start in range(0, len(images), 512)
        ]
        return np.concatenate(found).reshape(len(images), -1)

    @property
    def first_kernels(self) -> Float32[np.ndarray, "kh kw channels filters"] | None:
        """The first convolution's kernels, None where there is no convolution."""
        return self._weights.get("first_kernels")

    @property
    def first_layer(self) -> FirstLayer | None:
        """What the first layer's cells are computed with; None: not from one convolution alone."""
        if not {"first_kernels", "first_scale", "first_shift", "first_padding"} <= set(
            self._weights
        ):
            return None
        above, left = self._weights["first_padding"].tolist()
        return FirstLayer(
            self._layers[0]["name"],
            self._weights["first_kernels"],
            self._weights["first_scale"],
            self._weights["first_shift"],
            (above, left),
        )

    @property
    def evidence_weights(self) -> Float32[np.ndarray, "h w channels outputs"] | None:
        """What each place of the last feature maps adds to each output; None: not that simple."""
        return self._weights.get("evidence")


def _open_weights(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Reads the weights that explaining needs."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zipfile, zlib, NumPy: whatever a damaged file sets off
        raise DigitwiseError(f"{path}: damaged: train the bundle anew") from error

"""What explaining needs of a network: its layers, and how to reach their outputs in ONNX."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from digitwise.bundle import LAYERS_FILE, OUTPUTS_FILE, open_session
from digitwise.network.backend import keras

_SHOWN = (
    keras.layers.Activation,
    keras.layers.Dense,
    keras.layers.MaxPooling2D,
    keras.layers.AveragePooling2D,
    keras.layers.GlobalAveragePooling2D,
    keras.layers.GlobalMaxPooling2D,
)
_WITHOUT_EFFECT = (keras.layers.Dropout, keras.layers.Flatten)
_ALIKE = 1e-3  # relative difference of one layer's output in Keras and in ONNX


def describe_layers(
    model: "keras.Sequential", onnx_file: Path, images: Float32[np.ndarray, "n h w c"]
) -> list[dict[str, Any]]:
    """Writes beside an ONNX network what explaining it needs.

    `outputs.onnx` declares the layers' outputs; joined to the network's file, byte after byte, the
    two are one ONNX file, since a protocol buffer's repeated fields add up. `layers.npz` has the
    first convolution's kernels, what becomes of their sums and, where what follows the last feature
    maps is linear, the weight of each place in them for each output.

    Args:
        model: the float32 model.
        onnx_file: what was written of it, in the folder where the rest is to lie.
        images: a few, on which outputs are recognized by their values: the converter renames,
            folds and transposes.

    Returns:
        Of each activation, pooling and dense layer: name, kind, kernel, strides, shape of its
        output, the tensor in ONNX, and whether that has channels first. Layers whose output the
        converter left out are left out.
    """
    import onnx

    shown = [layer for layer in model.layers if _is_shown(layer)]
    outputs = {layer.name: layer.output for layer in shown}  # by name: one alone is no list
    expected = keras.Model(model.inputs, outputs).predict(images, verbose=0)
    network = onnx.load(str(onnx_file))
    own = {output.name for output in network.graph.output}
    names = [name for node in network.graph.node for name in node.output if name]
    network.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in own)
    session = open_session(network.SerializeToString())
    found = dict(
        zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True)
    )
    described = []
    for layer in shown:
        values = expected[layer.name]
        tensor, channels_first = _find(values, found)
        if tensor is None:
            continue
        described.append(
            {
                "name": layer.name,
                "kind": _kind(layer),
                **_window(model, layer),
                "shape": list(values.shape[1:]),
                "tensor": tensor,
                "channels_first": channels_first,
            }
        )
    declared = onnx.ModelProto()
    wanted = dict.fromkeys(layer["tensor"] for layer in described)
    declared.graph.output.extend(
        onnx.ValueInfoProto(name=name) for name in wanted if name not in own
    )
    (onnx_file.parent / OUTPUTS_FILE).write_bytes(declared.SerializeToString())
    np.savez_compressed(onnx_file.parent / LAYERS_FILE, allow_pickle=False, **_weights(model))  # type: ignore[arg-type]
    return described


def _is_shown(layer: Any) -> bool:
    """Tells whether a layer's output is looked at: of a convolution with a relu, too."""
    activation = getattr(layer, "activation", None)
    within = activation is not None and activation is not keras.activations.linear
    return isinstance(layer, _SHOWN) or (within and isinstance(layer, keras.layers.Conv2D))


def _kind(layer: Any) -> str:
    """Names what a layer does."""
    activation = getattr(layer, "activation", None)
    if isinstance(layer, keras.layers.Activation) and activation is not None:
        return str(activation.__name__)
    return type(layer).__name__


def _window(model: "keras.Sequential", layer: Any) -> dict[str, Any]:
    """Tells the kernel and strides of a layer, or of the convolution that it activates."""
    if isinstance(layer, keras.layers.Activation):
        before = model.layers[: model.layers.index(layer)]
        while before and isinstance(before[-1], keras.layers.BatchNormalization):
            before = before[:-1]
        layer = before[-1] if before else layer
    kernel = getattr(layer, "kernel_size", getattr(layer, "pool_size", None))
    strides = getattr(layer, "strides", None) if kernel else None
    return {
        "kernel": list(kernel) if kernel else None,
        "strides": list(strides) if strides else None,
    }


def _find(
    values: Float32[np.ndarray, "..."], found: dict[str, np.ndarray]
) -> tuple[str | None, bool]:
    """Finds the ONNX tensor with a layer's values; of several the last, nearest to its use."""
    least = _ALIKE * max(1e-6, float(np.abs(values).max()))
    first = np.moveaxis(values, -1, 1) if values.ndim == 4 else values
    for name, tensor in reversed(found.items()):
        for expected, channels_first in ((values, False), (first, True)):
            if tensor.shape == expected.shape and np.abs(tensor - expected).max() <= least:
                return name, channels_first and values.ndim == 4
    return None, False


def _after_first(layer: Any, following: list[Any]) -> dict[str, np.ndarray]:
    """Takes what becomes of the first convolution's sums until they are activated.

    Returns:
        The convolution's padding above and on the left, and the scale and shift of each filter's
        sums; nothing where anything but batch normalization comes before the activation.
    """
    filters = layer.kernel.shape[-1]
    scale = np.ones(filters, np.float32)
    shift = np.zeros(filters, np.float32) if layer.bias is None else np.asarray(layer.bias)
    if following and isinstance(following[0], keras.layers.BatchNormalization):
        norm, *following = following
        spread = np.sqrt(np.asarray(norm.moving_variance) + norm.epsilon)
        scale = (np.asarray(norm.gamma) if norm.scale else scale) / spread
        shift = (shift - np.asarray(norm.moving_mean)) * scale
        shift = shift + (np.asarray(norm.beta) if norm.center else 0)
    if not _is_shown(layer) and not (
        following and isinstance(following[0], keras.layers.Activation)
    ):
        return {}
    padding = np.zeros(2, np.int64)
    if layer.padding == "same":
        sides = zip(
            layer.input.shape[1:3],
            layer.output.shape[1:3],
            layer.kernel_size,
            layer.strides,
            strict=True,
        )
        lacking = [(out - 1) * stride + kernel - side for side, out, kernel, stride in sides]
        padding = np.maximum(np.array(lacking), 0) // 2
    return {
        "first_padding": padding,
        "first_scale": scale.astype(np.float32),
        "first_shift": shift.astype(np.float32),
    }


def _weights(model: "keras.Sequential") -> dict[str, np.ndarray]:
    """Takes what the first convolution computes with, and the evidence weights of a linear head."""
    arrays = {}
    for number, layer in enumerate(model.layers):
        if isinstance(layer, keras.layers.Conv2D):
            arrays["first_kernels"] = np.asarray(layer.kernel, np.float32)
            arrays |= _after_first(layer, model.layers[number + 1 :])
            break
    head = [layer for layer in model.layers if not isinstance(layer, _WITHOUT_EFFECT)]
    if isinstance(head[-1], keras.layers.Activation):
        head = head[:-1]
    dense = head.pop()
    if not head or not isinstance(dense, keras.layers.Dense):
        return arrays
    kernel = np.asarray(dense.kernel, np.float32)
    if isinstance(head[-1], keras.layers.GlobalAveragePooling2D):
        height, width, channels = head[-2].output.shape[1:]
        shared = kernel.reshape(1, 1, channels, -1) / (height * width)
        arrays["evidence"] = np.broadcast_to(shared, (height, width, *shared.shape[2:])).copy()
    elif len(head[-1].output.shape) == 4:
        arrays["evidence"] = kernel.reshape(*head[-1].output.shape[1:], -1)
    return arrays

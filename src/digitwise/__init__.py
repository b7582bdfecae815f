"""From the five-step Keras MNIST tutorial to a recognizer that reads your own handwriting.

Names are loaded when they are first used, so that `import digitwise` is quick and brings in
neither Keras nor anything else that the work at hand does not need.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from digitwise.bundle import Bundle, open_bundle
    from digitwise.data.loading import load_data
    from digitwise.data.preprocessing import (
        add_channel,
        mean_image,
        normalize,
        one_hot,
        preprocess,
        split,
    )
    from digitwise.errors import (
        DigitwiseError,
        MachineError,
        MissingClassWarning,
        SampleDataWarning,
    )
    from digitwise.insight.explanation import Explanation, explain
    from digitwise.insight.report import report
    from digitwise.network.architectures import build_model
    from digitwise.network.evaluation import Evaluation, evaluate
    from digitwise.network.exporting import Export, export
    from digitwise.network.training import resume, train
    from digitwise.reading.reader import Reader, Reading

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "bundle",
    "DigitwiseError": "errors",
    "Evaluation": "network.evaluation",
    "Explanation": "insight.explanation",
    "Export": "network.exporting",
    "MachineError": "errors",
    "MissingClassWarning": "errors",
    "Reader": "reading.reader",
    "Reading": "reading.reader",
    "SampleDataWarning": "errors",
    "add_channel": "data.preprocessing",
    "build_model": "network.architectures",
    "evaluate": "network.evaluation",
    "explain": "insight.explanation",
    "export": "network.exporting",
    "load_data": "data.loading",
    "mean_image": "data.preprocessing",
    "normalize": "data.preprocessing",
    "one_hot": "data.preprocessing",
    "open_bundle": "bundle",
    "preprocess": "data.preprocessing",
    "report": "insight.report",
    "resume": "network.training",
    "split": "data.preprocessing",
    "train": "network.training",
}

__all__ = [
    "Bundle",
    "DigitwiseError",
    "Evaluation",
    "Explanation",
    "Export",
    "MachineError",
    "MissingClassWarning",
    "Reader",
    "Reading",
    "SampleDataWarning",
    "__version__",
    "add_channel",
    "build_model",
    "evaluate",
    "explain",
    "export",
    "load_data",
    "mean_image",
    "normalize",
    "one_hot",
    "open_bundle",
    "preprocess",
    "report",
    "resume",
    "split",
    "train",
]


def __getattr__(name: str) -> Any:
    """Loads a public name from its room."""
    if name not in _HOMES:
        raise AttributeError(f"module 'digitwise' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"digitwise.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Lists the public names, loaded or not."""
    return sorted(__all__)

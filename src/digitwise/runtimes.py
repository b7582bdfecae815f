"""Inference runtimes, imported with their telemetry switched off.

By default, ONNX Runtime (since 1.29) and OpenVINO report their use: when imported, each writes an
identifier to the home folder and contacts a server.
"""

import os
import sys
from typing import Any

from digitwise.errors import missing_extra

TELEMETRY_VARIABLE = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> Any:
    """Import ONNX Runtime with its telemetry switched off.

    ONNX Runtime reads the variable `ORT_DISABLE_TELEMETRY` when it is first imported. It is set to
    1, for subprocesses too, unless the user has set it. If the host program has imported ONNX
    Runtime before, only later events can be switched off.

    Returns:
        The module `onnxruntime`.
    """
    if not os.environ.get(TELEMETRY_VARIABLE):
        os.environ[TELEMETRY_VARIABLE] = "1"
    import onnxruntime

    if os.environ[TELEMETRY_VARIABLE] != "0":
        onnxruntime.disable_telemetry_events()  # builds for Windows do not read the variable
    return onnxruntime


def import_openvino() -> Any:
    """Import OpenVINO without the package that reports each import to Google Analytics.

    Returns:
        The module `openvino`.

    Raises:
        DigitwiseError: OpenVINO is not installed.
    """
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]  # OpenVINO then uses its own stub
    try:
        import openvino
    except ImportError as error:
        raise missing_extra("OpenVINO", "openvino") from error
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
    return openvino

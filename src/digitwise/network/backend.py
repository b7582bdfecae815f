"""Keras, imported without the log lines of what lies below it."""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from digitwise.errors import DigitwiseError, missing_extra
from digitwise.messages import Shared, environment_defaults, quiet_loggers
from digitwise.network.process import random_state_kept

VERBOSE_VARIABLE = "DIGITWISE_VERBOSE"

_NATIVE_LOG = re.compile(
    rb"^(WARNING: All log messages before absl::InitializeLog"
    rb"|[IWE]\d{4} [\d:.]+ "
    rb"|\d{4}-\d\d-\d\d [\d:.]+: [IWE] "
    rb"|To enable the following instructions: "
    rb"|INFO: |fully_quantize: )"
)


@contextlib.contextmanager
def _hold_native_log() -> Iterator[None]:
    """Redirect file descriptor 2 to a temporary file, then print all but native log lines."""
    if os.environ.get(VERBOSE_VARIABLE):
        yield
        return
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            held.seek(0)
            for line in held:
                if not _NATIVE_LOG.match(line):
                    os.write(2, line)


_held_native_log = Shared(_hold_native_log)


def native_log_held_back() -> contextlib.AbstractContextManager[None]:
    """Hide log lines that native code writes to stderr; other output is printed afterwards.

    TensorFlow's `TF_CPP_MIN_LOG_LEVEL` does not affect the lines that absl prints before its log is
    set up, so output to the file descriptor is captured and filtered. Nothing is captured if the
    user asked for the log. Concurrent threads share one redirection, and their output appears when
    the last one leaves.
    """
    return _held_native_log


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    """Keep TensorFlow from logging while it is imported, unless the user asked for its log.

    Its native code reads the variable once, so the host's environment can be restored.
    """
    if os.environ.get(VERBOSE_VARIABLE):
        yield
        return
    variable = environment_defaults({"TF_CPP_MIN_LOG_LEVEL": "3"})
    with variable, quiet_loggers("tensorflow"), native_log_held_back():
        yield


if find_spec("keras") is None:
    raise missing_extra("Keras", "train")
try:
    with _quiet_import():
        import keras

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            tf.config.list_physical_devices()
except (ImportError, ValueError) as error:
    chosen = os.environ.get("KERAS_BACKEND", "tensorflow")
    reason = str(error).splitlines()[0]
    raise DigitwiseError(f"Keras cannot start on the backend '{chosen}': {reason}") from error


@random_state_kept()
def open_model(file: Path) -> "keras.Sequential":
    """Opens a bundle's Keras model, not compiled, without running code from it.

    Raises:
        DigitwiseError: the file is damaged, or its layers are not registered.
    """
    try:
        return keras.saving.load_model(file, compile=False, safe_mode=True)
    except Exception as error:  # zipfile, h5py, JSON: whatever a damaged file sets off
        raise DigitwiseError(f"{file}: not a network that Keras can open") from error


__all__ = ["VERBOSE_VARIABLE", "keras", "native_log_held_back", "open_model"]

"""A program that uses the package finds its process unchanged."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

from digitwise.runtimes import TELEMETRY_VARIABLE
from tests.conftest import PATIENCE

# What a host program already uses, so that only our own changes are seen.
HOST = """
import ctypes, json, logging, os, random, signal, sys, warnings
import cv2, keras, matplotlib.figure, numpy as np, scipy.special, tensorflow, tf2onnx
from PIL import Image, ImageFile

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)  # tf2onnx sets it
libc = ctypes.CDLL(None)
LOGGERS = ["", "tensorflow", "tf2onnx", "matplotlib", "PIL", "ray", "uvicorn"]

class Blocks(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in "arena ordblks smblks hblks rest".split()]
    _fields_ += [(f"rest{n}", ctypes.c_int) for n in range(5)]

def keeps_freed_memory():
    if not hasattr(libc, "mallinfo"):
        return None
    libc.mallinfo.restype, libc.malloc.restype = Blocks, ctypes.c_void_p
    libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
    before = libc.mallinfo().hblks
    block = libc.malloc(256 * 2**20)
    mapped = libc.mallinfo().hblks - before
    libc.free(block)
    return mapped == 0

def pattern_texts(entry):
    return [getattr(part, "pattern", part) for part in entry]  # some libraries compile them

def state():
    loggers = [logging.getLogger(name) for name in LOGGERS]
    return {
        "environment": dict(os.environ),
        "python's random state": random.getstate(),
        "numpy's random state": str(np.random.get_state()),
        "warnings": ([pattern_texts(entry) for entry in warnings.filters], warnings.showwarning),
        "logging": [(each.level, list(each.handlers), each.propagate) for each in loggers],
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "streams": (sys.stdout, sys.stderr, sys.excepthook),
        "folder": os.getcwd(),
        "matplotlib": dict(matplotlib.rcParams),
        "keras": (keras.config.floatx(), keras.config.dtype_policy().name),
        "opencv's threads": cv2.getNumThreads(),
        "pillow": (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES),
        "allocator": keeps_freed_memory(),
    }

def assert_unchanged(by):
    after = state()
    for name in before:
        assert after[name] == before[name], f"{by} changes {name}: {before[name]} {after[name]}"

before = state()
import digitwise as dw
for name in dw.__all__:
    getattr(dw, name)
    assert_unchanged(name)
"""
USE = """
data, picture = sys.argv[1:]
bundle = dw.train("fast", path=data, epochs=1, minimum_steps=1, output="run", seed=5)
assert_unchanged("train")
dw.resume("run")
assert_unchanged("resume")
dw.evaluate(bundle, path=data)
assert_unchanged("evaluate")
reader = dw.Reader()
reading = reader.read(picture)
assert_unchanged("read")
reading.save("drawn.png")
assert_unchanged("save")
dw.explain(picture, gradients=True)
assert_unchanged("explain")
dw.export(bundle, output="network.onnx")
assert_unchanged("export")
dw.report(bundle, path=data, output="report.html")
assert_unchanged("report")

from digitwise.cli import main
assert before["allocator"] in (False, None)
assert main(["train", "--resume", "run"]) == 0
assert keeps_freed_memory() in (True, None), "digitwise train returns freed memory"
"""


def test_a_host_program_keeps_its_environment_random_state_logging_and_allocator(
    small: Path, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    page = np.full((160, 160), 255, np.uint8)
    page[66:94, 66:94] = 255 - digits[0][0]
    picture = tmp_path / "digit.png"
    cv2.imwrite(str(picture), page)
    done = subprocess.run(
        [sys.executable, "-c", HOST + USE, str(small), str(picture)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr


def test_without_the_user_asking_only_onnx_runtimes_telemetry_variable_is_set() -> None:
    code = """
import os, cv2
before = dict(os.environ)
import digitwise as dw
dw.open_bundle("pretrained").session
print({name: value for name, value in os.environ.items() if before.get(name) != value})
"""
    environment = {name: value for name, value in os.environ.items() if name != TELEMETRY_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
        timeout=PATIENCE,
    )
    assert done.stdout.strip() == str({TELEMETRY_VARIABLE: "1"})

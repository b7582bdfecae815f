"""Data that is larger than memory is read from the disk, batch by batch."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import digitwise as dw
from digitwise.data.loading import load_dataset, with_test_set
from digitwise.data.mapped import MappedImages

Digits = tuple[np.ndarray, np.ndarray]
IMAGES = 100_000

_MEASURED = """
import json, sys, threading, time
from pathlib import Path

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024

peak = 0
def watch():
    global peak
    while True:
        peak = max(peak, anonymous())
        time.sleep(0.002)

threading.Thread(target=watch, daemon=True).start()
import digitwise as dw
from digitwise.data.loading import load_dataset, with_test_set
from digitwise.data.mapped import chunks
bundle, few, many, alone = sys.argv[1:]
peaks = []
for folder in (few, many):
    peak = 0
    dw.evaluate(bundle, path=folder)
    peaks.append(peak)
peak, before = 0, anonymous()
split = with_test_set(load_dataset(path=alone), seed=0)
total = sum(int(chunk.sum()) for chunk in chunks(split.train.x))
print(json.dumps([peaks[1] - peaks[0], peak - before]))
"""


def _write_arrays(folder: Path, digits: Digits, count: int, part: str) -> Path:
    """Write a set of repeated digits as .npy files."""
    folder.mkdir()
    chosen = np.arange(count) % len(digits[1])
    np.save(folder / f"x_{part}.npy", digits[0][chosen])
    np.save(folder / f"y_{part}.npy", digits[1][chosen])
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_testing_and_splitting_use_far_less_memory_than_the_data(
    bundle: dw.Bundle, digits: Digits
) -> None:
    unseen = digits[0][1500:], digits[1][1500:]  # the bundle was trained on earlier ones
    folders = [
        _write_arrays(Path("few").absolute(), unseen, 1000, "test"),
        _write_arrays(Path("many").absolute(), unseen, IMAGES, "test"),
        _write_arrays(Path("alone").absolute(), unseen, IMAGES, "train"),
    ]
    command = [sys.executable, "-c", _MEASURED, str(bundle.path), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    tested, split = json.loads(done.stdout)
    data = IMAGES * 28 * 28
    assert tested < data / 2
    assert split < data / 2


def test_a_set_on_disk_is_split_and_converted_as_one_in_memory(digits: Digits) -> None:
    x, y = digits[0][:600], digits[1][:600]
    folder = _write_arrays(Path("disk"), (255 - x, y), 600, "train")
    np.savez("memory.npz", x_train=x, y_train=y)
    disk, memory = (
        with_test_set(load_dataset(path=path), seed=0) for path in (folder, "memory.npz")
    )
    assert disk.digests == memory.digests
    assert disk.train is not None
    assert memory.train is not None
    assert isinstance(disk.train.x, MappedImages)
    for key in (3, slice(10, 20), np.array([400, 2])):
        assert (disk.train.x[key] == memory.train.x[key]).all()
    assert (np.asarray(disk.train.x) == memory.train.x).all()
    assert isinstance(dw.load_data(path=folder)[0][0], np.ndarray)


def test_a_network_is_trained_on_a_set_on_disk(digits: Digits) -> None:
    folder = _write_arrays(Path("disk"), digits, 1200, "train")
    trained = dw.train("fast", path=folder, minimum_steps=0, epochs=1, output="run")
    assert trained.record["dataset"]["train_images"] == 1000
    assert dw.evaluate(trained, path=folder).images == 200

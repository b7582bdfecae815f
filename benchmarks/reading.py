"""How well photographs are read, and how fast.

    python benchmarks/reading.py [--bundle DIR] [--again] [--keep-speed] [--fast DIR]
                                 [--photos FOLDER]

Prints the figures and keeps them as results/reading.json. What was measured for the same bundle is
not measured again, unless --again. The photographs, with their `labels.json`, are found in the
folder that DIGITWISE_DATA names. OpenVINO is measured if it is installed: pip install openvino.
"""

import argparse
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pages
import results
from PIL import Image

from digitwise.bundle import open_session, predict_raw
from digitwise.data.loading import load_dataset
from digitwise.reading.reader import Reader
from digitwise.runtimes import import_openvino

STARTS = 7
TURNS = 3
BATCH = 512  # crops
RETAKES = 12  # of each photograph


def photographs(reader: Reader, folder: Path) -> dict[str, Any]:
    """Counts the edits between what photographs say and what was read, as they are and retaken."""
    rows = {}
    for name, label in json.loads((folder / "labels.json").read_text()).items():
        picture = Image.open(folder / name).convert("RGB")
        rows[name] = {
            "edits": count_edits(reader.read(folder / name).text, label),
            **{
                f"{way}_edits": sum(
                    count_edits(reader.read(take(picture, np.random.default_rng(n))).text, label)
                    for n in range(RETAKES)
                )
                for way, take in (("retaken", retake), ("on_a_table", on_a_table))
            },
            "digits": sum(map(len, label["lines"])),
            "scattered": bool(label.get("scattered")),
        }
    figures = ("edits", "retaken_edits", "on_a_table_edits", "digits")

    def total(scattered: bool) -> dict[str, int]:
        chosen = [row for row in rows.values() if row["scattered"] == scattered]
        return {"files": len(chosen), **{key: sum(row[key] for row in chosen) for key in figures}}

    return {
        **{key: sum(row[key] for row in rows.values()) for key in figures},
        "in_order": total(scattered=False),
        "scattered": total(scattered=True),
        "retakes": RETAKES,
        "files": rows,
    }


def count_edits(found: str, label: dict[str, Any]) -> int:
    """Count the edits between what was read and a photograph's label, ignoring spaces.

    If the label marks the digits as scattered, so that there is no right reading order, both are
    sorted before they are compared.
    """
    found, truth = found.replace(" ", ""), "\n".join(label["lines"])
    if label.get("scattered"):
        truth, found = "".join(sorted(truth)), "".join(sorted(found.replace("\n", "")))
    return sum(pages.compare(truth, found))


def retake(picture: Image.Image, random: np.random.Generator) -> bytes:
    """Takes a photograph again: at another distance, turned by up to 9 degrees, as a JPEG.

    Some are out of focus, noisy, lighter or darker besides.
    """
    scale, degrees = random.uniform(0.6, 1.3), random.uniform(-9, 9)
    turned = np.asarray(picture)
    height, width = turned.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    corners = matrix @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    matrix[:, 2] -= corners.min(axis=1)
    size = np.ceil(np.ptp(corners, axis=1)).astype(int).tolist()
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    turned = cv2.warpAffine(turned, matrix, size, flags=method, borderMode=cv2.BORDER_REPLICATE)
    if random.random() < 0.4:
        turned = cv2.GaussianBlur(turned, (0, 0), random.uniform(0.5, 1.2))
    if random.random() < 0.4:
        noise = random.normal(0, random.uniform(2, 8), turned.shape)
        turned = np.clip(turned + noise, 0, 255).astype(np.uint8)
    if random.random() < 0.4:
        turned = (255 * (turned / 255) ** random.uniform(0.6, 1.6)).astype(np.uint8)
    return _jpeg(turned, int(random.integers(40, 95)))


def on_a_table(picture: Image.Image, random: np.random.Generator) -> bytes:
    """Lays a photograph as a sheet of paper on a table and takes it from above, not quite level."""
    sheet = np.asarray(picture)
    scale = 900 / max(sheet.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    sheet = cv2.resize(sheet, None, fx=scale, fy=scale, interpolation=method)
    height, width = sheet.shape[:2]
    size = [round(side * random.uniform(1.15, 1.5)) for side in (width, height)]
    table = _table(size[0], size[1], random)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    turn = cv2.getRotationMatrix2D((0, 0), random.uniform(-20, 20), random.uniform(0.8, 0.95))
    lain = (corners - [width / 2, height / 2]) @ turn[:, :2].T + np.array(size) / 2
    lain += random.uniform(-0.03, 0.03, (4, 2)) * max(width, height)
    matrix = cv2.getPerspectiveTransform(corners, lain.astype(np.float32))
    covered = cv2.warpPerspective(np.ones((height, width), np.float32), matrix, size)
    shade = np.roll(covered, tuple(random.integers(2, 10, 2)), (0, 1))
    table *= 1 - 0.5 * cv2.GaussianBlur(shade, (0, 0), 6)[..., np.newaxis]
    seen = cv2.warpPerspective(sheet, matrix, size, flags=cv2.INTER_LINEAR)
    taken = seen * covered[..., np.newaxis] + table * (1 - covered[..., np.newaxis])
    if random.random() < 0.5:
        light = cv2.resize(random.uniform(0.55, 1, (3, 3)), size, interpolation=cv2.INTER_CUBIC)
        taken *= light[..., np.newaxis]
    taken = cv2.GaussianBlur(taken, (0, 0), random.uniform(0.3, 0.9))
    taken += random.normal(0, random.uniform(1, 5), taken.shape)
    pixels = np.clip(taken, 0, 255).astype(np.uint8)
    return _jpeg(pixels, int(random.integers(50, 92)))


def _jpeg(pixels: np.ndarray, quality: int) -> bytes:
    """Writes a JPEG into memory."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def _table(width: int, height: int, random: np.random.Generator) -> np.ndarray:
    """Paints a table of some color, with a grain."""
    color = random.uniform(30, 170) * random.uniform(0.8, 1.2, 3)
    cells = (height // int(random.integers(2, 12)) + 1, width // int(random.integers(20, 200)) + 1)
    grain = random.normal(0, random.uniform(2, 14), cells)
    return color + cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]


def starting(photo: Path) -> dict[str, float]:
    """Times whole processes: on one photograph, and on a 12-megapixel JPEG; with their memory."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.jpg"
        Image.fromarray(hundred_digits(3000, 4000)).save(large, quality=92)
        for name, picture in (("cold", photo), ("large", large)):
            seconds, memory = zip(*(_run(picture) for _ in range(STARTS)), strict=True)
            figures[f"{name}_seconds"] = statistics.median(seconds)
            figures[f"{name}_megabytes"] = max(memory)
    return figures


_MEASURED = """
import re, sys
from digitwise.cli import main
status = main(["read", sys.argv[1]])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1], file=sys.stderr)
sys.exit(status)
"""


def _run(picture: Path) -> tuple[float, float]:
    """Reads a picture in a process of its own: seconds, and the most memory it held in MB."""
    started = time.perf_counter()
    command = [sys.executable, "-c", _MEASURED, str(picture)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    return time.perf_counter() - started, int(done.stderr.split()[-1]) / 1000


def hundred_digits(width: int, height: int) -> np.ndarray:
    """Composes a page of ten lines of ten of MNIST's test digits."""
    test = load_dataset("mnist", allow_sample=False).test
    assert test is not None
    page = np.full((height, width), 236, np.uint8)
    side = round(width * 0.06)
    step_x, step_y = width // 11, height // 11
    for number in range(100):
        digit = cv2.resize(test.x[number], (side, side), interpolation=cv2.INTER_CUBIC)
        x, y = (number % 10) * step_x + step_x // 2, (number // 10) * step_y + step_y // 2
        page[y : y + side, x : x + side] -= (digit * 0.8).astype(np.uint8)
    return page


def speed(reader: Reader, fast: Path) -> dict[str, float]:
    """Times a page, and the recognizer beside other ways to run the same network, in turn.

    Each way has a process of its own, since the threads of one would take time from another.
    """
    x = load_dataset("mnist", allow_sample=False).test
    assert x is not None
    page = hundred_digits(1240, 1754)
    figures = {
        "hundred_digits_milliseconds": 1000 * results.median_time(lambda: reader.read(page), STARTS)
    }
    found = reader.read(page).text.replace(" ", "").replace("\n", "")
    figures["hundred_digits_edits"] = sum(pages.compare("".join(map(str, x.y[:100])), found))
    runs: dict[str, list[list[float]]] = {}
    for _ in range(TURNS):
        for way in WAYS:
            if way.startswith("OpenVINO") and not importlib.util.find_spec("openvino"):
                continue
            bundle = fast if way == "fast" else reader.bundle.path
            command = [sys.executable, __file__, "--way", way, "--bundle", str(bundle)]
            printed = results.output(command)
            runs.setdefault(way, []).append(json.loads(printed.splitlines()[-1]))
    for way, measured in runs.items():
        many, one = zip(*measured, strict=True)
        figures[f"{way}: digits a second"] = statistics.median(many)
        figures[f"{way}: one digit, milliseconds"] = statistics.median(one)
    return figures


def time_way(way: str, bundle: Path) -> list[float]:
    """Times one way to run a network: crops a second, and milliseconds for one."""
    x = load_dataset("mnist", allow_sample=False).test
    assert x is not None
    classify = WAYS[way](bundle)
    crops = x.x[:4096]
    calls = 5 if way.startswith("model") else 100  # Keras takes some hundred times as long
    for _ in range(3):
        classify(crops[:1])
    many = results.median_time(lambda: classify(crops), STARTS)
    one = results.median_time(lambda: [classify(crops[:1]) for _ in range(calls)], STARTS)
    return [len(crops) / many, 1000 * one / calls]


def _keras_model(bundle: Path) -> Any:
    """Opens a bundle's network in Keras."""
    from digitwise.network.backend import open_model

    return open_model(bundle / "model.keras")


def _predict(bundle: Path) -> Callable[[np.ndarray], Any]:
    model = _keras_model(bundle)
    return lambda x: model.predict(_scaled(x), batch_size=BATCH, verbose=0)


def _call(bundle: Path) -> Callable[[np.ndarray], Any]:
    model = _keras_model(bundle)
    return _in_batches(lambda x: np.asarray(model(x, training=False)))


def _onnx_runtime(bundle: Path) -> Callable[[np.ndarray], Any]:
    session = open_session(bundle / "model.onnx")
    return lambda x: predict_raw(session, _scaled(x))


def _openvino(bundle: Path, **precision: str) -> Callable[[np.ndarray], Any]:
    compiled = import_openvino().Core().compile_model(bundle / "model.onnx", "CPU", precision)
    return _in_batches(lambda x: compiled(x)[0])


def _in_batches(run: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    """Hands a network as many crops at a time as ours and `model.predict` are given."""
    return lambda x: [run(_scaled(x[at : at + BATCH])) for at in range(0, len(x), BATCH)]


WAYS: dict[str, Callable[[Path], Callable[[np.ndarray], Any]]] = {
    "digitwise": lambda bundle: Reader(bundle).classify,
    "ONNX Runtime": _onnx_runtime,
    "OpenVINO": lambda bundle: _openvino(bundle, INFERENCE_PRECISION_HINT="f32"),
    "OpenVINO by itself": _openvino,
    "model.predict": _predict,
    "model(x)": _call,
    "fast": lambda bundle: Reader(bundle).classify,
}


def _scaled(x: np.ndarray) -> np.ndarray:
    return x[..., np.newaxis] * np.float32(1 / 255)


def train_fast(folder: Path) -> Path:
    """Trains `fast` for an epoch, in a process that leaves nothing behind in this one."""
    options = f"train --model fast --epochs 1 --output {folder}/fast --json"
    command = [sys.executable, "-m", "digitwise", *options.split()]
    return Path(json.loads(results.output(command))["bundle"])


def main() -> None:
    data = Path(os.environ.get("DIGITWISE_DATA", "."))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", default="pretrained")
    parser.add_argument("--again", action="store_true", help="measure what is there, too")
    parser.add_argument(
        "--keep-speed", action="store_true", help="keep the timings, measure everything else again"
    )
    parser.add_argument("--fast", help="a bundle of 'fast'; left out, one is trained for it")
    parser.add_argument("--photos", type=Path, default=data / "photos")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(time_way(arguments.way, Path(arguments.bundle))))
        return
    labels = arguments.photos / "labels.json"
    if not labels.is_file():
        parser.error(f"{labels} is missing: name another folder with --photos or DIGITWISE_DATA")
    reader = Reader(arguments.bundle)
    command = "python benchmarks/reading.py"
    settings = {
        "bundle": reader.bundle.record["created"],
        "min_confidence": reader.bundle.min_confidence,
        "starts": STARTS,
        "turns": TURNS,
        "ways": list(WAYS),
    }
    if not (arguments.again or arguments.keep_speed) and results.is_done("reading", settings):
        return
    figures: dict[str, Any] = {"photographs": photographs(reader, arguments.photos)}
    kept = results.read("reading") if arguments.keep_speed else None
    if kept is not None:  # timings belong to the machine that they were taken on
        figures |= {"speed": kept["speed"], "machine": kept["machine"]}
        print(json.dumps(figures["photographs"], indent=2))
        results.write("reading", settings, figures, command)
        return
    with tempfile.TemporaryDirectory() as folder:
        fast = Path(arguments.fast or train_fast(Path(folder)))
        figures["speed"] = {
            **starting(arguments.photos / "webcam-slope.png"),
            **speed(reader, fast),
        }
    print(json.dumps(figures, indent=2))
    results.write("reading", settings, figures, command)


if __name__ == "__main__":
    main()

"""The figures of training: accuracy over seeds, time beside plain model.fit, starting, the sample.

    python benchmarks/training.py [ROW...] [--again]

Without rows, all of them. A row that is there for the same settings is skipped, unless --again.
MNIST is looked for where `digitwise` looks for it.
"""

import argparse
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

import results

SEEDS = tuple(range(5))
ALTERNATIONS = 9
STARTS = 11
DIGITWISE = [sys.executable, "-m", "digitwise"]


def accuracy(row: str, model: str, epochs: int, again: bool) -> None:
    """Trains on all 60,000 images with five seeds, settings fixed beforehand."""
    settings = {**results.describe_model(model), "epochs": epochs, "seeds": list(SEEDS)}
    if not again and results.is_done(row, settings):
        return
    runs = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            options = f"--model {model} --epochs {epochs} --seed {seed} --validation 0 --no-sample"
            output = ["--output", f"{folder}/run", "--json"]
            trained = json.loads(results.output([*DIGITWISE, "train", *options.split(), *output]))
        runs.append({name: trained[name] for name in ("seed", "accuracy", "seconds", "precision")})
        print(row, runs[-1], flush=True)
    figures = {
        "runs": runs,
        **results.over_seeds([run["accuracy"] for run in runs]),
        "median_seconds": statistics.median(run["seconds"] for run in runs),
    }
    results.write(row, settings, figures)


def epoch_time(row: str, again: bool) -> None:
    """Times an epoch of the tutorial's network: plain model.fit, then ours, in turn."""
    model = results.describe_model("tutorial")
    settings = {**model, "alternations": ALTERNATIONS, "sides": list(SIDES)}
    if not again and results.is_done(row, settings):
        return
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    for turn in range(ALTERNATIONS):
        for side in SIDES:
            answer = results.output([sys.executable, __file__, "--side", side])
            runs[side].append(json.loads(answer.splitlines()[-1]))
            print(row, turn, side, runs[side][-1], flush=True)
    plain = [run["epoch_seconds"] for run in runs["plain"]]
    figures: dict[str, Any] = {"runs": runs, "sides": {}}
    for side in SIDES:
        seconds = [run["epoch_seconds"] for run in runs[side]]
        figures["sides"][side] = {
            "median_seconds": statistics.median(seconds),
            "median_whole_seconds": statistics.median(run["whole_seconds"] for run in runs[side]),
            "median_ratio": statistics.median(
                mine / other for mine, other in zip(seconds, plain, strict=True)
            ),
            **results.over_seeds([run["accuracy"] for run in runs[side]]),
        }
    results.write(row, settings, figures)


def plain_side() -> dict[str, float]:
    """The five steps with Keras alone, as the tutorial has them."""
    import keras

    import digitwise as dw

    started = time.perf_counter()
    keras.utils.set_random_seed(int(started * 1e6) % 2**31)
    (x_train, y_train), (x_test, y_test) = dw.load_data(allow_sample=False)
    x, y = dw.preprocess(x_train, y_train)
    model = dw.build_model("tutorial")
    model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=128, epochs=1, verbose=0)
    fitted = time.perf_counter()
    reached = model.evaluate(*dw.preprocess(x_test, y_test), verbose=0, return_dict=True)
    return _times(started, fitted, reached["accuracy"])


def digitwise_side(precision: str) -> dict[str, float]:
    """The same five steps by digitwise, with checkpoints, bundle and evaluation besides."""
    import tf2onnx  # noqa: F401  # both imported before the clock starts, as keras is

    from digitwise.network import fitting, process, training

    process.keep_freed_memory()  # as the command does
    fitted = 0.0
    fit = fitting.fit

    def timed_fit(*arguments: Any) -> Any:
        nonlocal fitted
        state = fit(*arguments)
        fitted = time.perf_counter()
        return state

    fitting.fit = timed_fit  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        bundle = training.train(
            "tutorial",
            epochs=1,
            validation=0,
            seed=int(started * 1e6) % 2**31,
            precision=precision,
            output=f"{folder}/run",
            allow_sample=False,
        )
        return _times(started, fitted, bundle.record["test"]["accuracy"])


def _times(started: float, fitted: float, reached: float) -> dict[str, float]:
    """Words what a side took, all without imports: until fit's return, and in all."""
    whole = time.perf_counter() - started
    return {"epoch_seconds": fitted - started, "whole_seconds": whole, "accuracy": reached}


SIDES: dict[str, Callable[[], dict[str, float]]] = {
    "plain": plain_side,
    "float32": lambda: digitwise_side("float32"),
    "auto": lambda: digitwise_side("auto"),
}


def starting(row: str, again: bool) -> None:
    """Times what must not load Keras: help, and a refused call."""
    settings = {"starts": STARTS}
    if not again and results.is_done(row, settings):
        return
    calls = {"help": (0, ["--help"]), "refused": (2, ["train", "--model", "tutorail"])}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(STARTS):
        for name, (status, arguments) in calls.items():
            started = time.perf_counter()
            done = subprocess.run([*DIGITWISE, *arguments], capture_output=True, check=False)
            seconds[name].append(time.perf_counter() - started)
            assert done.returncode == status
    results.write(
        row, settings, {f"{name}_seconds": statistics.median(seconds[name]) for name in calls}
    )


def bare_machine(row: str, again: bool) -> None:
    """Trains with no data folder, no cache and no network: the built-in sample."""
    settings = {**results.describe_model("fast"), "seeds": list(SEEDS)}
    if not again and results.is_done(row, settings):
        return
    runs = []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            bare = {name: value for name, value in os.environ.items() if name != "DIGITWISE_DATA"}
            bare |= {
                "DIGITWISE_CACHE": f"{folder}/cache",
                "DIGITWISE_MIRROR": "http://127.0.0.1:9",  # where nothing answers
                "KERAS_HOME": f"{folder}/keras",
            }
            options = f"train --model fast --seed {seed} --output {folder}/run --json"
            started = time.perf_counter()
            trained = json.loads(results.output([*DIGITWISE, *options.split()], bare))
            seconds = time.perf_counter() - started
        assert trained["sample"]
        runs.append({"seed": seed, "accuracy": trained["accuracy"], "whole_seconds": seconds})
        print(row, runs[-1], flush=True)
    figures = {
        "runs": runs,
        **results.over_seeds([run["accuracy"] for run in runs]),
        "median_whole_seconds": statistics.median(run["whole_seconds"] for run in runs),
    }
    results.write(row, settings, figures)


ROWS: dict[str, Callable[[bool], None]] = {
    "starting": lambda again: starting("starting", again),
    "bare-machine": lambda again: bare_machine("bare-machine", again),
    "epoch-time": lambda again: epoch_time("epoch-time", again),
    "fast-1-epoch": lambda again: accuracy("fast-1-epoch", "fast", 1, again),
    "fast-2-epochs": lambda again: accuracy("fast-2-epochs", "fast", 2, again),
    "tutorial": lambda again: accuracy("tutorial", "tutorial", 15, again),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    results.add_names(parser, "rows", ROWS)
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(SIDES[arguments.side]()))
        return
    for row in arguments.rows or ROWS:
        ROWS[row](arguments.again)


if __name__ == "__main__":
    if data := os.environ.get("DIGITWISE_DATA"):
        os.environ["DIGITWISE_DATA"] = str(Path(data).absolute())
    main()

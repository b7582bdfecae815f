"""The records: time to 99%, the most accuracy, the smallest network, exports, growing data.

    python benchmarks/records.py [ROW...] [--again] [--quick]

Without rows, all of them. Every run is kept as soon as it is measured, so a row that was cut goes
on where it stopped; a row that is there for the same settings is skipped, unless --again. --quick
takes one run of each contender, one epoch long where epochs take their time, in ten minutes; its
figures are kept apart and printed. MNIST and Fashion-MNIST are looked for where `digitwise` looks
for them. What is trained lies in benchmarks/runs, which git ignores. The peers of PyTorch are left
out where it is not installed: pip install torch==2.13.0.
"""

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import results
import tables

HERE = Path(__file__).parent
PEER_SCRIPTS = HERE / "peers"
DIGITWISE = [sys.executable, "-m", "digitwise"]
WANTED = 0.99
SEEDS, SLOW_SEEDS = 10, 3
PEERS = {  # epochs until the mean has reached 99%, and some more
    "train_mnist_fast": 1,
    "keras_example": 12,
    "pytorch_example": 6,
}
ONE_EPOCH = ("--epochs", "1")
WHOLE = ("--validation", "0", "--no-sample")
TURNS = 3
MANY = 2_000  # digits at once, in batches of some 500
SHIFTS = ((0, 0), (0, 1), (1, 0), (0, -1), (-1, 0))  # pixels down and right
Run = dict[str, Any]


def collect(
    row: str,
    settings: dict[str, Any],
    plan: Iterable[tuple[str, int]],
    measure: Callable[[str, int], Run],
    sum_up: Callable[[list[Run]], dict[str, Any]],
    again: bool,
) -> None:
    """Measures what a row lacks, one run after another, each kept at once.

    Args:
        row: its name.
        settings: what decides its figures.
        plan: contenders and seeds, in turn.
        measure: makes a run of a contender with a seed.
        sum_up: makes the row's figures of the runs so far.
        again: whether runs that are there are measured anew.
    """
    kept = results.read(row)
    runs: list[Run] = []
    if kept is not None and kept["settings_digest"] == results.digest(settings) and not again:
        runs = kept["runs"]
    done = {(run["contender"], run["seed"]) for run in runs}
    for contender, seed in plan:
        if (contender, seed) in done:
            continue
        run = {"contender": contender, "seed": seed, **measure(contender, seed)}
        runs.append({**run, "commit": results.commit(), "processor": results.processor()})
        print(row, json.dumps(runs[-1]), flush=True)
        command = f"python benchmarks/records.py {row}"
        results.write(row, settings, {"runs": runs, **sum_up(runs)}, command)


def train(name: str, seed: int, *options: str) -> Run:
    """Trains by the command line, on all training images; the run's folder is kept.

    Returns:
        Test accuracy, seconds of `fit`, of the whole command, precision, and where the bundle lies.
    """
    folder = results.RUNS / f"{name}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    command = ["train", *options, "--seed", str(seed), "--output", str(folder), "--json"]
    started = time.perf_counter()
    trained = json.loads(results.output([*DIGITWISE, *command]))
    return {
        "accuracy": trained["accuracy"],
        "seconds": trained["seconds"],
        "whole_seconds": time.perf_counter() - started,
        "precision": trained["precision"],
        "bundle": str(folder.relative_to(HERE)),
    }


def accuracies(runs: list[Run]) -> dict[str, Any]:
    """Sums up accuracies over seeds, by contender."""
    figures = {}
    for contender in dict.fromkeys(run["contender"] for run in runs):
        own = [run for run in runs if run["contender"] == contender]
        figures[contender] = {
            **results.over_seeds([run["accuracy"] for run in own]),
            "median_seconds": statistics.median(run["seconds"] for run in own),
        }
    return {"contenders": figures}


# Time to 99%


def time_to_99(row: str, again: bool, quick: bool) -> None:
    """Trains `fast` and the peers in turn, each in a process of its own."""
    peers = {name: 1 if quick else epochs for name, epochs in PEERS.items()}
    plan = []
    for seed in range(1 if quick else SEEDS):
        plan.append(("fast", seed))
        for name in peers:
            if name == "train_mnist_fast" or seed < SLOW_SEEDS:
                plan += [(name, seed), (f"{name} at its best", seed)]
    settings = {
        **results.describe_model("fast"),
        "peers": peers,
        "scripts": {
            file.name: results.digest_file(file) for file in sorted(PEER_SCRIPTS.glob("*.py"))
        },
        "plan": plan,
    }
    if not importlib.util.find_spec("torch"):
        print(f"{row}: without PyTorch its peers are left out: pip install torch==2.13.0")
        plan = [(name, seed) for name, seed in plan if name.startswith(("fast", "keras"))]

    def measure(contender: str, seed: int) -> Run:
        """Trains a contender once: seconds and accuracy at the end of each epoch."""
        if contender == "fast":
            run = train("fast", seed, "--model", "fast", *ONE_EPOCH, *WHOLE)
            return {**run, "epochs": [{"seconds": run["seconds"], "accuracy": run["accuracy"]}]}
        name, _, best = contender.partition(" ")
        options = ["--seed", str(seed), "--epochs", str(peers[name]), *(["--best"] if best else [])]
        printed = results.output([sys.executable, str(PEER_SCRIPTS / f"{name}.py"), *options])
        return dict(json.loads(printed.splitlines()[-1]))

    collect(row, settings, plan, measure, _times_to_99, again)


def _times_to_99(runs: list[Run]) -> dict[str, Any]:
    """Finds each contender's first epoch whose mean accuracy reaches 99%, and its time.

    A ratio is the median over the seeds that both sides have, which ran one after the other.
    """
    contenders: dict[str, Any] = {}
    ours: dict[int, float] = {}
    for contender in dict.fromkeys(run["contender"] for run in runs):
        own = {run["seed"]: run["epochs"] for run in runs if run["contender"] == contender}
        for epoch, ends in enumerate(zip(*own.values(), strict=True), 1):
            spread = results.over_seeds([end["accuracy"] for end in ends])
            times = dict(zip(own, (end["seconds"] for end in ends), strict=True))
            if contender == "fast":
                ours = times
            contenders[contender] = {
                "epoch": epoch,
                "reached": spread["mean_accuracy"] >= WANTED,
                **spread,
                "median_seconds": statistics.median(times.values()),
                "runs": len(own),
                "ratio": statistics.median(ours[seed] / times[seed] for seed in times),
            }
            if contenders[contender]["reached"]:
                break
    whole = [run["whole_seconds"] for run in runs if run["contender"] == "fast"]
    contenders["fast"]["median_whole_seconds"] = statistics.median(whole)
    return {"contenders": contenders}


# Accuracy


def accurate(row: str, again: bool, quick: bool) -> None:
    """Trains `accurate` on all 60,000 images."""
    _train_seeds(row, "accurate", 5, again, quick)


def small(row: str, again: bool, quick: bool) -> None:
    """Trains `small`, fewer than 10,000 parameters."""
    _train_seeds(row, "small", 3, again, quick)


def fashion(row: str, again: bool, quick: bool) -> None:
    """Trains `accurate` on Fashion-MNIST."""
    _train_seeds(row, "accurate", 3, again, quick, "--dataset", "fashion-mnist")


def _train_seeds(row: str, model: str, seeds: int, again: bool, quick: bool, *options: str) -> None:
    """Trains a network with some seeds, settings fixed beforehand."""
    if quick:
        seeds, options = 1, (*options, *ONE_EPOCH)
    plan = [(model, seed) for seed in range(seeds)]
    settings = {**results.describe_model(model), "options": list(options), "plan": plan}

    def measure(contender: str, seed: int) -> Run:
        return _examined(train(row, seed, "--model", contender, *WHOLE, *options))

    collect(row, settings, plan, measure, accuracies, again)


def _examined(run: Run) -> Run:
    """Adds what a run's bundle tells: size, and accuracy of its mean answer over five shifts."""
    folder = HERE / run["bundle"]
    record = json.loads((folder / "bundle" / "bundle.json").read_text())
    return {
        **run,
        "accuracy_over_shifts": _mean_accuracy([folder], SHIFTS, record["dataset"]["name"]),
        "parameters": record["architecture"]["parameters"],
        "kilobytes": (folder / "bundle" / "model.onnx").stat().st_size / 1000,
        "augmentation": record["settings"]["recipe"]["augmentation"],
    }


def ensemble(row: str, again: bool, quick: bool) -> None:
    """Averages what the networks of the row `accurate` say, and distills them into one."""
    kept = results.read("accurate")
    if kept is None:
        print(f"{row}: left out, since it needs what the row accurate trains: records.py accurate")
        return
    bundles = [HERE / run["bundle"] for run in kept["runs"]]
    seeds = 1 if quick else 3
    plan = [("ensemble", 0), *(("distilled", seed) for seed in range(seeds))]
    settings = {
        **results.describe_model("accurate"),
        "teachers": results.digest(kept["runs"]),
        "plan": plan,
    }

    def measure(contender: str, seed: int) -> Run:
        if contender == "ensemble":
            return {
                "accuracy": _mean_accuracy(bundles),
                "accuracy_over_shifts": _mean_accuracy(bundles, SHIFTS),
                "seconds": 0.0,
                "networks": len(bundles),
            }
        teachers = [word for bundle in bundles for word in ("--teacher", str(bundle))]
        fixed = ("--model", "accurate", *WHOLE)
        shortened = ONE_EPOCH if quick else ()
        return _examined(train("distilled", seed, *fixed, *teachers, *shortened))

    if not all((bundle / "bundle").is_dir() for bundle in bundles):
        command = "records.py accurate ensemble --again"
        print(f"{row}: as it is, since what the row accurate trained is no longer here: {command}")
        return
    collect(row, settings, plan, measure, accuracies, again)


def _mean_accuracy(
    bundles: list[Path],
    shifts: Sequence[tuple[int, int]] = ((0, 0),),
    dataset: str = "mnist",
) -> float:
    """Tests the mean of networks' probabilities, over pictures that were shifted."""
    import digitwise as dw

    _, (x, y) = dw.load_data(dataset, allow_sample=False)
    answers = []
    for bundle in map(dw.open_bundle, bundles):
        for shift in shifts:
            scaled, _ = dw.preprocess(_shifted(x, *shift), y)
            answers.append(bundle.predict(scaled))
    return float((np.mean(answers, axis=0).argmax(axis=1) == y).mean())


def _shifted(x: np.ndarray, down: int, right: int) -> np.ndarray:
    """Moves pictures (n, h, w) by so many pixels, at most one; what comes into sight is 0."""
    rows, columns = np.arange(x.shape[1]) + 1 - down, np.arange(x.shape[2]) + 1 - right
    return np.pad(x, ((0, 0), (1, 1), (1, 1)))[:, rows][:, :, columns]


# Exports


def exports(row: str, again: bool, quick: bool) -> None:
    """Exports the network that ships in every form, and times each in turn.

    Each has a process of its own, since the threads of one would take time from another.
    """
    import digitwise as dw

    names = ("onnx", "onnx int8", "litert", "litert int8", "openvino", "saved-model")
    plan = [(name, turn) for turn in range(1 if quick else TURNS) for name in names]
    settings = {
        "record": dw.open_bundle("pretrained").record["created"],
        "digits": MANY,
        "plan": plan,
    }

    def measure(contender: str, _: int) -> Run:
        printed = results.output([sys.executable, __file__, "--export", contender])
        return dict(json.loads(printed.splitlines()[-1]))

    def sum_up(runs: list[Run]) -> dict[str, Any]:
        keys = ("one_milliseconds", "a_second", "kilobytes", "accuracy", "same_class", "difference")
        return {"contenders": _medians(runs, keys)}

    collect(row, settings, plan, measure, sum_up, again)


def time_export(contender: str) -> None:
    """Exports the network that ships, times what was written, and prints the figures as JSON."""
    import digitwise as dw
    from digitwise.network.exporting import FORMS, export

    form, _, eight = contender.partition(" ")
    _, (x, y) = dw.load_data(allow_sample=False)
    many = dw.preprocess(x[:MANY], y[:MANY])[0]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / f"reader{FORMS[form].ending}"
        exported = export("pretrained", form, target, int8=bool(eight))
        predict = FORMS[form].run(exported.path)
        figures = {
            "kilobytes": exported.bytes / 1000,
            "accuracy": exported.accuracy,
            "keras_accuracy": exported.keras_accuracy,
            "same_class": exported.same_class,
            "difference": exported.difference,
            "one_milliseconds": 1000 * results.median_time(lambda: predict(many[:1]), 100),
            "a_second": len(many) / results.median_time(lambda: predict(many), 5),
        }
    print(json.dumps(figures))


def _medians(runs: list[Run], keys: Sequence[str]) -> dict[str, dict[str, float]]:
    """Takes the medians of each contender's figures."""
    return {
        name: {
            key: statistics.median(run[key] for run in runs if run["contender"] == name)
            for key in keys
        }
        for name in dict.fromkeys(run["contender"] for run in runs)
    }


# Growing data


def scaling(row: str, again: bool, quick: bool) -> None:
    """Trains `fast` for one epoch on 1, 4 and 16 times as many images, from disk."""
    factors = (1, 4) if quick else (1, 4, 16)
    turns = 1 if quick else TURNS
    plan = [(f"{factor} × 60,000", turn) for turn in range(turns) for factor in factors]
    settings = {**results.describe_model("fast"), "plan": plan}

    def measure(contender: str, _: int) -> Run:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            images = _write_larger(folder / "data", int(contender.split()[0]))
            options = "train --model fast --epochs 1 --validation 0 --json"
            places = ["--data", f"{folder}/data", "--output", f"{folder}/run"]
            printed = results.output(
                [sys.executable, __file__, "--measured", *options.split(), *places]
            )
            run = json.loads(printed.splitlines()[-1])
        return {**run, "megabytes_of_data": images * 784 / 1e6}

    def sum_up(runs: list[Run]) -> dict[str, Any]:
        firsts = {run["seed"]: run for run in runs if run["contender"] == plan[0][0]}
        keys = ("megabytes", "megabytes_held", "megabytes_of_data")
        compared = [
            {
                "contender": run["contender"],
                "times_as_long": run["seconds"] / firsts[run["seed"]]["seconds"],
                **{f"more_{key}": run[key] - firsts[run["seed"]][key] for key in keys},
            }
            for run in runs
        ]
        return {"contenders": _medians(compared, list(compared[0])[1:])}

    collect(row, settings, plan, measure, sum_up, again)


def _write_larger(folder: Path, factor: int) -> int:
    """Writes MNIST's training images so many times, varied but for the first, as .npy files."""
    import digitwise as dw
    from digitwise.data.augmentation import augment_digits

    (x, y), (x_test, y_test) = dw.load_data(allow_sample=False)
    folder.mkdir()
    random = np.random.default_rng(0)
    shape = (factor * len(x), *x.shape[1:])
    larger = np.lib.format.open_memmap(folder / "x_train.npy", "w+", np.uint8, shape)
    for number in range(factor):
        part = augment_digits(x, random) if number else x
        larger[number * len(x) : (number + 1) * len(x)] = part
    larger.flush()
    np.save(folder / "y_train.npy", np.tile(y, factor))
    np.save(folder / "x_test.npy", x_test)
    np.save(folder / "y_test.npy", y_test)
    return shape[0]


def measured(arguments: list[str]) -> None:
    """Runs a command in this process; prints its seconds and the most memory it took, as JSON.

    "megabytes" are those that were in memory, "megabytes_held" without files that are mapped.
    """
    import contextlib
    import io

    from digitwise.cli import main as digitwise

    most = {"megabytes": 0.0, "megabytes_held": 0.0}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.1):
            memory = psutil.Process().memory_info()
            now = {"megabytes": memory.rss, "megabytes_held": memory.rss - memory.shared}
            for name, size in now.items():
                most[name] = max(most[name], size / 1e6)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        status = digitwise(arguments)
    ended.set()
    watcher.join()
    if status:
        raise SystemExit(status)
    print(json.dumps({"seconds": json.loads(printed.getvalue())["seconds"], **most}))


ROWS: dict[str, Callable[[str, bool, bool], None]] = {
    "time-to-99": time_to_99,
    "exports": exports,
    "scaling": scaling,
    "small": small,
    "accurate": accurate,
    "ensemble": ensemble,
    "fashion": fashion,
}


def main() -> None:
    if sys.argv[1:2] == ["--measured"]:
        measured(sys.argv[2:])
        return
    if sys.argv[1:2] == ["--export"]:
        time_export(sys.argv[2])
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    results.add_names(parser, "rows", ROWS)
    parser.add_argument("--again", action="store_true", help="measure rows that are there, too")
    parser.add_argument("--quick", action="store_true", help="ten minutes, kept apart")
    arguments = parser.parse_args()
    if arguments.quick:
        results.keep_apart()
    for row in arguments.rows or ROWS:
        ROWS[row](row, arguments.again, arguments.quick)
    if arguments.quick:
        for name in ("time-to-99", "accuracy", "exports", "scaling"):
            print(f"\n{name}\n{tables.TABLES[name]()}")


if __name__ == "__main__":
    if data := os.environ.get("DIGITWISE_DATA"):
        os.environ["DIGITWISE_DATA"] = str(Path(data).absolute())
    main()

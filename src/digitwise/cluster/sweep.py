"""sweep(): many trainings on a Ray cluster, the best settings chosen on validation.

First the settings are searched: each is trained with seed 0, and Ray Tune stops early what lags
behind (ASHA: Li and others, "A System for Massively Parallel Hyperparameter Tuning", 2020). Then
the best are trained with all seeds, so that their spread is known. Each training is a run of
`digitwise train` in a folder of its own: what was broken off goes on from its last checkpoint.
"""

import csv
import functools
import hashlib
import io
import itertools
import json
import math
import os
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from digitwise.bundle import Bundle, open_bundle
from digitwise.cluster.connection import LOCAL, check_ray, connected
from digitwise.data.loading import load_dataset
from digitwise.errors import DigitwiseError, MachineError
from digitwise.messages import environment_defaults, printable, say
from digitwise.network.process import keep_freed_memory
from digitwise.network.runs import SETTINGS_FILE, EpochFigures, Run
from digitwise.network.settings import check_learning_rate, recipe_for, whole_number
from digitwise.network.training import resume, train
from digitwise.storage import (
    folder_whole,
    read_json,
    sweep_unfinished,
    write_json,
    write_text,
)

PLAN_FILE = "sweep.json"
RESULTS_FILE = "results.csv"
_TUNE_FOLDER = "_tune"
_RETRIES = 5  # of a training whose worker or machine is lost
_NEVER = 1_000_000  # epochs
_REDUCTION = 3  # of the trainings at each rung, one in so many goes on
_CHECKS: dict[str, Callable[[Any], Any]] = {
    "learning_rate": check_learning_rate,
    "batch_size": lambda value: whole_number("batch-size", value),
}
Settings = dict[str, float | int]


@dataclass(frozen=True)
class Interval:
    """Numbers from low to high, as likely between 1 and 2 as between 10 and 20."""

    low: float | int
    high: float | int


Space = Mapping[str, Interval | Sequence[float | int]]


@dataclass(frozen=True)
class Training:
    """One training of a sweep.

    Attributes:
        settings: what was searched, by the names of `train`'s arguments.
        seed: its seed.
        run: its folder.
        epochs: how many were trained.
        loss: on the validation split: the bundle's if training has finished, otherwise the last
            epoch's; None before the first.
        accuracy: likewise.
        finished: whether it came to its end; else it was stopped early, or failed.
        error: why it failed.
        test_accuracy: the bundle's; None if training has not finished, or without test images.
        seconds: spent training.
    """

    settings: Settings
    seed: int
    run: Path
    epochs: int
    loss: float | None
    accuracy: float | None
    finished: bool
    error: str | None
    test_accuracy: float | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as plain data, for JSON and CSV."""
        return {**asdict(self), "run": printable(self.run)}


@dataclass(frozen=True)
class Sweep:
    """What a sweep came to.

    Attributes:
        output: its folder.
        searched: a training of each settings, the best first.
        chosen: the trainings of the best settings, one a seed.
        best: the bundle of the one with the lowest loss on the images held out.
        seconds: of this call.
    """

    output: Path
    searched: tuple[Training, ...]
    chosen: tuple[Training, ...]
    best: Bundle
    seconds: float

    @property
    def validation_accuracy(self) -> tuple[float | None, float | None]:
        """Mean and standard deviation of the validation accuracy over the seeds.

        The deviation is None for a single seed; both are None if nothing was measured.
        """
        return _spread([training.accuracy for training in self.chosen])

    @property
    def test_accuracy(self) -> tuple[float | None, float | None]:
        """Mean and standard deviation of the test accuracy over the seeds, likewise."""
        return _spread([training.test_accuracy for training in self.chosen])

    def to_dict(self) -> dict[str, Any]:
        """Returns the figures as plain data, for JSON."""
        return {
            "output": str(self.output),
            "bundle": str(self.best.path),
            "settings": self.chosen[0].settings,
            "validation_accuracy": list(self.validation_accuracy),
            "test_accuracy": list(self.test_accuracy),
            "searched": [training.to_dict() for training in self.searched],
            "chosen": [training.to_dict() for training in self.chosen],
            "seconds": self.seconds,
        }


def sweep(
    model: str,
    output: str | Path,
    *,
    space: Space | None = None,
    samples: int = 1,
    seeds: int = 1,
    epochs: int | None = None,
    validation: int | None = None,
    dataset: str | None = None,
    path: str | Path | None = None,
    allow_sample: bool = True,
    address: str = LOCAL,
    cpus: int = 1,
) -> Sweep:
    """Searches settings, then trains the best with several seeds.

    Called again for the same folder, it goes on where it was broken off.

    Args:
        model: a network that `train` knows by name.
        output: the sweep's folder; on several machines one that all share.
        space: what is searched: "learning_rate" and "batch_size", each with the values that are
            tried or the interval that values are drawn from.
        samples: how many values are drawn from the intervals, for each combination of the others.
        seeds: how many trainings the best settings get, with the seeds from 0 on.
        epochs: of each training; left out, the recipe's.
        validation: as for `train`, but not 0.
        dataset: as for `train`.
        path: as for `train`; on several machines a path that all share.
        allow_sample: as for `train`.
        address: "local", "auto", or host:port of a Ray cluster's head.
        cpus: of each training.

    Raises:
        DigitwiseError: an argument is bad, no cluster answers, `output` holds another sweep, or no
            training came to its end.
        MachineError: the disk is full or permission is missing; what is done is kept.
    """
    check_ray("a sweep")
    started = time.perf_counter()
    if validation == 0:
        raise DigitwiseError("--validation 0 leaves a sweep nothing to choose by")
    recipe = recipe_for(model)
    arguments = {
        "model": model,
        "epochs": whole_number("epochs", recipe.epochs if epochs is None else epochs),
        "validation": validation,
        "dataset": dataset,
        "path": None if path is None else str(Path(path).absolute()),
        "allow_sample": allow_sample,
    }
    tried = settings_in(space or {}, samples)
    folder = Path(output).absolute()
    _check_folder(folder)
    load_dataset(dataset, path, allow_sample=allow_sample)  # reports bad data before training
    _keep_plan(folder, {**arguments, "settings": tried, "seeds": seeds})
    with connected(address) as available:
        if cpus > available:
            raise DigitwiseError(f"--cpus {cpus}: the cluster has {available}")
        searched = []
        if len(tried) > 1:
            searched = _train_all(folder, arguments, [(each, 0) for each in tried], cpus, stop=True)
            searched = sorted(searched, key=_loss)
            tried = [_finished(searched)[0].settings]
        wanted = [(tried[0], seed) for seed in range(seeds)]
        chosen = _train_all(folder, arguments, wanted, cpus, stop=False)
    best = min(_finished(chosen), key=_loss)
    shutil.rmtree(folder / _TUNE_FOLDER, ignore_errors=True)
    _write_results(folder, searched, chosen)
    shutil.rmtree(folder / "bundle", ignore_errors=True)
    with folder_whole(folder / "bundle") as copy:
        shutil.copytree(best.run / "bundle", copy, dirs_exist_ok=True)
    return Sweep(
        Path(output),
        tuple(searched),
        tuple(_finished(chosen)),
        open_bundle(folder / "bundle"),
        time.perf_counter() - started,
    )


def space_from(options: Mapping[str, str | None]) -> dict[str, Interval | list[float | int]]:
    """Understands what a command line says is to be tried.

    Args:
        options: by the names of `train`'s arguments: "0.1", "0.1,0.2", or "0.1:0.2" for an
            interval; None for nothing.

    Raises:
        DigitwiseError: it says no numbers.
    """
    space: dict[str, Interval | list[float | int]] = {}
    for name, text in options.items():
        if text is None:
            continue
        is_interval = ":" in text
        try:
            values = [_number(part) for part in text.split(":" if is_interval else ",")]
            space[name] = Interval(*values) if is_interval else values
        except (ValueError, TypeError):
            raise DigitwiseError(
                f"--{name.replace('_', '-')} {text}: give a value, several (1e-3,1e-2), or an "
                "interval (1e-3:1e-2)"
            ) from None
    return space


def _number(text: str) -> float | int:
    """Takes a number, a whole one where it is written as such."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def settings_in(space: Space, samples: int = 1) -> list[Settings]:
    """Lists the settings of a search: each combination of the values, with samples of intervals.

    The same space gives the same settings.

    Args:
        space: as for `sweep`.
        samples: as for `sweep`.

    Raises:
        DigitwiseError: a name is unknown, or a value or an interval is out of range.
    """
    for name, values in space.items():
        if name not in _CHECKS:
            raise DigitwiseError(f"a sweep searches {' and '.join(_CHECKS)}, not {name}")
        ends = [values.low, values.high] if isinstance(values, Interval) else values
        for value in ends:
            _CHECKS[name](value)
        if isinstance(values, Interval) and not values.low < values.high:
            raise DigitwiseError(f"{name} {values.low}:{values.high} goes from low to high")
    random = np.random.default_rng(0)
    lists = {name: values for name, values in space.items() if not isinstance(values, Interval)}
    intervals = {name: values for name, values in space.items() if isinstance(values, Interval)}
    return [
        {**dict(zip(lists, values, strict=True)), **_draw(intervals, random)}
        for values in itertools.product(*lists.values())
        for _ in range(samples if intervals else 1)
    ]


def _draw(intervals: Mapping[str, Interval], random: np.random.Generator) -> Settings:
    """Draws a value from each interval, to three digits; whole ones where the bounds are."""
    drawn: Settings = {}
    for name, interval in intervals.items():
        value = math.exp(random.uniform(math.log(interval.low), math.log(interval.high)))
        whole = isinstance(interval.low, int) and isinstance(interval.high, int)
        drawn[name] = round(value) if whole else float(f"{value:.3g}")
    return drawn


def _check_folder(folder: Path) -> None:
    """Refuse a folder with other files, which a sweep might replace.

    Raises:
        DigitwiseError: it has other files, or is not a folder.
    """
    sweep_unfinished(folder)
    if not folder.exists() or (folder / PLAN_FILE).exists():
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise DigitwiseError(f"{folder} exists and is not a sweep's: choose another --output")


def _keep_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Save a sweep's plan, or check that it matches the one that was started.

    Raises:
        DigitwiseError: the folder holds another sweep.
        MachineError: the folder cannot be written.
    """
    file = folder / PLAN_FILE
    if not file.exists():
        write_json(file, plan)
    elif read_json(file) != plan:
        raise DigitwiseError(f"{folder} holds another sweep: name another --output")


@environment_defaults({"RAY_AIR_NEW_OUTPUT": "0"})  # otherwise Tune prints boxes to stdout
def _train_all(
    folder: Path,
    arguments: dict[str, Any],
    wanted: list[tuple[Settings, int]],
    cpus: int,
    stop: bool,
) -> list[Training]:
    """Has networks trained, and tells of each.

    Args:
        folder: the sweep's.
        arguments: of `train`, the same for all.
        wanted: settings and seeds.
        cpus: of each.
        stop: whether what lags behind is stopped early.

    Raises:
        MachineError: a worker could not write.
    """
    from ray import tune

    from digitwise.cluster.callbacks import OnComplete

    scheduler = None
    if stop and arguments["epochs"] > 1:
        scheduler = tune.schedulers.ASHAScheduler(
            max_t=_NEVER,  # a training ends by itself, and leaves its bundle
            grace_period=max(1, arguments["epochs"] // _REDUCTION**2),
            reduction_factor=_REDUCTION,
        )
    trainable = tune.with_parameters(_train_one, folder=folder, arguments=arguments, wanted=wanted)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": cpus}),
        param_space={"number": tune.grid_search(list(range(len(wanted))))},
        tune_config=tune.TuneConfig(metric="val_loss", mode="min", scheduler=scheduler),
        run_config=tune.RunConfig(
            storage_path=str(folder / _TUNE_FOLDER),
            failure_config=tune.FailureConfig(max_failures=_RETRIES),
            callbacks=[OnComplete(functools.partial(_tell, folder, wanted))],
            verbose=0,
        ),
    )
    trainings = []
    for result in sorted(tuner.fit(), key=lambda result: int(result.config["number"])):
        outcome = {"error": result.error, **(result.metrics or {})}
        if outcome.get("refused"):
            raise MachineError(f"write {folder}", outcome["refused"])
        settings, seed = wanted[result.config["number"]]
        trainings.append(_training(folder, settings, seed, outcome))
    return trainings


def _tell(
    folder: Path,
    wanted: list[tuple[Settings, int]],
    ended: int,
    config: dict[str, Any],
    outcome: dict[str, Any],
) -> None:
    """Says what a training came to."""
    settings, seed = wanted[config["number"]]
    training = _training(folder, settings, seed, outcome)
    say(f"{ended} of {len(wanted)}: {_words(training)}")


def _train_one(
    config: dict[str, Any],
    folder: Path,
    arguments: dict[str, Any],
    wanted: list[tuple[Settings, int]],
) -> None:
    """Trains one network in a process of its own, or goes on with it, and reports each epoch."""
    from ray import tune

    settings, seed = wanted[config["number"]]
    try:
        _train(folder, arguments, settings, seed, tune.report)
    except DigitwiseError as error:  # trying again would not help
        reason = error.reason if isinstance(error, MachineError) else None
        tune.report({"val_loss": math.inf, "error": str(error), "refused": reason})


def _train(
    folder: Path,
    arguments: dict[str, Any],
    settings: Settings,
    seed: int,
    report: Callable[[dict[str, Any]], None],
) -> None:
    """Trains one network, or goes on with it, and reports each epoch."""
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")  # Ray's
    keep_freed_memory()
    run = _run(folder, settings, seed)

    def tell(figures: EpochFigures) -> None:
        if figures["epoch"] < run.read_settings().total_epochs:  # at the last, what stops is late
            report(dict(figures))

    if (run.folder / SETTINGS_FILE).exists():
        for figures in run.read_history():  # so that early stopping counts all epochs
            tell(figures)
        resume(run.folder, on_epoch=tell)
    else:
        shutil.rmtree(run.folder, ignore_errors=True)
        train(**arguments, **settings, seed=seed, output=run.folder, on_epoch=tell)  # type: ignore[arg-type]
    report(dict(run.read_history()[-1]))


def _run(folder: Path, settings: Settings, seed: int) -> Run:
    """Names a training's folder."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return Run(folder / "runs" / f"{digest[:8]}-{seed}")


def _training(folder: Path, settings: Settings, seed: int, outcome: Mapping[str, Any]) -> Training:
    """Takes stock of a training from its folder, and from what Ray knows of it."""
    run = _run(folder, settings, seed)
    history = run.read_history()
    last: EpochFigures = history[-1] if history else {}
    loss, accuracy, test_accuracy = last.get("val_loss"), last.get("val_accuracy"), None
    finished = run.bundle.is_dir()
    if finished:
        record = open_bundle(run.bundle).record
        loss, accuracy = ((record["validation"] or {}).get(name) for name in ("loss", "accuracy"))
        test_accuracy = (record["test"] or {}).get("accuracy")
    error = outcome.get("error")
    return Training(
        settings=settings,
        seed=seed,
        run=run.folder,
        epochs=len(history),
        loss=loss,
        accuracy=accuracy,
        finished=finished,
        error=None if finished or not error else " ".join(str(error).split()),
        test_accuracy=test_accuracy,
        seconds=float(last.get("seconds", 0)),
    )


def _loss(training: Training) -> float:
    """Ranks trainings: those that came to their end before the others."""
    loss = math.inf if training.loss is None else training.loss
    return loss if training.finished else loss + 1e6


def _finished(trainings: Sequence[Training]) -> list[Training]:
    """Leaves out what did not come to its end.

    Raises:
        DigitwiseError: nothing did.
    """
    finished = [training for training in trainings if training.finished]
    if not finished:
        reason = next((training.error for training in trainings if training.error), "no reason")
        raise DigitwiseError(f"no training came to its end: {reason}")
    return finished


def _words(training: Training) -> str:
    """Words what a training came to."""
    settings = [f"{name.replace('_', ' ')} {value:g}" for name, value in training.settings.items()]
    words = ", ".join([*settings, f"seed {training.seed}"])
    if training.error:
        return f"{words}: failed: {training.error}"
    if training.accuracy is None:
        return f"{words}: not begun"
    state = "" if training.finished else f", stopped at epoch {training.epochs}"
    return f"{words}: {training.accuracy:.2%} of the images held out{state}"


def _spread(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return mean and standard deviation; None if there are too few values."""
    known = [value for value in values if value is not None]
    mean = statistics.fmean(known) if known else None
    return mean, statistics.stdev(known) if len(known) > 1 else None


def _write_results(folder: Path, searched: list[Training], chosen: list[Training]) -> None:
    """Writes all trainings' figures as a table."""
    table = io.StringIO()
    names = list(chosen[0].settings)
    columns = ["stage", *names, *(name for name in chosen[0].to_dict() if name != "settings")]
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    for stage, trainings in (("search", searched), ("seeds", chosen)):
        for training in trainings:
            row = training.to_dict()
            writer.writerow({"stage": stage, **row.pop("settings"), **row})
    write_text(folder / RESULTS_FILE, table.getvalue(), force=True)  # in our folder

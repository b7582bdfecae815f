"""How a figure is kept: one JSON a row, with what made it."""

import argparse
import hashlib
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
RUNS = Path(__file__).parent / "runs"  # what is trained; git ignores it


def keep_apart() -> None:
    """Keeps and reads what a quick run trains and measures in a folder of its own."""
    global FOLDER, RUNS
    RUNS = RUNS / "quick"
    FOLDER = RUNS / "results"


def add_names(parser: argparse.ArgumentParser, kind: str, known: Iterable[str]) -> None:
    """Lets a script take names: "rows", say, of those that are known."""
    names, one = list(known), kind.removesuffix("s")

    def checked(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(f"there is no {one} {name!r}: name {', '.join(names)}")
        return name

    words = f"{', '.join(names)}; left out, all"
    parser.add_argument(kind, nargs="*", metavar=one.upper(), type=checked, help=words)


def write(
    row: str, settings: dict[str, Any], figures: dict[str, Any], command: str | None = None
) -> None:
    """Keeps a row.

    Args:
        row: its name.
        settings: what decides the figures.
        figures: what was measured.
        command: what measures it; left out, `training.py` with the row's name.
    """
    document = {
        "row": row,
        "command": command or f"python benchmarks/training.py {row}",
        "settings": settings,
        "settings_digest": digest(settings),
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": _machine(),
        **figures,
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{row}.json").write_text(json.dumps(document, indent=2) + "\n")


def read(row: str) -> dict[str, Any] | None:
    """Reads a row, None where it was not measured."""
    file = FOLDER / f"{row}.json"
    return dict(json.loads(file.read_text())) if file.is_file() else None


def is_done(row: str, settings: dict[str, Any]) -> bool:
    """Tells whether a row is there for the same settings."""
    kept = read(row)
    return kept is not None and kept["settings_digest"] == digest(settings)


def digest(settings: Any) -> str:
    """Digests settings, to tell whether a row is still theirs."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def digest_file(file: Path) -> str:
    """Digests a file, to tell whether it is still the one that measured."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def describe_model(name: str) -> dict[str, Any]:
    """Describes what decides a network's figures: its recipe, its layers and what they give."""
    import digitwise as dw
    from digitwise.network.settings import RECIPES

    layers = [
        f"{type(layer).__name__} {'x'.join(map(str, layer.output.shape[1:]))}, "
        f"{layer.count_params():,} parameters"
        for layer in dw.build_model(name).layers
    ]
    return {"recipe": asdict(RECIPES[name]), "layers": layers}


def over_seeds(accuracies: Sequence[float]) -> dict[str, Any]:
    """Return mean and standard deviation of accuracies; the deviation of a single one is None."""
    return {
        "mean_accuracy": statistics.mean(accuracies),
        "standard_deviation": deviation(accuracies),
    }


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation of values; None for a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


def median_time(call: Callable[[], object], times: int) -> float:
    """Times a call: the median of some times, after one that does not count; seconds."""
    call()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def output(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Runs a process and returns what it printed."""
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def commit() -> str:
    """Names the commit, with a plus where the code that measures or is measured differs from it.

    "unknown" outside a clone.
    """
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        code = ("../src", "*.py")
        changed = git("status", "--porcelain", "--untracked-files=no", "--", *code)
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def processor() -> str:
    """Names what decides how fast this processor computes."""
    flags = set(_cpuinfo("flags").split())
    for flag, name in (("amx_bf16", "AMX"), ("avx512f", "AVX-512"), ("avx2", "AVX2")):
        if flag in flags:
            return name
    return platform.machine()


def _machine() -> dict[str, Any]:
    """Describes the machine and the packages that decide a figure."""
    return {
        "cpu": _cpuinfo("model name") or platform.machine(),
        "cores": os.cpu_count(),
        "processor": processor(),
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: found for name in _PACKAGES if (found := _version(name))},
    }


_PACKAGES = (
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "openvino",
    "torch",
)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except ImportError:
        return None


def _cpuinfo(key: str) -> str:
    """Looks up what Linux tells of the first processor; "" elsewhere."""
    file = Path("/proc/cpuinfo")
    for line in file.read_text().splitlines() if file.is_file() else ():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""

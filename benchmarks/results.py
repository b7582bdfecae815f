"""How a figure is kept: one JSON a row, with what made it."""

import hashlib
import json
import os
import platform
import subprocess
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
        "commit": _commit(),
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


def digest(settings: dict[str, Any]) -> str:
    """Digests settings, to tell whether a row is still theirs."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


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


def output(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Runs a process and returns what it printed."""
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def _commit() -> str:
    """Names the commit, with a plus where the tree differs from it."""
    here = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "../src")
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")


def _machine() -> dict[str, Any]:
    """Describes the machine and the packages that decide a figure."""
    flags: set[str] = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("flags"):
                flags = set(line.split())
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "extensions": sorted(flags & {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}),
        "system": platform.system(),
        "python": platform.python_version(),
        "keras": version("keras"),
        "tensorflow": _tensorflow_version(),
    }


def _tensorflow_version() -> str:
    """Finds TensorFlow's version under either of its names."""
    try:
        return version("tensorflow-cpu")
    except ImportError:
        return version("tensorflow")

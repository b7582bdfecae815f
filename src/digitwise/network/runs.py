"""The folder that a training fills: settings, history, checkpoints, figures and the bundle."""

import contextlib
import csv
import io
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from digitwise.errors import DigitwiseError, MachineError, machine_error
from digitwise.network.settings import TrainingSettings
from digitwise.storage import locked, sweep_unfinished, write_text

SETTINGS_FILE = "settings.json"
LOCK_FILE = ".lock"
EpochFigures = dict[str, int | float]
OnEpoch = Callable[[EpochFigures], None]
_ROOM_NEEDED = 64 * 1024 * 1024


@dataclass(frozen=True)
class Run:
    """A training's folder.

    Attributes:
        folder: holds `settings.json`, `history.csv`, `checkpoints/`, `figures/` and, once the
            training is finished, `bundle/`.
    """

    folder: Path

    @property
    def bundle(self) -> Path:
        """Where the finished bundle appears."""
        return self.folder / "bundle"

    @property
    def checkpoints(self) -> Path:
        """Where each epoch leaves its state."""
        return self.folder / "checkpoints"

    @property
    def figures(self) -> Path:
        """Where the figures are put."""
        return self.folder / "figures"

    def read_settings(self) -> TrainingSettings:
        """Reads what the run was told.

        Raises:
            DigitwiseError: the folder is no run, or its settings are damaged.
        """
        file = self.folder / SETTINGS_FILE
        if not file.is_file():
            raise DigitwiseError(f"{self.folder}: not a run: it holds no {SETTINGS_FILE}")
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except PermissionError as error:
            raise machine_error(f"read {file}", error) from error
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise DigitwiseError(f"{file}: damaged: start a new run") from error
        try:
            return TrainingSettings.from_dict(document)
        except DigitwiseError as error:
            raise DigitwiseError(f"{file}: {error}") from error

    def write_history(self, history: list[EpochFigures]) -> None:
        """Writes `history.csv`, a row an epoch.

        Raises:
            MachineError: the disk is full or permission is missing.
        """
        table = io.StringIO()
        columns = list(dict.fromkeys(name for row in history for name in row))
        writer = csv.DictWriter(table, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_text(self.folder / "history.csv", table.getvalue(), force=True)  # in our folder

    def read_history(self) -> list[EpochFigures]:
        """Reads `history.csv`; an empty list where there is none yet."""
        file = self.folder / "history.csv"
        if not file.is_file():
            return []
        with file.open(newline="", encoding="utf-8") as table:
            return [
                {name: float(value) for name, value in row.items()} for row in csv.DictReader(table)
            ]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training this run; a killed process lets go.

        Raises:
            DigitwiseError: another process is training it.
        """
        if self.bundle.is_dir() and not os.access(self.folder, os.W_OK):
            yield  # a finished run in a read-only folder: there is nothing to exclude
            return
        busy = f"{self.folder}: another process is training this run: wait for it"
        with locked(self.folder / LOCK_FILE, busy):
            yield

    def sweep(self) -> None:
        """Removes what a killed training left unfinished."""
        sweep_unfinished(self.folder)
        sweep_unfinished(self.checkpoints)


def plan_run(output: str | Path | None, dataset: str, architecture: str) -> Run:
    """Chooses a run's folder and makes sure that it can be written, without making it.

    Args:
        output: the folder asked for, which must not exist; None takes the first free
            `runs/<dataset>-<model>-<n>`.
        dataset: the data's name.
        architecture: the network's name.

    Raises:
        DigitwiseError: the folder exists.
        MachineError: there is no permission, or too little room on the disk.
    """
    folder = Path(output) if output is not None else _next_free(dataset, architecture)
    if folder.exists() or folder.is_symlink():
        raise DigitwiseError(
            f"{folder} exists: choose another --output, or continue it with --resume {folder}"
        )
    standing = next(parent for parent in folder.absolute().parents if parent.exists())
    if not standing.is_dir():
        raise DigitwiseError(f"{standing} is a file: choose another --output")
    effective = os.access in os.supports_effective_ids
    if not os.access(standing, os.W_OK | os.X_OK, effective_ids=effective):
        raise MachineError(f"write {folder}", f"no permission in {standing}")
    free = shutil.disk_usage(standing).free
    if free < _ROOM_NEEDED:
        room = f"{free // 2**20} MB free on the disk, {_ROOM_NEEDED // 2**20} MB needed"
        raise MachineError(f"write {folder}", room)
    return Run(folder)


def _next_free(dataset: str, architecture: str) -> Path:
    """Finds the first `runs/<dataset>-<model>-<n>` that does not exist."""
    candidates = (Path("runs") / f"{dataset}-{architecture}-{n}" for n in itertools.count(1))
    return next(folder for folder in candidates if not folder.exists())

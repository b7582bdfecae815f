"""A training's whole state after an epoch, so that it can go on as if never broken off."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from digitwise.errors import DigitwiseError
from digitwise.network.backend import keras
from digitwise.network.runs import EpochFigures
from digitwise.storage import open_whole

_KEPT = 2  # checkpoints; the one before the last is there in case


@dataclass
class TrainingState:
    """Where a training stands besides its variables.

    Attributes:
        epoch: how many epochs are done.
        seconds: time spent fitting, over all sessions.
        history: a row an epoch.
        best_epoch: the epoch (from 1) with the lowest validation loss; 0 before there is one.
        best_loss: that validation loss.
        stopped: whether early stopping has ended the training.
    """

    epoch: int = 0
    seconds: float = 0.0
    history: list[EpochFigures] = field(default_factory=list)
    best_epoch: int = 0
    best_loss: float = 1e30
    stopped: bool = False


@dataclass
class Checkpoint:
    """Everything that decides how a training goes on.

    Attributes:
        state: counters and history.
        variables: the model's, those of its seed generators among them.
        optimizer: the optimizer's variables; empty before the first step.
        best: the model's variables at the best epoch; empty where none is kept.
    """

    state: TrainingState
    variables: list[np.ndarray]
    optimizer: list[np.ndarray]
    best: list[np.ndarray]


def take_checkpoint(model: Any, state: TrainingState, best: list[np.ndarray]) -> Checkpoint:
    """Copies a compiled model's whole state.

    `model.variables` holds what `model.weights` and a `.keras` file lack: the state of each
    SeedGenerator, by which dropout goes on.
    """
    optimizer = copy_values(model.optimizer.variables)
    return Checkpoint(state, copy_values(model.variables), optimizer, best)


def first_checkpoint(model: Any) -> Checkpoint:
    """Copies a model as it is before the first step, with no optimizer, whatever it was fit by."""
    return Checkpoint(TrainingState(), copy_values(model.variables), [], [])


def restore_checkpoint(model: Any, checkpoint: Checkpoint) -> None:
    """Puts a checkpoint's values into a compiled model and its optimizer.

    Raises:
        DigitwiseError: the checkpoint is another network's.
    """
    model.optimizer.build(model.trainable_variables)
    assign(model.variables, checkpoint.variables)
    if checkpoint.optimizer:
        assign(model.optimizer.variables, checkpoint.optimizer)


def copy_values(variables: list[Any]) -> list[np.ndarray]:
    """Copies the values of Keras variables."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign(variables: list[Any], values: list[np.ndarray]) -> None:
    """Gives each variable its value.

    Raises:
        DigitwiseError: number or shapes differ.
    """
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [value.shape for value in values]:
        raise DigitwiseError("the checkpoint does not fit the network: the run was made otherwise")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint whole, then removes all but the last two.

    Raises:
        MachineError: the disk is full or permission is missing; earlier ones are as they were.
    """
    arrays = {"state": np.frombuffer(json.dumps(asdict(checkpoint.state)).encode(), np.uint8)}
    for part in ("variables", "optimizer", "best"):
        for number, value in enumerate(getattr(checkpoint, part)):
            arrays[f"{part}/{number:04}"] = value
    file_name = f"epoch-{checkpoint.state.epoch:05}.npz"
    with open_whole(folder / file_name, force=True) as file:  # in a run's folder, which is ours
        np.savez(file, allow_pickle=False, **arrays)  # type: ignore[arg-type]
    for outdated in _list(folder)[:-_KEPT]:
        outdated.unlink(missing_ok=True)


def read_latest(folder: Path) -> Checkpoint:
    """Reads the newest checkpoint of a folder.

    Raises:
        DigitwiseError: there is none, or it is damaged.
    """
    files = _list(folder)
    if not files:
        raise DigitwiseError(f"{folder}: holds no checkpoint to go on from: start a new run")
    try:
        with np.load(files[-1], allow_pickle=False) as arrays:
            state = TrainingState(**json.loads(arrays["state"].tobytes()))
            parts = {
                part: [arrays[name] for name in sorted(arrays.files) if name.startswith(f"{part}/")]
                for part in ("variables", "optimizer", "best")
            }
    except Exception as error:  # zipfile, zlib, JSON: whatever a damaged file sets off
        raise DigitwiseError(
            f"{files[-1]}: damaged: delete it to go on from the epoch before"
        ) from error
    return Checkpoint(state, **parts)


def _list(folder: Path) -> list[Path]:
    """Lists a folder's checkpoints, the newest last."""
    return sorted(folder.glob("epoch-*.npz"))

"""The script of docs/scaling.md that trains one network in several processes."""

import contextlib
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import digitwise as dw
from digitwise.network.backend import open_model
from tests.conftest import PATIENCE, running

SCRIPT = Path(__file__).parents[2] / "docs" / "train_on_several_machines.py"


def test_two_processes_train_one_network(small: Path) -> None:
    pytest.importorskip("jax")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--coordinator", coordinator, "--machines", "2", "--data", small]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                running(
                    [sys.executable, SCRIPT, *options, "--number", number, "--epochs", "8"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            for number in ("0", "1")
        ]
        printed = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    weights = [re.findall("weights (.+)", text) for text in printed]
    assert weights[0] == weights[1]
    assert len(weights[0]) == 1

    model = open_model(Path("several-machines.keras"))
    _, (x, y) = dw.load_data(path=small)
    model.compile(metrics=["accuracy"], loss="categorical_crossentropy")
    accuracy = model.evaluate(*dw.preprocess(x, y), return_dict=True, verbose=0)["accuracy"]
    assert accuracy > 0.85
    assert {f"{accuracy:.3f}"} == {text.split("accuracy ")[-1].strip()[:5] for text in printed}

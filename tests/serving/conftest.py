"""A service in a process of its own, as a user starts it."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

LONG = 180.0  # seconds to wait for another process, which may share its cores with many


@dataclass
class Service:
    """A running `digitwise serve`."""

    process: subprocess.Popen[str]
    address: str


@contextlib.contextmanager
def running(*options: str) -> Iterator[Service]:
    """Run a service for a while; whatever happens, it has ended afterwards."""
    command = [sys.executable, "-m", "digitwise", "serve", "--json", "--no-log", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Service(process, _address(process))
            process.terminate()
            process.wait(LONG)
        finally:
            if process.poll() is None:
                process.kill()


def _address(process: subprocess.Popen[str]) -> str:
    """Read the address that a service prints when it listens."""
    assert process.stdout is not None
    printed = ""
    while "}" not in printed:
        line = process.stdout.readline()
        assert line, f"the service ended with {process.wait(LONG)}"
        printed += line
    return str(json.loads(printed)["address"])


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service saves corrected digits."""
    return tmp_path_factory.mktemp("collected")


@pytest.fixture(scope="module")
def service(collected: Path) -> Iterator[Service]:
    """A service on a free port, shared by a module's tests."""
    options = ("--port", "0", "--timeout", str(LONG), "--collect", str(collected))
    with running(*options) as started:
        yield started

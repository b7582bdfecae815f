"""A service in a process of its own, as a user starts it."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


class Service:
    """A running `digitwise serve`."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "digitwise", "serve", "--json", "--no-log", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        lines: list[str] = []
        while "}" not in "".join(lines):
            line = self.process.stdout.readline()
            assert line, f"the service ended with {self.process.wait()}"
            lines.append(line)
        self.process.stdout.close()
        self.address: str = json.loads("".join(lines))["address"]

    def stop(self) -> None:
        """Asks it to stop, and waits."""
        self.process.terminate()
        self.process.wait(20)


@contextlib.contextmanager
def running(*options: str) -> Iterator[Service]:
    """Runs a service for a while."""
    service = Service(*options)
    try:
        yield service
    finally:
        service.stop()


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service saves corrected digits."""
    return tmp_path_factory.mktemp("collected")


@pytest.fixture(scope="module")
def service(collected: Path) -> Iterator[Service]:
    """A service on a free port, shared by a module's tests."""
    with running("--port", "0", "--collect", str(collected)) as started:
        yield started

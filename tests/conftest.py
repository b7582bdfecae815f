"""What the tests share; none of them reaches past this machine."""

import contextlib
import gzip
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest

import digitwise
from digitwise.data.formats import idx_bytes

GIVEN_DATA = os.environ.get("DIGITWISE_DATA")
PATIENCE = 600  # seconds to wait for another process; only a hang takes so long
NOWHERE = "http://127.0.0.1:9"  # the discard port: refused at once

# A shell starts background jobs with Ctrl-C ignored, and the processes that tests start inherit it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test begins in an empty folder, with empty caches, no data folder and no network."""
    monkeypatch.delenv("DIGITWISE_DATA", raising=False)
    monkeypatch.setenv("DIGITWISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("DIGITWISE_MIRROR", NOWHERE)
    monkeypatch.setenv("COLUMNS", "100")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)


def given_data(dataset: str) -> Path:
    """Finds a real dataset in the folder that DIGITWISE_DATA named when the tests began."""
    if not GIVEN_DATA or not (Path(GIVEN_DATA) / dataset).is_dir():
        pytest.skip(f"needs DIGITWISE_DATA with {dataset}/")
    return Path(GIVEN_DATA).absolute() / dataset


@pytest.fixture(scope="session")
def mnist() -> Path:
    """The folder of the four real MNIST files."""
    return given_data("mnist")


@pytest.fixture(scope="session")
def fashion_mnist() -> Path:
    """The folder of the four real Fashion-MNIST files."""
    return given_data("fashion-mnist")


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """4,000 real MNIST training digits and their labels, mixed."""
    from digitwise.data.loading import built_in_sample

    train = built_in_sample().train
    assert train is not None
    order = np.random.default_rng(0).permutation(len(train.y))
    return train.x[order], train.y[order]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """The system's Chromium, driven by Playwright."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=1000 * PATIENCE)
    quiet = "--disable-background-networking --disable-component-update --disable-sync"
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--no-first-run", *quiet.split()]
        opened = playwright.chromium.launch(
            executable_path=chromium, args=arguments, timeout=1000 * PATIENCE
        )
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    """A browser's page; what it complains of, or asks for beyond this machine, fails the test."""
    faults: list[str] = []
    with browser.new_context() as context:
        context.set_default_timeout(1000 * PATIENCE)
        opened = context.new_page()
        opened.on("pageerror", lambda error: faults.append(str(error)))
        opened.on(
            "console",
            lambda message: faults.append(message.text) if message.type == "error" else None,
        )
        near = ("file:", "data:", "blob:", "http://127.0.0.1:")
        opened.on(
            "request",
            lambda asked: None if asked.url.startswith(near) else faults.append(asked.url),
        )
        yield opened
    assert not faults


@contextlib.contextmanager
def running(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a process that does not outlive the block, whatever happens in the block."""
    with subprocess.Popen([*map(str, command)], **options) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait until something has happened; fail if `process` ends before, or after `PATIENCE`."""
    until = time.monotonic() + PATIENCE
    while not happened():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode}: {process.communicate()[1]}")
        if time.monotonic() > until:
            raise AssertionError(f"it did not happen within {PATIENCE} seconds")
        time.sleep(0.005)


def write_idx(path: Path, array: np.ndarray) -> None:
    """Writes an IDX file, gzipped where the name says so."""
    content = b"".join(idx_bytes(array))
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def write_idx_folder(
    folder: Path, x: np.ndarray, y: np.ndarray, test: int, suffix: str = ""
) -> Path:
    """Writes the four files of an IDX dataset; the last `test` images are the test set."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": slice(None, -test), "t10k": slice(-test, None)}
    for part, which in parts.items():
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", x[which])
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", y[which])
    return folder


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """An IDX folder with 1,200 real digits to train on and 300 to test with."""
    x, y = digits
    return write_idx_folder(tmp_path_factory.mktemp("small") / "small", x[:1500], y[:1500], 300)


@pytest.fixture(scope="session")
def bundle(small: Path, tmp_path_factory: pytest.TempPathFactory) -> "digitwise.Bundle":
    """`fast` trained on 1,200 real digits."""
    run = tmp_path_factory.mktemp("runs") / "run"
    return digitwise.train("fast", path=small, minimum_steps=120, output=run)


@pytest.fixture
def no_type_checks() -> Iterator[None]:
    """Let a test pass arrays of a wrong type, as users can: jaxtyping checks only run in tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """Lets no file, pytest's own neither, grow beyond 4 KiB, as a full disk would; be brief."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def no_permission(tmp_path: Path) -> Iterator[Path]:
    """A folder that may not be written; the process gives up root's rights where it has them."""
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    was_root = os.geteuid() == 0
    for parent in folder.parents:
        if was_root and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    if was_root:
        os.seteuid(65534)
    yield folder
    if was_root:
        os.seteuid(0)
    folder.chmod(0o755)

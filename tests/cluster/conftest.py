"""A real Ray cluster of two nodes on this machine."""

import functools
import gc
import os
import shutil
import subprocess
import threading
import warnings
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

if find_spec("ray") is None:  # not there for macOS on Intel
    collect_ignore = ["test_bulk.py", "test_sweep.py"]
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # Ray reads it when imported: loopback only
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(scope="package")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    soon = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 3,
    }
    head = {"num_cpus": 1, "include_dashboard": False, "_system_config": soon}
    started = Cluster(initialize_head=True, head_node_args=head)
    try:
        started.add_node(num_cpus=1)
        yield started
    finally:
        started.shutdown()
        with warnings.catch_warnings():  # of Ray's processes, before the next file
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    """A folder of 60 pages with a line of eight real digits each, and two files that are none."""
    folder = tmp_path_factory.mktemp("archive") / "pages"
    (folder / "more").mkdir(parents=True)
    for number in range(60):
        page = np.full((400, 560), 255, np.uint8)
        for place, image in enumerate(digits[0][8 * number : 8 * number + 8]):
            page[180:208, 60 + 52 * place : 88 + 52 * place] = 255 - image
        cv2.imwrite(str(folder / ("more" if number % 3 else "") / f"{number:03}.png"), page)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    (folder / "empty.jpg").write_bytes(b"")
    return folder


@pytest.fixture
def web(pages: Path) -> Iterator[str]:
    """The folder's address on a web server, which lists what is in it."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=pages)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)

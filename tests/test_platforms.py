"""Reading, evaluation and the service need nothing that only POSIX systems have."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import PATIENCE, write_idx_folder

WITHOUT_POSIX = """
import sys
for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "uvloop", "httptools"):
    sys.modules[name] = None
"""
READ = """
from digitwise.cli import main
sys.exit(main(["read", "digit.png"]))
"""
EVALUATE = """
from digitwise.cli import main
sys.exit(main(["evaluate", "pretrained", "--data", "data"]))
"""
SERVE = """
import socket, threading
from urllib.request import Request, urlopen
import uvicorn
from digitwise.serving.app import create_app
from digitwise.serving.settings import ServiceSettings
listening = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(create_app(ServiceSettings()), log_level="error"))
thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
thread.start()
address = f"http://127.0.0.1:{listening.getsockname()[1]}/api/read"
request = Request(address, open("digit.png", "rb").read(), {"Content-Type": "image/png"})
print(urlopen(request).read().decode())
server.should_exit = True
thread.join()
"""


@pytest.mark.parametrize("code", [READ, EVALUATE, SERVE], ids=["read", "evaluate", "serve"])
def test_what_needs_no_training_runs_where_posix_modules_are_missing(
    code: str, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = digits
    page = np.full((112, 112), 255, np.uint8)
    page[42:70, 42:70] = 255 - x[0]
    cv2.imwrite("digit.png", page)
    write_idx_folder(Path("data"), np.roll(x[:80], 1, axis=2), y[:80], 40)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX + code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()

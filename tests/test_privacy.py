"""Nothing leaves the machine: no telemetry file is written and no other machine is contacted."""

import fnmatch
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

import cv2
import numpy as np
import pytest

from digitwise.runtimes import TELEMETRY_VARIABLE, import_onnxruntime
from tests.conftest import NOWHERE, PATIENCE, running, write_idx_folder

# Ray's secret for a cluster on this machine; Keras's settings; the list of the system's fonts.
KNOWN_FILES = (".ray/auth_token", ".keras/keras.json", ".cache/matplotlib/*")
# Variables that move files out of the home, or that switch telemetry off.
UNWANTED = ("CI", "TF_BUILD", "JENKINS_URL", "MPLCONFIGDIR", "KERAS_HOME", TELEMETRY_VARIABLE)
DIGITWISE = ["-m", "digitwise"]
COMMANDS = {
    "read": [*DIGITWISE, "read", "digits.png"],
    "read on Ray": [*DIGITWISE, "read", "digits.png", "--cluster", "local", "--output", "out"],
    "serve": [*DIGITWISE, "serve", "--port", "0", "--json"],
    "evaluate": [*DIGITWISE, "evaluate", "pretrained", "--data", "data"],
    "OpenVINO": [
        "-c",
        "from digitwise import open_bundle; from digitwise.runtimes import import_openvino; "
        "import_openvino().Core().read_model(open_bundle('pretrained').path / 'model.onnx')",
    ],
}
NEEDED = {"read on Ray": "ray", "OpenVINO": "openvino"}


@dataclass(frozen=True)
class Outcome:
    """A finished command: the files in its home, its stderr, and its connections if traced."""

    files: list[str]
    messages: str
    connections: list[str] | None


def _environment(home: Path) -> dict[str, str]:
    """Return an environment in which everything that may phone home is at its default."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in UNWANTED and not name.startswith(("XDG_", "RAY_"))
    }
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    return {**kept, "HOME": str(home), "DIGITWISE_MIRROR": NOWHERE}


def _run(command: list[str], folder: Path, home: Path, prefix: list[str]) -> str:
    """Run a command, with one request to a service, and return its stderr."""
    start = [*prefix, sys.executable, *command]
    with (
        (folder / "stderr").open("w") as stderr,
        running(
            start,
            cwd=folder,
            env=_environment(home),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        if "serve" in command:
            printed = ""
            while not printed.endswith("}\n"):
                printed += process.stdout.readline() or "nothing}\n"
            address = json.loads(printed)["address"]
            picture = (folder / "digits.png").read_bytes()
            request = Request(f"{address}/api/read", picture, {"Content-Type": "image/png"})
            with urlopen(request, timeout=PATIENCE) as answer:
                assert json.load(answer)["lines"]
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            service = int(children.read_text().split()[0]) if prefix else process.pid
            os.kill(service, signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    messages = (folder / "stderr").read_text()
    assert process.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM), messages
    return messages


def _write_inputs(folder: Path, digits: tuple[np.ndarray, np.ndarray]) -> None:
    """Write a picture of four digits, and a data set whose images no network has seen."""
    folder.mkdir(parents=True)
    x, y = digits
    page = np.full((160, 280), 255, np.uint8)
    page[66:94, 40:152] = 255 - np.hstack(x[:4])
    cv2.imwrite(str(folder / "digits.png"), page)
    write_idx_folder(folder / "data", np.roll(x[:80], 1, axis=2), y[:80], 40)


@pytest.fixture(scope="module", params=COMMANDS)
def outcome(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    digits: tuple[np.ndarray, np.ndarray],
) -> Outcome:
    """Run a command with an empty home, traced where strace works."""
    needed = NEEDED.get(request.param)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"needs {needed}")
    folder = tmp_path_factory.mktemp("privacy")
    home, inputs, trace = folder / "home", folder / "here", folder / "trace"
    home.mkdir()
    _write_inputs(inputs, digits)
    tracer = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=connect", "-o", str(trace)]
    works = shutil.which("strace") and not subprocess.run([*tracer, "true"]).returncode
    messages = _run(COMMANDS[request.param], inputs, home, tracer if works else [])
    files = [str(file.relative_to(home)) for file in home.rglob("*") if file.is_file()]
    return Outcome(files, messages, trace.read_text().splitlines() if works else None)


def test_no_command_leaves_a_telemetry_file(outcome: Outcome) -> None:
    unknown = [
        file
        for file in outcome.files
        if not any(fnmatch.fnmatch(file, known) for known in KNOWN_FILES)
    ]
    assert unknown == []


def test_no_command_contacts_another_machine(outcome: Outcome) -> None:
    if outcome.connections is None:
        pytest.skip("needs strace, and the right to trace")
    contacts = [line for line in outcome.connections if re.search(r"AF_INET6?\b", line)]
    here = re.compile(r'"127\.|"::1"|"::ffff:127\.')
    assert [line for line in contacts if not here.search(line)] == []
    assert [line for line in contacts if re.search(r"port=htons\(53\)", line)] == []


@pytest.mark.parametrize("command", ["read", "serve", "evaluate"])
def test_an_unwritable_home_causes_no_warning(
    command: str, tmp_path: Path, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    _write_inputs(tmp_path / "inputs", digits)
    home = tmp_path / "file"
    home.touch()  # not even root can make a folder in it
    messages = _run(COMMANDS[command], tmp_path / "inputs", home, [])
    assert not re.search("warning|telemetry|error|fail", messages, re.IGNORECASE), messages


def test_a_user_can_allow_onnx_runtimes_telemetry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import_onnxruntime()  # while it starts, the variable decides
    monkeypatch.setenv(TELEMETRY_VARIABLE, "0")
    import_onnxruntime()
    assert os.environ[TELEMETRY_VARIABLE] == "0"
    monkeypatch.delenv(TELEMETRY_VARIABLE)
    import_onnxruntime()
    assert os.environ[TELEMETRY_VARIABLE] == "1"

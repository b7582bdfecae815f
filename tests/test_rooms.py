"""The rules between the rooms, as docs/architecture.md states them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "digitwise"
SHARED = {"errors", "messages", "runtimes", "storage"}
ALLOWED = {
    "data": {"data", "bundle"},
    "bundle": set(),
    "network": {"network", "data", "bundle"},
    "reading": {"reading", "data.images", "data.normalization", "bundle"},
    "insight": {"insight", "network", "reading", "data", "bundle"},
    "serving": {"serving", "insight", "reading", "data", "bundle"},
    "cluster": {"cluster", "insight", "network", "reading", "data", "bundle"},
    "cli": {"serving", "cluster", "insight", "network", "reading", "data", "bundle"},
}
HEAVY = {"keras", "tensorflow", "matplotlib", "fastapi", "ray"}


def _imports(file: Path) -> set[str]:
    """Lists the modules that a file imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", _files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_a_room_imports_only_what_lies_below_it(file: Path) -> None:
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room not in ALLOWED:
        return
    allowed = ALLOWED[room] | SHARED
    for module in _imports(file):
        if not module.startswith("digitwise."):
            continue
        inner = module.removeprefix("digitwise.")
        if inner == "__version__":
            continue
        assert any(inner == name or inner.startswith(f"{name}.") for name in allowed), module


@pytest.mark.parametrize("file", _files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_keras_is_imported_in_the_network_room_alone(file: Path) -> None:
    if file.parent.name == "network" or file.name == "attribution.py":
        return
    roots = {module.split(".")[0] for module in _imports(file)}
    assert not roots & {"keras", "tensorflow"}


@pytest.mark.parametrize("file", _files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_ray_is_imported_in_the_cluster_room_alone(file: Path) -> None:
    roots = {module.split(".")[0] for module in _imports(file)}
    assert file.parent.name == "cluster" or not roots & {"ray", "pyarrow", "fsspec"}


@pytest.mark.parametrize("file", _files(), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_runtimes_with_telemetry_are_imported_in_one_place(file: Path) -> None:
    if file.name == "runtimes.py":
        return
    text = file.read_text().replace("if TYPE_CHECKING:\n    import onnxruntime\n", "")
    assert not re.search(
        r"^\s*(from|import) (openvino|onnxruntime)\b(?!\.quantization)", text, re.M
    )


@pytest.mark.parametrize(
    "code",
    [
        "import digitwise",
        "from digitwise.cli import main; assert main(['--help']) == 0",
        "from digitwise.cli import main; assert main(['train', '--model', 'tutorail']) == 2",
        "from digitwise.cli import main; assert main(['train', '--data', 'nowhere']) == 2",
        "from digitwise.cli import main; assert main(['evaluate', 'nowhere']) == 2",
        "import digitwise, numpy; digitwise.Reader().read(numpy.zeros((50, 50), 'uint8'))",
    ],
)
def test_what_needs_no_network_brings_in_nothing_heavy(code: str) -> None:
    check = f"import sys; {code}; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_public_names_are_all_there() -> None:
    import digitwise

    for name in digitwise.__all__:
        assert getattr(digitwise, name) is not None

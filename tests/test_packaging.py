"""The sdist contains what its tests need, and the wheel what it needs to run."""

import ast
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import digitwise
from tests.conftest import PATIENCE

pytest.importorskip("hatchling")
ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "digitwise"
IMPORT_ROOTS = ("", "src", "benchmarks")  # folders that the tests import from


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The unpacked sdist of this checkout, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(folder), "-t"]
    run = {"check": True, "capture_output": True, "timeout": PATIENCE}
    subprocess.run([*build, "sdist"], cwd=ROOT, **run)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    unpacked = folder / sdist.name.removesuffix(".tar.gz")
    subprocess.run([*build, "wheel"], cwd=unpacked, **run)
    (wheel,) = folder.glob("*.whl")
    return unpacked, wheel


def _imported(file: Path) -> set[str]:
    """List the modules that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
    return found


def _files_of(root: Path, module: str) -> set[str]:
    """Find a module's file below a checkout or an sdist; empty if the module is not ours."""
    path = module.replace(".", "/")
    names = [f"{base}/{path}{end}" for base in IMPORT_ROOTS for end in (".py", "/__init__.py")]
    return {name for name in names if (root / name.lstrip("/")).is_file()}


def test_every_module_that_a_shipped_test_imports_is_in_the_sdist(
    built: tuple[Path, Path],
) -> None:
    unpacked, _ = built
    tests = list((unpacked / "tests").rglob("*.py"))
    assert len(tests) == len(list((ROOT / "tests").rglob("*.py")))
    imported = set().union(*map(_imported, [*tests, *(unpacked / "benchmarks").rglob("*.py")]))
    ours = {module: _files_of(ROOT, module) for module in imported}
    assert {"tests.conftest", "digitwise.cli", "results"} <= {name for name in ours if ours[name]}
    assert ours == {module: _files_of(unpacked, module) for module in ours}


def test_the_sdist_contains_the_files_that_the_readme_and_tests_refer_to(
    built: tuple[Path, Path],
) -> None:
    unpacked, _ = built
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text()):
        assert (unpacked / target).exists(), target
    for name in ("Makefile", "requirements/dev.txt", ".ci/run", "benchmarks/results"):
        assert (unpacked / name).exists(), name


def test_the_wheel_holds_weights_page_and_schemas(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[1]).namelist())
    expected = {
        str(file.relative_to(PACKAGE.parent))
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    for suffix in ("pretrained/model.onnx", "static/index.html", "schemas/read.json", "py.typed"):
        assert f"digitwise/{suffix}" in expected or f"digitwise/serving/{suffix}" in expected
    assert {name for name in names if name.startswith("digitwise/")} == expected


def test_the_version_is_defined_in_one_place(built: tuple[Path, Path]) -> None:
    unpacked, wheel = built
    assert unpacked.name == f"digitwise-{digitwise.__version__}"
    assert wheel.name.startswith(f"digitwise-{digitwise.__version__}-")
    assert f'"{digitwise.__version__}"' not in (ROOT / "pyproject.toml").read_text()

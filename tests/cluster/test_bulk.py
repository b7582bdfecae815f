"""Reading an archive on a real cluster, and what may befall it on the way."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import digitwise as dw
from digitwise.cli import main
from digitwise.cluster.bulk import read_in_bulk
from tests.conftest import PATIENCE, running, wait_until

INPUTS = 62
MACHINE_REFUSED = 3
pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"
)  # Ray's own


def _rows(output: Path) -> list[dict[str, Any]]:
    """All rows, as whoever reads the folder gets them."""
    return pq.read_table(output).to_pylist()


def _start(
    cluster: Any, *arguments: str | Path
) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
    """Start `digitwise read` on the cluster, in a process of its own."""
    command = [sys.executable, "-m", "digitwise", "read", "--cluster", cluster.address]
    return running([*command, *arguments], stderr=subprocess.DEVNULL)


def _files(output: Path) -> int:
    return len(list(output.glob("part-*.parquet")))


def processes_of(actor: str) -> list[psutil.Process]:
    """The processes in which Ray runs an actor."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if actor in "".join(process.cmdline()):
                found.append(process)
    return found


def kill_one_of(actor: str) -> None:
    """Kill a process in which Ray runs an actor, as soon as there is one."""

    def killed() -> bool:
        for process in processes_of(actor):
            with contextlib.suppress(psutil.Error):
                process.kill()
                return True
        return False

    wait_until(killed)


def _assert_whole(output: Path, pages: Path) -> None:
    """Every input has its row, once, and what is no picture has its reason."""
    rows = _rows(output)
    files = sorted(str(file) for file in pages.rglob("*.*"))
    assert Counter(row["path"] for row in rows) == Counter(files)
    assert sorted(Path(row["path"]).name for row in rows if row["error"]) == [
        "broken.png",
        "empty.jpg",
    ]
    assert not list(output.glob(".unfinished*"))
    assert not list((output / "_job" / "attempts").iterdir())


def test_the_rows_are_those_of_read_on_one_machine(
    cluster: Any, pages: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    options = ["--output", str(output), "--shard-size", "8", "--json"]
    assert main(["read", "--cluster", cluster.address, str(pages), *options]) == 1
    document = json.loads(capfd.readouterr().out)
    rows = _rows(output)
    assert main(["read", str(pages), "--json"]) == 1
    one_machine = json.loads(capfd.readouterr().out)["images"]

    expected = []
    for page in one_machine:
        if "error" in page:
            expected.append((page["path"], None, None, None, page["error"]))
            continue
        for number, line in enumerate(page["lines"], 1):
            boxes = [digit["box"] for digit in line["digits"]]
            expected.append((page["path"], page["page"], number, boxes, None))
            row = next(row for row in rows if row["path"] == page["path"])
            assert row["others"] == len(page["others"])
            assert row["text"] == line["text"]
            assert row["digits"] == [digit["digit"] for digit in line["digits"]]
            confidences = [digit["confidence"] for digit in line["digits"]]
            assert row["confidences"] == pytest.approx(confidences, abs=1e-4)
    keys = ("path", "page", "line", "boxes", "error")
    assert [tuple(row[key] for key in keys) for row in rows] == expected
    assert document["inputs"] == INPUTS
    assert document["failed"] == 2
    assert document["digits"] == sum(len(row["digits"] or ()) for row in rows)


def test_a_file_name_that_is_not_utf8_is_read(cluster: Any, pages: Path, tmp_path: Path) -> None:
    picture = tmp_path / os.fsdecode(b"caf\xe9.png")
    shutil.copyfile(pages / "000.png", picture)
    with _start(cluster, picture, "--output", tmp_path / "out") as driver:
        assert driver.wait(PATIENCE) == 0
    (row,) = _rows(tmp_path / "out")
    assert row["path"].endswith("caf\\xe9.png")
    assert row["text"] == dw.Reader().read(picture).text


def test_globs_parquet_and_addresses_are_read_too(
    cluster: Any, pages: Path, tmp_path: Path, web: str
) -> None:
    files = sorted((pages / "more").glob("*.png"))
    images = [file.read_bytes() for file in files]
    parquet = tmp_path / "images.parquet"
    structs = [
        {"bytes": image, "path": file.name} for image, file in zip(images, files, strict=True)
    ]
    structs[20] = {"bytes": None, "path": "missing"}
    pq.write_table(pa.table({"image": structs, "label": range(len(files))}), parquet, 15)
    sources = [str(pages / "more" / "00?.png"), str(parquet), f"{web}/more/"]
    reading = read_in_bulk(sources, tmp_path / "out", address=cluster.address, shard_size=9)

    globbed = [file for file in files if file.name < "010"]
    names = [*map(str, globbed), *(f"{parquet}#{number}" for number in range(len(files)))]
    names += [f"{web}/more/{file.name}" for file in files]
    rows = _rows(tmp_path / "out")
    assert [row["path"] for row in rows] == names
    assert [row["error"] for row in rows if row["error"]] == [f"{parquet}: row 20 holds no image"]
    reader = dw.Reader()
    texts = [reader.read(file).text for file in files]
    read = [row["text"] for row in rows]
    assert read[-len(files) :] == texts
    assert read[: len(globbed)] == texts[: len(globbed)]
    assert read[len(globbed) : -len(files)] == [*texts[:20], None, *texts[21:]]
    assert reading.counts.failed == 1


@pytest.mark.parametrize(
    "befalls", ["a worker is killed", "a node is lost", "the driver is killed"]
)
def test_every_input_has_its_row_whatever_dies(
    cluster: Any, pages: Path, tmp_path: Path, befalls: str
) -> None:
    output = tmp_path / "out"
    arguments = (pages, "--output", output, "--shard-size", "2")
    node = cluster.add_node(num_cpus=1) if befalls == "a node is lost" else None
    with _start(cluster, *arguments) as driver:
        wait_until(lambda: _files(output) > 2, driver)
        if befalls == "a worker is killed":
            kill_one_of("MapWorker")
        elif node is not None:
            cluster.remove_node(node, allow_graceful=False)
        if befalls != "the driver is killed":
            assert driver.wait(PATIENCE) == 1
    if befalls == "the driver is killed":  # leaving the block killed it
        assert driver.returncode < 0
        finished = {file: file.stat().st_mtime_ns for file in output.glob("part-*")}
        assert 2 < len(finished) < INPUTS / 2
        with _start(cluster, *arguments) as driver:
            assert driver.wait(PATIENCE) == 1
    _assert_whole(output, pages)
    if befalls == "the driver is killed":
        assert all(file.stat().st_mtime_ns == time for file, time in finished.items())


def test_an_input_at_which_workers_die_is_given_up(
    cluster: Any, pages: Path, tmp_path: Path
) -> None:
    folder, output = tmp_path / "pages", tmp_path / "out"
    shutil.copytree(pages / "more", folder)
    slow = folder / "last.png"
    Image.new("L", (9000, 9000), 255).save(slow)  # takes a while
    trace = output / "_job" / "attempts" / "000000"
    at_slow = f"\n{sorted(folder.iterdir()).index(slow)}\n"
    with _start(cluster, folder, "--output", output, "--shard-size", "100") as driver:
        for deaths in (1, 2):
            wait_until(
                lambda: trace.exists() and trace.read_text().count("begun\n") == deaths,  # noqa: B023
                driver,
            )
            workers = processes_of("MapWorker")  # found early, so that they are killed in time
            wait_until(lambda: trace.read_text().count(at_slow) == deaths, driver)  # noqa: B023
            for worker in workers:
                with contextlib.suppress(psutil.Error):
                    worker.kill()
        assert driver.wait(PATIENCE) == 1
    errors = {row["path"]: row["error"] for row in _rows(output) if row["error"]}
    assert errors == {str(slow): f"{slow}: 2 workers died reading it"}


def test_a_job_on_a_full_disk_goes_on_when_there_is_room(
    cluster: Any, pages: Path, small_disk: Path
) -> None:
    filler, output = small_disk / "filler", small_disk / "out"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 80_000))
    with _start(cluster, pages, "--output", output, "--shard-size", "4") as driver:
        assert driver.wait(PATIENCE) == MACHINE_REFUSED
    before = _files(output)
    assert 0 < before < 15
    filler.unlink()
    with _start(cluster, pages, "--output", output, "--shard-size", "4") as driver:
        assert driver.wait(PATIENCE) == 1
    _assert_whole(output, pages)


def test_a_job_goes_on_with_what_it_was_begun_with_alone(
    cluster: Any, pages: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], bundle: dw.Bundle
) -> None:
    folder, output = tmp_path / "pages", tmp_path / "out"
    shutil.copytree(pages / "more", folder)
    read = ["read", "--cluster", cluster.address, str(folder), "--output", str(output)]
    assert main(read) == 0
    assert main([*read, "--json"]) == 0
    again = json.loads(capsys.readouterr().out.split("files\n")[1])
    assert again["resumed"] == again["shards"] == 1
    assert main([*read, "--bundle", str(bundle.path)]) == 2
    assert "begun with another bundle" in capsys.readouterr().err
    (folder / "001.png").rename(folder / "1.png")
    assert main(read) == 2
    assert "other inputs, or they have changed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["nowhere", "--output", "out"], "nowhere: no such file or folder"),
        (["*.tif", "--output", "out"], "*.tif: nothing has such a name"),
        (["mars://bucket", "--output", "out"], "mars://bucket: cannot be opened"),
        (["rows.parquet", "--output", "out"], "rows.parquet: no column of images: name it image"),
        (["fake.parquet", "--output", "out"], "fake.parquet: not a Parquet file"),
        (["."], "--cluster needs --output"),
        ([".", "--output", "out", "--csv"], "--csv does not go with --cluster"),
        ([".", "--output", "full"], "full holds Parquet files: name another folder"),
        ([".", "--output", "fake.parquet"], "fake.parquet"),
    ],
)
def test_a_job_that_cannot_begin_says_why(
    options: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"name": ["a"]}), "rows.parquet")
    Path("fake.parquet").write_bytes(b"no Parquet")
    Path("full").mkdir()
    Path("full/part-000000.parquet").write_bytes(b"another's")
    status = main(["read", "--cluster", "127.0.0.1:1", *options])
    printed = capsys.readouterr().err
    assert status in (2, 3)
    assert reason in printed
    assert printed.count("\n") == 1
    assert not Path("out").exists() or not list(Path("out").glob("part*"))


def test_where_no_cluster_answers_it_says_so(
    pages: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["read", "--cluster", "127.0.0.1:1", str(pages), "--output", "out"]) == 2
    assert "--cluster 127.0.0.1:1: no Ray cluster answers there" in capsys.readouterr().err
    assert main(["read", "--cluster", "somewhere", str(pages), "--output", "out"]) == 2
    assert "--cluster somewhere: not local, auto or host:port" in capsys.readouterr().err


def test_options_of_a_cluster_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", "a.png", "--workers", "2"]) == 2
    assert "--workers goes with --cluster alone" in capsys.readouterr().err

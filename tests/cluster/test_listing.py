"""A job lists every name as it is, and none of our own outputs."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import digitwise as dw
from digitwise.cluster.bulk import ShardReader, read_in_bulk
from digitwise.cluster.listing import listing_digest, read_shard, write_listing


def _listed(*sources: str) -> list[str]:
    """Return what is listed, relative to the current folder."""
    write_listing(sources, Path("listing"), 100)
    return [os.path.relpath(item.path) for item in read_shard(Path("listing"), 0)]


@pytest.mark.parametrize(
    "name", ["scan[1].png", "scan?.png", "a::b.png", os.fsdecode(b"\xff*.png"), "~.png"]
)
def test_an_existing_file_is_not_treated_as_a_pattern(name: str) -> None:
    for file in (name, "scan1.png", "scanx.png"):
        Path(file).write_bytes(b"any")
    assert _listed(name) == [name]
    assert _listed(str(Path(name).absolute())) == [name]


def test_a_folder_with_brackets_is_listed_and_a_pattern_still_expands() -> None:
    Path("scans [2026]").mkdir()
    for name in ("1.png", "2.png"):
        (Path("scans [2026]") / name).write_bytes(b"any")
    expected = ["scans [2026]/1.png", "scans [2026]/2.png"]
    assert _listed("scans [2026]") == expected
    assert _listed("scans*/[12].png") == expected


def test_drawings_and_parquet_files_of_earlier_runs_are_skipped(
    digits: tuple[np.ndarray, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    Image.fromarray(255 - digits[0][0]).resize((112, 112)).save("in/page.png")
    dw.Reader().read("in/page.png").save("in/drawn.png")
    write_listing(["in"], Path("out/_job/listing"), 100)
    Path("out/_job/attempts").mkdir()
    assert ShardReader("out", "pretrained")({"shard": np.array([0])})["refused"] == [""]
    Path("out/part-000000.parquet").rename("in/part-000000.parquet")
    capsys.readouterr()
    assert _listed("in") == ["in/page.png"]
    assert "notice: 1 output of Digitwise skipped" in capsys.readouterr().err
    assert _listed("in/*") == ["in/page.png"]
    assert "notice: 2 outputs of Digitwise skipped" in capsys.readouterr().err
    assert listing_digest(["in"]) == listing_digest(["in/page.png"])
    assert _listed("in/drawn.png") == ["in/drawn.png"]
    assert "notice: " in capsys.readouterr().err


def test_a_folder_of_the_same_name_as_a_jobs_is_kept() -> None:
    Path("page.png").write_bytes(b"any")
    Path("out/_job/attempts").mkdir(parents=True)
    Path("out/_job/attempts/notes").write_text("mine")
    with pytest.raises(dw.DigitwiseError, match="_job was not made by Digitwise"):
        read_in_bulk(["page.png"], "out")
    assert [str(file) for file in Path("out").rglob("*") if file.is_file()] == [
        "out/_job/attempts/notes"
    ]

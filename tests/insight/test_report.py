"""A report is one file that shows a bundle, and needs nothing from elsewhere."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import digitwise as dw
from digitwise.cli import main
from digitwise.storage import MARK, is_marked

MEGABYTES = 3
SCHEMAS = Path(dw.__file__).parent / "schemas"
pytestmark = pytest.mark.filterwarnings("ignore::digitwise.errors.SampleDataWarning")


@pytest.fixture(scope="module")
def evaluation(bundle: dw.Bundle) -> dw.Evaluation:
    return dw.evaluate(bundle)


@pytest.fixture(scope="module")
def written(bundle: dw.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dw.report(bundle, tmp_path_factory.mktemp("report") / "report.html")


def test_a_report_is_one_small_file_with_the_figures_of_the_evaluation(
    written: Path, bundle: dw.Bundle, evaluation: dw.Evaluation
) -> None:
    text = written.read_text()
    assert written.stat().st_size < MEGABYTES * 1e6
    assert "http" not in text
    assert [file.name for file in written.parent.iterdir()] == ["report.html"]
    low, high = evaluation.confidence_interval
    assert f"{evaluation.accuracy:.2%}, 95% interval {low:.2%} to {high:.2%}" in text
    assert f"{bundle.record['architecture']['parameters']:,}" in text
    for figures in evaluation.per_class:
        assert f"<td>{figures.recall:.2%}</td>" in text


def test_the_pictures_behind_a_cell_are_those_that_were_so_read(
    written: Path, evaluation: dw.Evaluation, page: Any
) -> None:
    page.goto(written.as_uri())
    confusion = evaluation.confusion.copy()
    np.fill_diagonal(confusion, 0)
    row, column = np.unravel_index(confusion.argmax(), confusion.shape)
    cell = page.locator(f".confusion tbody tr:nth-child({row + 1}) td:nth-child({column + 2})")
    pictures = cell.locator("img")
    assert not pictures.first.is_visible()
    cell.locator("summary").click()
    assert pictures.first.is_visible()
    assert pictures.count() == min(12, confusion[row, column])
    names = evaluation.classes
    assert pictures.first.get_attribute("alt").startswith(f"{names[row]} read as {names[column]}")
    page.locator(".confusion .right summary").first.click()
    assert not pictures.first.is_visible()  # one at a time
    wrong = evaluation.images - int(evaluation.confusion.trace())
    assert page.locator(".mistakes li").count() == min(100, wrong)


def test_pointing_at_a_sign_of_the_map_shows_its_image(written: Path, page: Any) -> None:
    page.goto(written.as_uri())
    assert not page.locator("#hover").is_visible()
    sign = page.locator("#map text").last
    told = sign.evaluate("sign => sign.textContent")
    sign.hover()
    hover = page.locator("#hover")
    assert hover.is_visible()
    assert told in hover.inner_text()
    box, size = hover.bounding_box(), page.viewport_size
    assert box["x"] + box["width"] <= size["width"]
    assert box["y"] + box["height"] <= size["height"]


def test_a_report_works_with_scripts_off_and_on_a_phone(written: Path, browser: Any) -> None:
    phone = {"width": 390, "height": 800}
    with browser.new_context(java_script_enabled=False, viewport=phone) as context:
        page = context.new_page()
        page.goto(written.as_uri())
        summary = page.locator(".confusion .right summary").first
        summary.click()
        assert page.locator(".behind img").first.is_visible()
        assert page.locator("#map title").count() > 100  # what hovering would tell
        for section in page.locator("section").all():
            box = section.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= phone["width"]


def test_the_command_names_its_file_and_replaces_only_an_earlier_report(
    bundle: dw.Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("there.html").write_text("mine")
    assert main(["report", str(bundle.path), "--output", "there.html"]) == 2
    assert "there.html exists: choose another --output" in capsys.readouterr().err
    assert Path("there.html").read_text() == "mine"
    Path("report.html").write_text(MARK)  # as an earlier run leaves it
    assert main(["report", str(bundle.path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.validate(printed, json.loads((SCHEMAS / "report.json").read_text()))
    assert re.search("<h1>.*tested on", Path(printed["report"]).read_text())
    assert is_marked(Path("report.html"))

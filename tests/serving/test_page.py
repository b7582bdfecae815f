"""The page reads what is drawn on it, by mouse, by keyboard, in light and dark, on a phone."""

import gzip
import io
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
from PIL import Image

import digitwise as dw
from tests.conftest import given_data
from tests.serving.conftest import LONG, Service, running
from tests.serving.drawing import BY_HAND, Strokes, trace

SIZES, PENS = (90, 180, 330), (8, 26)
PHONE = {"width": 390, "height": 844}
pytestmark = pytest.mark.timeout(600)


def draw(page: Any, strokes: Strokes, x: float = 200, y: float = 40, height: float = 300) -> None:
    """Draws with the mouse, in the box's own coordinates."""
    frame = page.locator("#box").bounding_box()
    zoom = frame["width"] / 600
    for stroke in strokes:
        places = [
            (frame["x"] + zoom * (x + height * px), frame["y"] + zoom * (y + height * py))
            for px, py in stroke
        ]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place)
        page.mouse.up()


def result(page: Any) -> str:
    """Waits until what is drawn has been read."""
    page.wait_for_selector("#result[aria-busy=false]")
    return str(page.locator("#result").inner_text())


def opened(page: Any, service: Service) -> Any:
    page.set_default_timeout(1000 * LONG)
    page.goto(service.address)
    page.wait_for_selector("#model:not(:empty)")
    return page


def set_pen(page: Any, width: int) -> None:
    page.locator("#stroke-width").fill(str(width))


def drawn_and_read(page: Any, all_strokes: Sequence[tuple[str, Strokes]]) -> list[str]:
    """Draws each digit by itself, sizes and pens in turn; lists those misread."""
    page.set_viewport_size({"width": 1000, "height": 600})  # little to paint, so that it is quick
    wrong = []
    for number, (digit, strokes) in enumerate(all_strokes):
        height = SIZES[number % len(SIZES)]
        set_pen(page, PENS[number // len(SIZES) % len(PENS)])
        draw(page, strokes, 180, 30, height)
        read = result(page)
        if read != digit:
            wrong.append(f"{number}: {digit} read as {read}")
        page.locator("#clear").click()
    return wrong


def test_traced_test_digits_are_read_at_three_sizes_and_two_pens(
    page: Any, service: Service, mnist: Path
) -> None:
    def test_set(kind: str, skip: int) -> np.ndarray:
        file = next(mnist.glob(f"t10k-{kind}-idx*"))
        content = file.read_bytes()
        content = gzip.decompress(content) if file.suffix == ".gz" else content
        return np.frombuffer(content, np.uint8, offset=skip)

    images = test_set("images", 16).reshape(-1, 28, 28)[:100]
    labels = test_set("labels", 8)[:100]
    opened(page, service)
    pairs = [(str(y), trace(x)) for x, y in zip(images, labels, strict=True)]
    wrong = drawn_and_read(page, pairs)
    assert len(wrong) <= 5, wrong


def test_ten_digits_drawn_by_hand_are_read(page: Any, service: Service) -> None:
    opened(page, service)
    wrong = drawn_and_read(page, list(BY_HAND.items()))
    assert len(wrong) <= 1, wrong


def test_a_year_in_one_box_is_one_number_and_each_digit_can_be_looked_into(
    page: Any, service: Service
) -> None:
    opened(page, service)
    for place, digit in enumerate("2026"):
        draw(page, BY_HAND[digit], 60 + 130 * place, 110, 170)
    assert result(page) == "2026"
    choices = page.locator("#digits button")
    assert choices.count() == 4
    assert choices.nth(3).get_attribute("aria-pressed") == "true"
    choices.nth(1).click()
    page.wait_for_selector("#digits button:nth-child(2)[aria-pressed=true]")
    assert "0 as the network sees it" in page.locator("#seen").get_attribute("aria-label")
    assert page.locator(".bar.most span").first.inner_text() == "0"
    assert page.locator(".layer canvas.maps").count() > 5


def test_a_map_is_enlarged_and_a_cell_tells_what_it_was_computed_from(
    page: Any, service: Service
) -> None:
    opened(page, service)
    draw(page, BY_HAND["3"])
    assert result(page) == "3"
    page.locator(".layer canvas.maps").first.click(position={"x": 60, "y": 20})
    assert page.locator("#map-heading").inner_text() == "Layer 1, map 2"
    grids = page.locator("#cell table")
    assert grids.count() == 3
    numbers = [
        [float(text.replace("−", "-")) for text in grid.locator("td").all_inner_texts()]
        for grid in grids.all()
    ]
    assert all(len(cells) == 25 for cells in numbers)
    told = page.locator("#cell").inner_text().replace("−", "-")
    total = float(told.split("sum is ")[1].split(".\n")[0].split(". ")[0])
    assert total == pytest.approx(np.dot(numbers[0], numbers[1]), abs=0.15)
    value, kept = told.split(": ")[1].split(",")[0], told.rsplit(": ", 1)[1].rstrip(".\n")
    assert float(kept) == pytest.approx(float(value), abs=0.03)
    page.keyboard.press("Escape")
    assert not page.locator("#map").is_visible()


def test_undo_takes_a_stroke_back_and_clear_all(page: Any, service: Service) -> None:
    opened(page, service)
    draw(page, BY_HAND["1"], 100, 60, 250)
    draw(page, BY_HAND["2"], 300, 60, 250)
    assert result(page) == "12"
    for _ in BY_HAND["2"]:
        page.keyboard.press("Tab")
        page.locator("#undo").click()
    assert result(page) == "1"
    page.locator("#clear").click()
    assert result(page) == "–"
    assert page.locator("#undo").is_disabled()


def test_what_is_none_is_said_to_be_no_digit(page: Any, service: Service) -> None:
    opened(page, service)
    draw(page, [[(0.5, 0.5), (0.52, 0.5)]], height=100)
    assert result(page) in ("Not a digit", "–")


def test_a_mark_beside_a_digit_is_told(page: Any, service: Service) -> None:
    opened(page, service)
    draw(page, BY_HAND["1"], 150, 60, 220)
    draw(page, [[(0, 0.5), (0.25, 0.5)]], 300, 60, 220)
    assert result(page) == "1"
    page.wait_for_selector("#note:not(:empty)")
    assert page.locator("#note").inner_text() == "Besides digits: 1, in grey boxes"


def test_a_file_that_is_no_picture_leaves_what_was_there(
    page: Any, service: Service, tmp_path: Path
) -> None:
    opened(page, service)
    draw(page, BY_HAND["3"])
    assert result(page) == "3"
    (tmp_path / "words.txt").write_text("no picture")
    page.set_input_files("#picture", tmp_path / "words.txt")
    page.wait_for_selector("#note:not(:empty)")
    assert page.locator("#note").inner_text() == "words.txt is no picture."
    assert result(page) == "3"


def test_a_photograph_is_read_with_its_boxes(page: Any, service: Service) -> None:
    photos = given_data("photos")
    file = sorted([*photos.glob("*.jpg"), *photos.glob("*.png")])[0]
    opened(page, service)
    page.set_input_files("#picture", file)
    assert any(sign.isdigit() for sign in result(page))
    assert page.locator("#digits button").count() >= 1


def test_a_picture_can_be_dropped_and_pasted(
    page: Any, service: Service, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    opened(page, service)
    paper = np.pad(255 - np.kron(digits[0][0], np.ones((5, 5), np.uint8)), 30, constant_values=255)
    file = io.BytesIO()
    Image.fromarray(paper).save(file, "PNG")
    for kind, holder in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        page.evaluate(
            """([kind, holder, bytes]) => {
                const transfer = new DataTransfer();
                const type = "image/png";
                transfer.items.add(new File([new Uint8Array(bytes)], "digit.png", { type }));
                const event = new Event(kind, { bubbles: true, cancelable: true });
                Object.defineProperty(event, holder, { value: transfer });
                document.body.dispatchEvent(event);
            }""",
            [kind, holder, list(file.getvalue())],
        )
        page.wait_for_selector("#digits button")
        assert result(page) == str(digits[1][0])
        page.locator("#clear").click()
        page.wait_for_selector("#digits button", state="detached")


def test_a_correction_is_saved_for_training(page: Any, service: Service, collected: Path) -> None:
    opened(page, service)
    draw(page, BY_HAND["7"])
    assert result(page) == "7"
    page.locator("#right-digit").select_option("4")
    page.get_by_role("button", name="Save").click()
    page.wait_for_selector("#saved:not(:empty)")
    (saved,) = collected.glob("4/*.png")
    from digitwise.reading.reader import Reader

    assert Reader().read(saved).text == "7"


def test_the_page_works_behind_a_proxy_with_another_host_name(browser: Any, tmp_path: Path) -> None:
    public, folder = "http://digits.example.com", tmp_path / "kept"
    options = ("--port", "0", "--timeout", str(LONG), "--collect", str(folder))
    with (
        running(*options, "--allow-origin", public) as service,
        httpx.Client(base_url=service.address, timeout=LONG) as client,
        browser.new_context() as context,
    ):

        def forward(asked: Any) -> None:
            request = asked.request
            headers = {**request.headers, "host": "digits.example.com"}
            if request.method == "POST":
                headers["origin"] = public  # which Playwright does not show here
            answer = client.request(
                request.method,
                request.url.removeprefix(public),
                content=request.post_data_buffer,
                headers=headers,
            )
            asked.fulfill(
                status=answer.status_code, headers=dict(answer.headers), body=answer.content
            )

        page = context.new_page()
        page.route(f"{public}/**", forward)
        page.set_default_timeout(1000 * LONG)
        page.goto(f"{public}/")
        page.wait_for_selector("#model:not(:empty)")
        draw(page, BY_HAND["7"])
        assert result(page) == "7"
        page.locator("#right-digit").select_option("4")
        page.get_by_role("button", name="Save").click()
        page.wait_for_selector("#saved:not(:empty)")
    assert len(list(folder.glob("4/*.png"))) == 1


def test_a_one_can_be_drawn_and_looked_into_by_keyboard_alone(page: Any, service: Service) -> None:
    opened(page, service)
    for _ in range(9):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "box":
            break
    page.keyboard.press("Space")
    for _ in range(20):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    assert result(page) == "1"
    page.wait_for_selector("#announcement:not(:empty)", state="attached")
    assert page.locator("#announcement").inner_text() == "Read as 1"
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "maps":
            break
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    assert page.locator("#map-heading").inner_text() == "Layer 1, map 2"


def test_the_page_says_when_the_server_is_gone_and_goes_on_when_it_is_back(browser: Any) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        with running("--port", "0") as service:
            opened(page, service)
        draw(page, BY_HAND["2"])
        page.wait_for_selector("#banner:visible")
        assert "does not answer" in page.locator("#banner").inner_text()
        port = service.address.rsplit(":", 1)[1]
        with running("--port", port):
            page.wait_for_selector("#banner", state="hidden")
            assert result(page) == "2"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(browser: Any, service: Service, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with browser.new_context(color_scheme=scheme) as context:
        page = opened(context.new_page(), service)
        draw(page, BY_HAND["5"])
        assert result(page) == "5"
        page.wait_for_selector(".layer canvas.maps")
        for address in (None, f"{service.address}/docs"):
            if address:
                page.goto(address)
            found = axe.run(page).response["violations"]
            serious = [fault for fault in found if fault["impact"] in ("serious", "critical")]
            assert not serious, [(fault["id"], fault["nodes"][0]["html"]) for fault in serious]


def test_on_a_phone_nothing_sticks_out(browser: Any, service: Service) -> None:
    with browser.new_context(viewport=PHONE, has_touch=True) as context:
        page = opened(context.new_page(), service)
        draw(page, BY_HAND["8"], 200, 40, 300)
        assert result(page) == "8"
        page.wait_for_selector(".layer canvas.maps")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_classes_with_longer_names_are_shown_and_announced_by_name(
    page: Any, tmp_path: Path
) -> None:
    names = ["T-shirt/top", "one", "two", "3", "4", "5", "6", "seven", "8", "9"]
    folder = tmp_path / "worded"
    shutil.copytree(dw.open_bundle("pretrained").path, folder)
    record = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**record, "classes": names}))
    with running("--port", "0", "--bundle", str(folder)) as worded:
        opened(page, worded)
        for place, digit in enumerate("203"):
            draw(page, BY_HAND[digit], 60 + 130 * place, 110, 170)
        assert result(page) == "two T-shirt/top 3"
        choices = page.locator("#digits button")
        assert choices.nth(1).get_attribute("aria-label").startswith("T-shirt/top, ")
        choices.nth(1).click()
        page.wait_for_selector("#digits button:nth-child(2)[aria-pressed=true]")
        assert "T-shirt/top as the network" in page.locator("#seen").get_attribute("aria-label")
        bar = page.locator(".bar.most span").first
        assert bar.inner_text() == "T-shirt/top"
        assert bar.evaluate("bar => bar.scrollWidth <= bar.clientWidth")
        page.wait_for_selector("#announcement:not(:empty)", state="attached")
        assert page.locator("#announcement").inner_text() == "Read as two T-shirt/top 3"

"""The service answers what is asked, and refuses the rest with a reason."""

import asyncio
import contextlib
import gzip
import io
import json
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2 as httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image
from prometheus_client import Counter, Histogram
from starlette.testclient import TestClient

import digitwise as dw
from digitwise.bundle import Bundle
from digitwise.cli import main
from digitwise.serving.app import create_app
from digitwise.serving.settings import ServiceSettings
from tests.serving.conftest import LONG, running

SCHEMAS = Path(dw.__file__).parent / "schemas"
ONE = {
    "strokes": [[[60, 50], [80, 20], [80, 120]]],
    "width": 160,
    "height": 140,
    "stroke_width": 8,
}
# httpx, which Starlette's test client asks with, is on its way to another name.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.timeout(600),
]
PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(ServiceSettings(most_bytes=200_000))) as opened:
        yield opened


@pytest.fixture(scope="module")
def local() -> Iterator[TestClient]:
    """A service without a token on a loopback address, with one more allowed origin."""
    settings = ServiceSettings(is_local=True, origins=("https://Digits.example.com/",))
    with TestClient(create_app(settings), base_url="http://localhost:8000") as opened:
        yield opened


def valid(answer: Any, schema: str) -> Any:
    document = answer.json()
    jsonschema.validate(document, json.loads((SCHEMAS / f"{schema}.json").read_text()))
    return document


def refused(answer: Any, status: int) -> str:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    return str(valid(answer, "problem")["detail"])


def png(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def page_of(digits: np.ndarray) -> np.ndarray:
    """Lays digits side by side, dark on white, twice as large."""
    return 255 - np.kron(np.hstack(list(digits)), np.ones((2, 2), np.uint8))


def test_pixels_strokes_and_pictures_are_read(
    client: TestClient, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    x, y = digits
    crop = client.post("/api/read", json={"pixels": x[0].tolist()})
    assert valid(crop, "service-read")["text"] == str(y[0])
    assert valid(client.post("/api/read", json=ONE), "service-read")["text"] == "1"
    content = png(page_of(x[:4]))
    expected = dw.Reader().read(content)
    plain = client.post("/api/read", content=content, headers={"content-type": "image/png"})
    form = client.post("/api/read", files={"image": ("../../etc/x.png", content)})
    for answer in (plain, form):
        document = valid(answer, "service-read")
        assert document["text"] == expected.text
        assert document["lines"] == expected.to_dict()["lines"]


def test_what_is_no_digit_is_said_to_be_none(client: TestClient) -> None:
    scribble = np.random.default_rng(0).integers(0, 256, (28, 28)).tolist()
    document = valid(client.post("/api/read", json={"pixels": scribble}), "service-read")
    assert document["text"] == ""
    assert document["others"][0]["kind"] == "unknown"


def test_pixels_with_dark_ink_are_refused_with_how_to_convert_them(
    client: TestClient, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    body = {"pixels": (255 - digits[0][0]).tolist()}
    assert "send 255 minus each value" in refused(client.post("/api/read", json=body), 422)


def test_an_explanation_has_every_layer_of_the_chosen_digit(
    client: TestClient, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    content = png(page_of(digits[0][:3]))
    every = valid(client.post("/api/explain", content=content, headers=PNG), "service-explain")
    assert [part["index"] for part in every["digits"]] == [0, 1, 2]
    last = client.post("/api/explain?digit=-1", content=content, headers=PNG).json()
    assert last["digits"] == every["digits"][2:]
    model = valid(client.get("/api/model"), "service-model")
    shapes = [layer["shape"] for layer in model["layers"]]
    assert [layer["shape"] for layer in last["digits"][0]["layers"]] == shapes
    most = max(last["digits"][0]["probabilities"].items(), key=lambda item: item[1])
    assert most[0] == str(last["digits"][0]["digit"])
    assert client.post("/api/explain?digit=9", content=content, headers=PNG).json()["digits"] == []


def test_an_explanation_tells_how_the_page_was_turned(
    client: TestClient, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    row = np.hstack(list(digits[0][:8]))
    for quarters in (0, 1):
        page = 255 - np.kron(np.rot90(row, -quarters), np.ones((2, 2), np.uint8))
        told = client.post("/api/explain", content=png(page), headers=PNG).json()
        assert told["text"] == "".join(map(str, digits[1][:8]))
        assert told["turned"] == 90 * quarters  # against the clock, to stand upright


@pytest.mark.parametrize(
    ("body", "kind", "status", "reason"),
    [
        (b"not a picture", "image/png", 422, "not an image"),
        (b"", "image/png", 422, "empty"),
        (b"%PDF-1.4", "image/png", 415, "PDF"),
        (b"hello", "text/plain", 415, "multipart/form-data"),
        (b"{", "application/json", 422, "no JSON"),
        (b"[" * 100_000, "application/json", 422, "no JSON"),
        (b"[]", "application/json", 422, "no object"),
        (b'{"pixels": [[1]]}', "application/json", 422, "28 rows of 28"),
        (b'{"pixels": [], "strokes": []}', "application/json", 422, "pixels"),
        (b'{"strokes": []}', "application/json", 422, "lacks height, stroke_width, width"),
        (b"--x--", "multipart/form-data", 422, "form"),
        (b"x" * 200_001, "image/png", 413, "200,000 bytes"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(
    client: TestClient, body: bytes, kind: str, status: int, reason: str
) -> None:
    answer = client.post("/api/read", content=body, headers={"content-type": kind})
    assert reason in refused(answer, status)


def test_addresses_and_methods_that_are_none_are_told(client: TestClient) -> None:
    assert "/docs" in refused(client.get("/nowhere"), 404)
    assert "GET is not taken" in refused(client.get("/api/read"), 405)
    assert "digit" in refused(client.post("/api/explain?digit=x", json=ONE), 422)
    assert "--collect" in refused(client.post("/api/collect?digit=1", json=ONE), 403)


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(
    client: TestClient,
) -> None:
    bomb = io.BytesIO()
    Image.new("1", (9000, 9000)).save(bomb, "PNG")
    answer = client.post(
        "/api/read", content=bomb.getvalue(), headers={"content-type": "image/png"}
    )
    assert "too large" in refused(answer, 422)


def test_every_answer_forbids_what_comes_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/docs", "/static/main.js", "/healthz", "/readyz", "/metrics", "/nowhere"):
        answer = client.get(path)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "/api/explain" in client.get("/docs").text
    assert 'digitwise_requests_total{route="/healthz",status="200"}' in client.get("/metrics").text


def test_with_a_token_the_service_answers_only_who_brings_it() -> None:
    with TestClient(create_app(ServiceSettings(token="secret"))) as client:
        assert "token" in refused(client.post("/api/read", json=ONE), 401)
        assert client.get("/metrics").status_code == 401
        assert client.get("/healthz").status_code == 200
        headers = {"Authorization": "Bearer secret"}
        assert client.post("/api/read", json=ONE, headers=headers).json()["text"] == "1"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER  "])
def test_the_authorization_scheme_is_case_insensitive(scheme: str) -> None:
    with TestClient(create_app(ServiceSettings(token="secret"))) as client:
        headers = {"Authorization": f"{scheme} secret"}
        assert client.get("/api/model", headers=headers).status_code == 200
        for wrong in ("secret", f"{scheme} secre", "Basic secret", scheme, ""):
            refused(client.get("/api/model", headers={"Authorization": wrong}), 401)


@pytest.mark.parametrize("token", ["", " ", "two words", "sécret"])
def test_a_token_that_no_request_could_send_is_refused(token: str) -> None:
    with pytest.raises(dw.DigitwiseError, match="--token"):
        ServiceSettings(token=token)


def test_refusals_are_counted_and_logged_under_their_route(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "digitwise.serving")
    settings = ServiceSettings(token="secret", most_bytes=100)
    bearer = {"Authorization": "Bearer secret"}
    with TestClient(create_app(settings)) as client:
        refused(client.post("/api/read", json=ONE), 401)
        refused(client.post("/api/read", content=b"x" * 101, headers={**PNG, **bearer}), 413)
        for number in range(20):
            refused(client.get(f"/api/{number}", headers=bearer), 404)
            refused(client.get(f"/{number}"), 404)
        counted = client.get("/metrics", headers=bearer).text
    lines = [record.fields for record in caplog.records]
    assert [(line["route"], line["status"]) for line in lines[:2]] == [
        ("/api/read", 401),
        ("/api/read", 413),
    ]
    assert [(line["route"], line["status"]) for line in lines[2:]] == [("other", 404)] * 20
    for route, status, count in (("/api/read", 401, 1), ("/api/read", 413, 1), ("other", 404, 40)):
        assert f'requests_total{{route="{route}",status="{status}"}} {count}.0' in counted
    routes = set(re.findall(r'route="(.*?)"', counted))
    assert routes == {"/api/read", "other"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://localhost:8000"}, 200),
        ({"Origin": "https://digits.example.com"}, 200),  # given by --allow-origin
        ({"Origin": "https://hidden.example", "Sec-Fetch-Site": "same-origin"}, 200),  # a proxy's
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://localhost:8001"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:8000", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
    ],
)
def test_other_sites_pages_cannot_send_requests(
    local: TestClient, headers: dict[str, str], status: int
) -> None:
    for path in ("/api/read", "/api/explain"):
        assert local.post(path, json=ONE, headers=headers).status_code == status
    assert local.get("/api/model", headers=headers).status_code == 200


@pytest.mark.parametrize("kind", ["multipart/form-data", "text/plain", "", "form"])
def test_nothing_that_a_form_can_send_is_collected(tmp_path: Path, kind: str) -> None:
    content = png(np.full((40, 40, 3), 255, np.uint8))
    with TestClient(create_app(ServiceSettings(collect=tmp_path / "kept"))) as client:
        if kind == "multipart/form-data":
            answer = client.post("/api/collect?digit=1", files={"image": ("1.png", content)})
        elif kind == "form":
            answer = client.post("/api/collect?digit=1", data={"image": "1"})
        else:
            answer = client.post(
                "/api/collect?digit=1", content=content, headers={"content-type": kind}
            )
        assert not list((tmp_path / "kept").glob("*/*"))
        refused(answer, 415)


def test_a_page_of_another_origin_cannot_add_to_the_collection(
    browser: Any, tmp_path: Path
) -> None:
    send = """async ([address, picture]) => {
        const blob = new Blob([new Uint8Array(picture)], { type: "image/png" });
        const form = new FormData();
        form.append("image", blob);
        for (const body of [form, blob, JSON.stringify({ strokes: [] })])
            await fetch(address, { method: "POST", mode: "no-cors", body }).catch(() => null);
    }"""
    content = list(png(np.full((40, 40, 3), 255, np.uint8)))
    folder = tmp_path / "kept"
    with running("--port", "0", "--collect", str(folder)) as service, browser.new_context() as tab:
        page = tab.new_page()
        page.set_default_timeout(1000 * LONG)
        with _site() as other:
            page.goto(other)
            page.evaluate(send, [f"{service.address}/api/collect?digit=1", content])
    assert folder.is_dir()
    assert not list(folder.glob("*/*"))


@contextlib.contextmanager
def _site() -> Iterator[str]:
    """Serve an empty page from another origin."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>Another site</title>")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("127.8.8.8", 200),
        ("localhost", 200),
        ("LocalHost:8000", 200),
        ("digits.localhost.", 200),
        ("[::1]:8000", 200),
        ("digits.example.com", 200),  # given by --allow-origin
        ("evil.example", 421),
        ("127.0.0.1.evil.example:8000", 421),
        ("[2001:db8::1]:8000", 421),
        ("192.0.2.1", 421),
    ],
)
def test_a_local_service_refuses_other_host_names(
    local: TestClient, host: str, status: int
) -> None:
    for path in ("/", "/api/model", "/metrics"):
        answer = local.get(path, headers={"Host": host})
        assert answer.status_code == status
        if status == 421:
            assert "--allow-origin" in refused(answer, 421)


@pytest.mark.parametrize(
    "origin", ["digits.example.com", "https://", "ftp://a", "https://a/b", "https://[", "*"]
)
def test_an_invalid_origin_is_refused(capsys: pytest.CaptureFixture[str], origin: str) -> None:
    assert main(["serve", "--allow-origin", origin]) == 2
    assert f"--allow-origin {origin}: not an origin" in capsys.readouterr().err


def test_a_compressed_body_is_refused_with_the_reason(client: TestClient) -> None:
    answer = client.post(
        "/api/read",
        content=gzip.compress(json.dumps(ONE).encode()),
        headers={"content-type": "application/json", "content-encoding": "gzip"},
    )
    assert "Content-Encoding gzip" in refused(answer, 415)


def test_more_digits_than_one_answer_explains_are_refused_with_how_to_ask(
    client: TestClient, digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from digitwise.insight.activations import Explainer

    calls = []
    outputs = Explainer.outputs
    monkeypatch.setattr(
        Explainer, "outputs", lambda self, image: calls.append(1) or outputs(self, image)
    )
    rows = [np.hstack([np.pad(x, 6) for x in digits[0][start : start + 10]]) for start in range(10)]
    content = png(255 - np.vstack(rows))
    count = sum(len(line["digits"]) for line in _lines(client, content))
    reason = refused(client.post("/api/explain", content=content, headers=PNG), 422)
    assert f"the picture has {count} digits" in reason
    assert f"?digit=0 to ?digit={count - 1}" in reason
    assert not calls
    one = client.post(f"/api/explain?digit={count - 1}", content=content, headers=PNG)
    assert len(valid(one, "service-explain")["digits"]) == 1
    most = int(reason.split("of which ")[1].split()[0])
    page = png(page_of(digits[0][:3]))
    every = client.post("/api/explain", content=page, headers=PNG)
    assert most * len(every.content) / 3 < 5_000_000


def _lines(client: TestClient, content: bytes) -> list[dict[str, Any]]:
    return list(client.post("/api/read", content=content, headers=PNG).json()["lines"])


def test_a_recognizer_or_metric_that_fails_once_fails_at_most_one_request(
    monkeypatch: pytest.MonkeyPatch, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    crop = {"pixels": digits[0][0].tolist()}
    with TestClient(create_app(ServiceSettings()), raise_server_exceptions=False) as client:
        for owner, name, statuses in (
            (Bundle, "unchecked_outputs", {500}),
            (Histogram, "observe", {200}),
            (Counter, "inc", {200, 500}),
        ):
            for asked in (crop, ONE):
                with monkeypatch.context() as patch:
                    patch.setattr(owner, name, _failing_once(getattr(owner, name)))
                    answer = client.post("/api/read", json=asked)
                    assert answer.status_code in statuses
                    if answer.status_code == 500:
                        refused(answer, 500)
                    answer = client.post("/api/read", json=asked)
                    assert answer.status_code == 200
        assert "digitwise_requests_inside 1.0" in client.get("/metrics").text  # this one


def _failing_once(call: Any) -> Any:
    failed = []

    def fails_once(*arguments: Any, **options: Any) -> Any:
        if not failed:
            failed.append(True)
            raise RuntimeError("once")
        return call(*arguments, **options)

    return fails_once


def test_corrections_become_an_image_folder_that_training_takes(tmp_path: Path) -> None:
    folder = tmp_path / "corrected"
    settings = ServiceSettings(collect=folder)
    with TestClient(create_app(settings)) as client:
        for digit in range(10):
            drawn = png(np.full((40, 40, 3), 255, np.uint8))
            answer = client.post(
                f"/api/collect?digit={digit}",
                content=drawn,
                headers={"content-type": "image/png"},
            )
            assert answer.status_code == 201
            assert (folder / answer.json()["saved"]).is_file()
        refused(client.post("/api/collect?digit=10", json=ONE), 422)
        broken = client.post(
            "/api/collect?digit=1", content=b"no", headers={"content-type": "image/png"}
        )
        refused(broken, 422)
    assert sorted(part.name for part in folder.iterdir()) == list("0123456789")
    assert len(list(folder.glob("*/*"))) == 10


def test_the_command_says_what_keeps_it_from_serving(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["serve", "--collect", str(tmp_path / "file")]) == 2
    assert "is a file: name a folder" in capsys.readouterr().err
    assert main(["serve", "--host", "203.0.113.1"]) == 2
    assert "choose another --host or --port" in capsys.readouterr().err
    assert main(["serve", "--bundle", "nowhere"]) == 2
    assert "nowhere: no such bundle" in capsys.readouterr().err


def test_requests_that_are_waiting_when_the_service_is_forced_to_stop_are_answered() -> None:
    app = create_app(ServiceSettings())
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return await asyncio.get_running_loop().create_future()  # the body never arrives

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
        scope = {"type": "http", "method": "POST", "path": "/api/read", "headers": headers}
        asked = asyncio.create_task(app({**scope, "query_string": b""}, receive, send))
        await asyncio.sleep(0.01)
        asked.cancel()
        await asyncio.wait([asked])

    with ThreadPoolExecutor(1) as apart:  # Playwright, once open, keeps this thread's event loop
        apart.submit(asyncio.run, ask()).result()
    assert sent[0]["status"] == 503
    assert "stopping" in json.loads(sent[1]["body"])["detail"]


def test_a_stop_finishes_what_has_begun(digits: tuple[np.ndarray, np.ndarray]) -> None:
    body = json.dumps({"pixels": digits[0][0].tolist()}).encode()
    with running("--port", "0", "--timeout", str(LONG)) as service:
        metrics = f"{service.address}/metrics"

        def sent() -> Iterator[bytes]:
            yield body[:100]
            while "digitwise_requests_inside 2.0" not in httpx.get(metrics, timeout=LONG).text:
                pass  # what asks for the figures is inside, too
            service.process.terminate()
            yield body[100:]

        headers = {"content-type": "application/json"}
        address = f"{service.address}/api/read"
        answer = httpx.post(address, content=sent(), headers=headers, timeout=LONG)
        assert answer.json()["text"] == str(digits[1][0])
        assert service.process.wait(LONG) in (0, -signal.SIGTERM)

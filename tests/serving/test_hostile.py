"""Whatever is sent, each request gets an answer, and the service answers the next one."""

import asyncio
import contextlib
import io
import json
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, given, settings
from PIL import Image
from starlette.testclient import TestClient

from digitwise.serving import connection
from digitwise.serving.app import create_app
from digitwise.serving.settings import ServiceSettings
from tests.serving.conftest import LONG, Service

UPLOADS = 1000
PNG = {"content-type": "image/png"}
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.timeout(600),
]


def _picture(kind: str, random: np.random.Generator) -> bytes:
    """A small picture with something written on it."""
    pixels = np.full((48, 40), 255, np.uint8)
    pixels[8:40, 18:22] = random.integers(0, 60)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def _giant(width: int, height: int) -> bytes:
    """A PNG that says it is far larger than what follows."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return len(content).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    rows = zlib.compress(bytes(2_000_000), 9)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _hostile(number: int) -> tuple[str, bytes, bool]:
    """Makes an upload: its name, its bytes, and whether it may be read all the same."""
    random = np.random.default_rng(number)
    kind = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")[number % 6]
    whole = _picture(kind, random)
    match number // 6 % 8:
        case 0:
            return "cut.png", whole[: int(len(whole) * random.uniform(0.05, 0.6))], kind != "PNG"
        case 1:
            damaged = bytearray(whole)
            for at in random.integers(0, len(whole), 12).tolist():
                damaged[at] = int(random.integers(256))
            return "damaged", bytes(damaged), True
        case 2:
            return "bomb.png", _giant(*random.integers(20_000, 2**31, 2).tolist()), False
        case 3:
            return "wide.png", _giant(int(random.integers(2**27, 2**31)), 1), False
        case 4:
            return "noise.jpg", random.bytes(int(random.integers(1, 5000))), False
        case 5:
            return "page.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", False
        case 6:
            return "../../../../etc/cron.d/x\x00.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%EOF", False
        case _:
            return "poly.gif", b"GIF89a/*" + whole + b"*/alert(1)<?php ?>", False


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(ServiceSettings()), raise_server_exceptions=False) as opened:
        yield opened


def test_a_thousand_hostile_uploads_are_refused_and_the_service_stays(client: TestClient) -> None:
    for number in range(UPLOADS):
        name, content, may_be_read = _hostile(number)
        answer = client.post("/api/read", files={"image": (name, content)})
        if may_be_read and answer.status_code == 200:
            continue
        assert 400 <= answer.status_code < 500, (number, name, answer.text)
        assert answer.json()["detail"], (number, name)
    assert client.get("/readyz").status_code == 200


def test_whatever_the_description_allows_never_makes_the_service_fail() -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(ServiceSettings()))
    tried = 0
    for operation in schema.get_all_operations():
        strategy = operation.ok().as_strategy()

        @settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def ask(case: Any) -> None:
            nonlocal tried
            tried += 1
            assert case.call().status_code < 500

        ask()
    assert tried > 50


def test_under_load_every_request_gets_its_answer(
    service: Service, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    bodies = [json.dumps({"pixels": image.tolist()}) for image in digits[0][:64]]

    async def ask_all() -> list[tuple[int, str]]:
        limits = httpx.Limits(max_connections=400)
        async with httpx.AsyncClient(
            base_url=service.address, limits=limits, timeout=LONG
        ) as opened:

            async def ask(number: int) -> tuple[int, str]:
                headers = {"content-type": "application/json"}
                answer = await opened.post(
                    "/api/read", content=bodies[number % 64], headers=headers
                )
                if answer.status_code == 503:
                    assert answer.headers["retry-after"] == "1"
                    return 503, ""
                return answer.status_code, answer.json()["text"]

            return await asyncio.gather(*(ask(number) for number in range(800)))

    with ThreadPoolExecutor(1) as apart:  # Playwright, once open, keeps this thread's event loop
        answers = apart.submit(asyncio.run, ask_all()).result()
    assert {status for status, _ in answers} <= {200, 503}
    right = [
        text == str(digits[1][number % 64])
        for number, (status, text) in enumerate(answers)
        if status == 200
    ]
    assert len(right) > 64
    assert np.mean(right) > 0.95


def test_pictures_that_arrive_together_wait_in_a_queue() -> None:
    page = {"content": _picture("png", np.random.default_rng(0)), "headers": PNG}
    settings = ServiceSettings(seconds=LONG, patience=LONG, most_pictures=2)
    with TestClient(create_app(settings)) as client, ThreadPoolExecutor(40) as crowd:
        asked = [crowd.submit(client.post, "/api/read", **page) for _ in range(30)]
        answers = [answer.result() for answer in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["text"] for answer in answers} == {"1"}


def _tiff(pages: int) -> bytes:
    """A TIFF whose pages are the same 4×4 pixels."""
    tags = ((256, 4), (257, 4), (258, 8), (259, 1), (262, 1), (273, 8), (278, 4), (279, 16))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    size = 2 + len(entries) + 4
    starts = [24 + number * size for number in range(pages)]
    chain = b"".join(
        struct.pack("<H", len(tags)) + entries + struct.pack("<I", after)
        for after in [*starts[1:], 0]
    )
    return b"II*\0" + struct.pack("<I", 24) + bytes(16) + chain


def _strokes(y: bytes, stroke_width: bytes) -> bytes:
    """A stroke in JSON, with numbers as they are spelled."""
    size = b'"width": 9, "height": 9, "stroke_width": %s' % stroke_width
    return b'{"strokes": [[[1, %s], [2, 2]]], %s}' % (y, size)


def _text_bomb() -> bytes:
    """A PNG with 200 MB of compressed text."""
    whole = _picture("PNG", np.random.default_rng(0))
    body = b"zTXtComment\0\0" + zlib.compress(bytes(200_000_000), 1)
    chunk = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    return whole[:33] + chunk + whole[33:]


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("application/json", b'{"pixels": "\xff\xfe"}', "no JSON"),
        ("application/json", b"\xff\xfe", "no JSON"),
        ("application/json", b'{"a": 1' + b"0" * 5000 + b"}", "no JSON"),
        ("application/json", b'{"a": ' * 50_000 + b"1" + b"}" * 50_000, "no JSON"),
        ("application/json", b'{"pixels": [], "pixels": []}', "a key is given twice"),
        ("application/json", b'{"pixels": ' + b"[" * 60 + b"]" * 60 + b"}", "28 rows of 28"),
        ("application/json", json.dumps({"pixels": [[float("nan")]]}).encode(), "28 rows"),
        ("application/json", json.dumps({"pixels": [[10**40] * 28] * 28}).encode(), "28 rows"),
        ("application/json", _strokes(b"NaN", b"2"), "stroke 0"),
        ("application/json", _strokes(b"1e999", b"2"), "stroke 0"),
        ("application/json", _strokes(b"-Infinity", b"2"), "stroke 0"),
        ("application/json", _strokes(b"1" + b"0" * 4000, b"2"), "stroke 0"),
        ("application/json", _strokes(b"1", b"1e999"), "stroke_width"),
        ("application/json", _strokes(b"1", b"null"), "stroke_width"),
        ("image/tiff", _tiff(20_000), "more than 1,000 pages"),
        ("image/png", _text_bomb(), "damaged"),
    ],
)
def test_malformed_input_is_refused_with_the_reason(
    client: TestClient, kind: str, body: bytes, reason: str
) -> None:
    answer = client.post("/api/read", content=body, headers={"content-type": kind})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert reason in answer.json()["detail"]


def test_json_is_refused_as_soon_as_it_is_too_large(client: TestClient) -> None:
    def body() -> Iterator[bytes]:
        for _ in range(9):  # under the limit for pictures
            yield b" " * 1_000_000

    answer = client.post("/api/read", content=body(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert "2,000,000 bytes" in answer.json()["detail"]


def test_unsupported_methods_are_refused_under_api(client: TestClient) -> None:
    for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"):
        for path, taken in (("/api/read", "POST"), ("/api/model", "GET")):
            answer = client.request(method, path)
            assert answer.status_code == 405
            assert answer.headers["allow"] == taken
            assert answer.headers["content-type"] == "application/problem+json"


HEAD = b" HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),  # TLS
        (b"BREW /" + HEAD + b"\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT elsewhere:443" + HEAD + b"\r\n", 400),
        (b"GET /\xff" + HEAD + b"\r\n", 400),
        (b"GET /%00%ff" + HEAD + b"\r\n", 404),
        (b"GET /static/%2e%2e/%2e%2e/app.py" + HEAD + b"\r\n", 404),
        (b"OPTIONS *" + HEAD + b"\r\n", 404),
        (b"GET /" + b"a" * 200_000, 431),
        (b"GET /" + HEAD + b"X: " + b"a" * 200_000, 431),
        (b"GET /" + HEAD + b"X: a\r\n" * 50_000, 431),
        (b"POST /api/read" + HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (b"POST /api/read" + HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        (b"POST /api/read" + HEAD + b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\n", 400),
        (b"POST /api/read" + HEAD + b"Content-Length: 9999999999\r\n\r\n", 413),
        (
            b"POST /api/read" + HEAD + b"Content-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            400,
        ),
        (b"POST /api/read" + HEAD + b"Content-Type: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}", 415),
        (b"POST /api/read" + HEAD + b"Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}", 415),
        (b"POST /api/read" + HEAD + b"Origin: \xff\r\nContent-Length: 2\r\n\r\n{}", 403),
        (b"GET / HTTP/1.1\r\nHost: \xffevil.example\r\n\r\n", 421),
    ],
)
def test_every_request_on_a_connection_is_answered(
    service: Service, request_: bytes, status: int
) -> None:
    (answer,) = _exchange(service.address, request_)
    assert answer[0] == status
    assert json.loads(answer[1])["status"] == status
    assert httpx.get(f"{service.address}/healthz", timeout=LONG).status_code == 200


def test_a_body_in_many_chunks_is_read(
    service: Service, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    body = json.dumps({"pixels": digits[0][0].tolist()}).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    head = b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    ((status, content),) = _exchange(service.address, b"POST /api/read" + HEAD + head + chunks)
    assert status == 200
    assert json.loads(content)["text"] == str(digits[1][0])


def test_ten_thousand_requests_at_once_are_answered_one_by_one(
    service: Service, digits: tuple[np.ndarray, np.ndarray]
) -> None:
    body = json.dumps({"pixels": digits[0][0].tolist()}).encode()
    head = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    tiny = b"GET /healthz" + HEAD + b"\r\n"
    many = tiny * 498 + b"POST /api/read" + HEAD + head + body + tiny
    with ThreadPoolExecutor(20) as crowd:
        asked = [crowd.submit(_exchange, service.address, many, 500) for _ in range(20)]
        for answers in (connection.result() for connection in asked):
            assert [status for status, _ in answers] == [200] * 500
            assert json.loads(answers[498][1])["text"] == str(digits[1][0])


def _exchange(address: str, content: bytes, count: int = 1) -> list[tuple[int, bytes]]:
    """Send bytes, and take the status and body of each answer."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), LONG) as connection:
        sending = threading.Thread(target=_send, args=(connection, content))
        sending.start()
        with connection.makefile("rb") as answers:
            found = [_answer(answers) for _ in range(count)]
        sending.join()
    return found


def _send(connection: socket.socket, content: bytes) -> None:
    """Send bytes as far as the service takes them."""
    with contextlib.suppress(OSError):
        connection.sendall(content)


def _answer(answers: Any) -> tuple[int, bytes]:
    """Take an answer with a Content-Length from a connection."""
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline()) != b"\r\n":
        assert line
        if line.lower().startswith(b"content-length:"):
            length = int(line[15:])
    return status, answers.read(length)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a service in this process that waits a second for what is sent."""
    monkeypatch.setattr(connection, "_HEAD_SECONDS", 1.0)
    app = create_app(ServiceSettings(seconds=1.0))
    config = uvicorn.Config(app, http=connection.Connection, ws="none", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


def test_a_client_that_stops_halfway_gets_an_answer_or_is_disconnected(impatient: str) -> None:
    half = b"POST /api/read" + HEAD + b"Content-Type: image/png\r\nContent-Length: 100\r\n\r\nhalf"
    for sent, reason in ((half, "body did not arrive"), (half[:30], "headers did not arrive")):
        ((status, content),) = _exchange(impatient, sent)
        assert status == 408
        assert reason in json.loads(content)["detail"]
    host, port = impatient.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), LONG) as refused:
        refused.sendall(b"POST /api/read" + HEAD + b"Content-Length: 9999999999\r\n\r\n")
        with refused.makefile("rb") as answers:
            assert _answer(answers)[0] == 413
            refused.sendall(b"the body all the same")
            assert answers.read() == b""
    with socket.create_connection((host, int(port)), LONG) as silent:
        assert silent.recv(1) == b""  # nothing was asked, so nothing is answered
    with socket.create_connection((host, int(port)), LONG) as leaving:
        leaving.sendall(half)
    counted = ""
    while 'route="/api/read",status="499"' not in counted:  # the client left: no fault of ours
        counted = httpx.get(f"{impatient}/metrics", timeout=LONG).text
    assert 'status="500"' not in counted
    assert "digitwise_requests_inside 1.0" in counted

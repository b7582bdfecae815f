"""What is sent to do harm is refused with a reason, and the service goes on."""

import asyncio
import io
import json
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2 as httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from PIL import Image
from starlette.testclient import TestClient

from digitwise.serving.app import create_app
from digitwise.serving.settings import ServiceSettings
from tests.serving.conftest import Service

UPLOADS = 1000
PNG = {"content-type": "image/png"}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


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


def test_whatever_the_description_allows_never_makes_the_service_fail(client: TestClient) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", client.app)
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
        async with httpx.AsyncClient(base_url=service.address, limits=limits, timeout=60) as opened:

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


def test_pictures_that_come_together_stand_in_line(service: Service) -> None:
    page = {"content": _picture("png", np.random.default_rng(0)), "headers": PNG}
    with ThreadPoolExecutor(40) as crowd, httpx.Client(timeout=60) as client:
        asked = [
            crowd.submit(client.post, f"{service.address}/api/read", **page) for _ in range(120)
        ]
        answers = [answer.result() for answer in asked]
    assert {answer.status_code for answer in answers} == {200}
    assert {answer.json()["text"] for answer in answers} == {"1"}

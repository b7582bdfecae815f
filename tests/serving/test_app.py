"""The service answers what is asked, and refuses the rest with a reason."""

import io
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import jsonschema
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import digitwise as dw
from digitwise.cli import main
from digitwise.serving.app import create_app
from digitwise.serving.settings import ServiceSettings
from tests.serving.conftest import running

SCHEMAS = Path(dw.__file__).parent / "schemas"
ONE = {
    "strokes": [[[60, 50], [80, 20], [80, 120]]],
    "width": 160,
    "height": 140,
    "stroke_width": 8,
}
# httpx, which Starlette's test client asks with, is on its way to another name.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PNG = {"content-type": "image/png"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(create_app(ServiceSettings(most_bytes=200_000))) as opened:
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


def test_pixels_with_dark_ink_are_refused_with_the_way_to_convert_them(
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


def test_a_stop_finishes_what_has_begun(digits: tuple[np.ndarray, np.ndarray]) -> None:
    body = json.dumps({"pixels": digits[0][0].tolist()}).encode()
    with running("--port", "0") as service:
        metrics = f"{service.address}/metrics"

        def sent() -> Iterator[bytes]:
            yield body[:100]
            while "digitwise_requests_inside 2.0" not in httpx.get(metrics).text:
                pass  # what asks for the figures is inside, too
            service.process.terminate()
            yield body[100:]

        headers = {"content-type": "application/json"}
        answer = httpx.post(f"{service.address}/api/read", content=sent(), headers=headers)
        assert answer.json()["text"] == str(digits[1][0])
        assert service.process.wait(20) in (0, -signal.SIGTERM)

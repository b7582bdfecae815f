"""create_app(): the page and the service, as an ASGI application."""

import contextlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, HTMLResponse, Response

from digitwise import __version__
from digitwise.bundle import Bundle, as_digit, open_classifier
from digitwise.data.images import open_picture
from digitwise.errors import DigitwiseError, MachineError, machine_error
from digitwise.insight.activations import Explainer
from digitwise.reading.reader import Reader, Reading
from digitwise.serving import description
from digitwise.serving.answers import (
    crop_reading,
    explanation_answer,
    model_answer,
    reading_answer,
)
from digitwise.serving.asked import Picture, asked_in_json, asked_picture, is_form, is_json
from digitwise.serving.documentation import documentation_page
from digitwise.serving.gate import Gate, Metrics, log
from digitwise.serving.problems import ProblemError
from digitwise.serving.settings import ServiceSettings
from digitwise.serving.workers import Batcher, PicturePool, Place
from digitwise.storage import open_whole

_STATIC = Path(__file__).parent / "static"
_COLLECTED_SIDE = 512  # pixels of a collected picture's longer side, at most
_MOST_COLLECTED = 10_000  # files in a collection


def create_app(settings: ServiceSettings) -> FastAPI:
    """Makes the application.

    Args:
        settings: what it reads with, and what it lets in.

    Raises:
        DigitwiseError: the bundle is none that reads 28×28 images, or cannot be run.
        MachineError: the folder to collect in cannot be made.
    """
    service = _Service(settings)
    app = FastAPI(
        title="Digitwise",
        version=__version__,
        description=description.ABOUT,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=service.lifespan,
    )
    app.add_exception_handler(ProblemError, _tell_problem)
    app.add_exception_handler(DigitwiseError, _tell_bad_input)
    app.add_exception_handler(HTTPException, _tell_http)
    app.add_exception_handler(RequestValidationError, _tell_bad_query)
    app.post("/api/read", **description.READ)(service.read)
    app.post("/api/explain", **description.EXPLAIN)(service.explain)
    app.post("/api/collect", **description.COLLECT)(service.collect)
    app.get("/api/model", **description.MODEL)(service.model)
    app.get("/healthz", **description.HEALTH)(service.health)
    app.get("/readyz", **description.READY)(service.ready)
    app.get("/metrics", **description.METRICS)(service.show_metrics)
    looked_at: dict[str, Any] = {"methods": ["GET", "HEAD"], "include_in_schema": False}
    app.api_route("/", **looked_at)(lambda: FileResponse(_STATIC / "index.html"))
    app.api_route("/docs", **looked_at)(lambda: HTMLResponse(documentation_page(app.openapi())))
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    routes = [getattr(route, "path", "") for route in app.routes]
    app.add_middleware(Gate, settings=settings, metrics=service.metrics, routes=routes)
    return app


class _Service:
    """What the routes share: the reader, the workers, the metrics."""

    def __init__(self, settings: ServiceSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self._bundle = open_classifier(settings.bundle)
        self._reader = Reader(self._bundle)
        self._reader.classify(np.zeros((1, 28, 28), np.uint8))  # opens the network now
        self._explainer = _open_explainer(self._bundle)
        collects = settings.collect is not None
        told = {**model_answer(self._bundle, self._explainer), "collects": collects}
        self._model = _json({"version": __version__, **told})
        self._collected = 0
        if settings.collect is not None:
            self._collected = _prepare_collection(settings.collect, self._bundle.classes)
        self._ready = False

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Has the workers while the service runs."""
        self._batcher = Batcher(self._reader.recognizer.classify, self.metrics.crops.observe)
        self._pool = PicturePool(
            self.settings.threads, self.settings.most_pictures, self.settings.patience
        )
        self._ready = True
        try:
            yield
        finally:
            self._ready = False
            self._batcher.close()
            self._pool.close()

    async def read(self, request: Request) -> Response:
        """Reads the digits of a picture, of strokes, or one of 28×28 pixels."""
        return await self._answer(request, reading_answer)

    async def explain(
        self,
        request: Request,
        digit: Annotated[int | None, Query(ge=-1, description=description.DIGIT)] = None,
    ) -> Response:
        """Reads, and shows what the network made of each digit, layer by layer."""
        if self._explainer is None:
            raise ProblemError(501, "the bundle lacks what explaining needs: train it anew")
        return await self._answer(
            request, partial(explanation_answer, explainer=self._explainer, number=digit)
        )

    async def collect(
        self,
        request: Request,
        digit: Annotated[int, Query(ge=0, le=9, description=description.RIGHT_DIGIT)],
    ) -> Response:
        """Saves a picture of one digit with what it is, for training on."""
        folder = self.settings.collect
        if folder is None:
            raise ProblemError(403, "nothing is collected: start digitwise serve with --collect")
        if str(digit) not in self._bundle.classes:
            known = ", ".join(self._bundle.classes)
            raise ProblemError(
                422, f"digit: the bundle has no class {digit}: choose one of {known}"
            )
        if self._collected >= _MOST_COLLECTED:
            raise ProblemError(507, f"{_MOST_COLLECTED:,} pictures are collected: empty the folder")
        if is_form(request):  # the only accepted type that any page's form can send
            raise ProblemError(415, "forms are not collected: send the picture itself, or JSON")
        async with self._pool.place() as place:
            picture = await self._picture(request)
            name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(4)}.png"
            target = folder / str(digit) / name
            await place.run(lambda: _save(picture, target, self.settings.most_pixels))
        self._collected += 1
        return _respond(json.dumps({"saved": f"{target.parent.name}/{target.name}"}), 201)

    async def model(self) -> Response:
        """Tells what reads."""
        return _respond(self._model)

    async def health(self) -> Response:
        """Tells that the process answers."""
        return _respond('{"status": "ok"}')

    async def ready(self) -> Response:
        """Tells whether requests are taken."""
        if not self._ready:
            raise ProblemError(503, "starting or stopping", {"Retry-After": "1"})
        return _respond('{"status": "ready"}')

    async def show_metrics(self) -> Response:
        """Tells Prometheus what was done."""
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _answer(
        self, request: Request, answer: Callable[[Reading], dict[str, Any]]
    ) -> Response:
        """Reads what is asked, and words it, off the event loop but for a crop."""
        if is_json(request):
            asked = await asked_in_json(request)
            if isinstance(asked, np.ndarray):
                found = await self._batcher.classify(asked)
                reading = crop_reading(asked, found, self._bundle.classes)
                self.metrics.digits.inc(len(reading.lines))
                if answer is reading_answer:
                    return _respond(_json(reading_answer(reading)))
                async with self._pool.place() as place:
                    return _respond(await place.run(lambda: _json(answer(reading))))
            async with self._pool.place() as place:
                return await self._read(place, asked, answer, is_ruled=False)
        async with self._pool.place() as place:
            return await self._read(place, await asked_picture(request), answer, is_ruled=True)

    async def _read(
        self,
        place: Place,
        picture: Picture,
        answer: Callable[[Reading], dict[str, Any]],
        is_ruled: bool,
    ) -> Response:
        """Reads a picture and words what was read."""

        def work() -> str:
            reader = self._reader.interruptible(place.check)  # stops when nobody waits
            reading = reader.read(
                picture(), is_ruled=is_ruled, most_pixels=self.settings.most_pixels
            )
            digits = len(reading.digits)
            if digits > self.settings.most_digits:
                most = f"{self.settings.most_digits:,}"
                raise ProblemError(
                    422, f"the picture has {digits:,} digits, over {most}: cut it up"
                )
            self.metrics.digits.inc(digits)
            return _json(answer(reading))

        return _respond(await place.run(work))

    async def _picture(self, request: Request) -> Picture:
        """Takes a picture or strokes, not 28×28 pixels."""
        if not is_json(request):
            return await asked_picture(request)
        asked = await asked_in_json(request)
        if isinstance(asked, np.ndarray):
            return lambda: 255 - asked
        return asked


def _open_explainer(bundle: Bundle) -> Explainer | None:
    """Opens what explains, where the bundle has what it needs."""
    try:
        return Explainer(bundle)
    except DigitwiseError:
        return None


def _prepare_collection(folder: Path, classes: tuple[str, ...]) -> int:
    """Makes sure that pictures can be saved, and counts those that are there."""
    if any(as_digit(name) is None for name in classes):
        raise DigitwiseError(
            f"--collect {folder}: the bundle's classes are not digits: leave --collect out"
        )
    if folder.exists() and not folder.is_dir():
        raise DigitwiseError(f"--collect {folder} is a file: name a folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise machine_error(f"make {folder}", error) from error
    if not os.access(folder, os.W_OK):
        raise MachineError(f"write {folder}", "permission is missing")
    return sum(1 for _ in folder.glob("*/*.png"))


def _save(picture: Picture, target: Path, most_pixels: int) -> None:
    """Saves a picture anew, so that nothing but its pixels gets in."""
    pixels = open_picture(picture(), most_pixels).pixels
    shrink = _COLLECTED_SIDE / max(pixels.shape[:2])
    if shrink < 1:
        pixels = cv2.resize(pixels, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    png = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1]
    with open_whole(target) as file:
        file.write(png.tobytes())


def _json(document: dict[str, Any]) -> str:
    """Words plain data, without spaces."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _respond(content: str, status: int = 200) -> Response:
    """Makes the answer of JSON that is worded already."""
    return Response(content, status, media_type="application/json")


def _tell_problem(_: Request, error: Exception) -> Response:
    """Words a refusal."""
    assert isinstance(error, ProblemError)
    return error.response()


def _tell_bad_input(_: Request, error: Exception) -> Response:
    """Words what is wrong with a picture, or that the machine refused."""
    if isinstance(error, MachineError):
        log.error("the machine refused: %s", error)
        return ProblemError(507, f"not saved: {error.reason}").response()
    detail = " ".join(str(error).split()).removeprefix("the given bytes: ")
    return ProblemError(422, detail).response()


def _tell_http(request: Request, error: Exception) -> Response:
    """Words what Starlette refuses: an address or a method that is none."""
    assert isinstance(error, HTTPException)
    details = {
        404: "no such address: /docs lists those there are",
        405: f"{request.method} is not taken here: /docs tells which are",
    }
    detail = details.get(error.status_code, str(error.detail))
    return ProblemError(error.status_code, detail, dict(error.headers or {})).response()


def _tell_bad_query(_: Request, error: Exception) -> Response:
    """Words the first fault of an address's parameters."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return ProblemError(422, f"{first['loc'][-1]}: {first['msg']}").response()

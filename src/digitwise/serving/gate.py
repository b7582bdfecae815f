"""What every request passes: limits, the token, headers, metrics, a line in the log."""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from digitwise.serving.origins import check_host, check_origin
from digitwise.serving.problems import ProblemError, busy, failed, stopping
from digitwise.serving.settings import ServiceSettings

_CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    (b"content-security-policy", _CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_CROPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
log = logging.getLogger("digitwise.serving")


class Metrics:
    """What Prometheus is told."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "digitwise_requests", "Requests.", ["route", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "digitwise_request_seconds",
            "Seconds from a request's head to the end of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.inside = Gauge(
            "digitwise_requests_inside", "Requests being answered.", registry=self.registry
        )
        self.crops = Histogram(
            "digitwise_batch_crops",
            "28×28 crops recognized in one batch.",
            buckets=_CROPS,
            registry=self.registry,
        )
        self.digits = Counter("digitwise_digits", "Digits read.", registry=self.registry)


class Gate:
    """Wraps an application, as ASGI middleware.

    Args:
        app: what is wrapped.
        settings: the limits and the token.
        metrics: where requests are counted.
        routes: the paths that requests are counted under; all others are counted as "other".
    """

    def __init__(
        self, app: ASGIApp, settings: ServiceSettings, metrics: Metrics, routes: Iterable[str]
    ) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._routes = frozenset(routes)
        self._inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(receive, send, self._settings.most_bytes)
        started = time.perf_counter()
        self._metrics.inside.inc()
        try:
            await self._pass(scope, passage)
        except asyncio.CancelledError:  # the service stops without waiting any longer
            if not passage.status:
                await stopping().response()(scope, passage.receive, passage.send)
            raise
        except ClientDisconnect:
            pass  # nobody is left to answer
        except Exception:  # a fault of ours: the client is told no more than that
            log.exception("a request failed")
            if not passage.status:
                await failed().response()(scope, passage.receive, passage.send)
            elif not passage.answered:
                raise  # so that the server closes the connection
        finally:
            self._metrics.inside.dec()
            try:
                self._note(scope, passage, time.perf_counter() - started)
            except Exception:  # the request was answered anyway
                log.exception("a request could not be counted")

    async def _pass(self, scope: Scope, passage: "_Passage") -> None:
        """Answers a request, within the time that it may take."""
        try:
            async with asyncio.timeout(self._settings.seconds):
                if scope["path"].startswith("/api/"):
                    await self._count_in(scope, passage)
                else:
                    self._check(scope)
                    await self._app(scope, passage.receive, passage.send)
        except TimeoutError:
            if passage.status:
                raise
            seconds = f"{self._settings.seconds:g} seconds"
            if passage.ended:
                refusal = ProblemError(503, f"not read within {seconds}: send less at a time")
                refusal.headers["Retry-After"] = "1"
            else:
                refusal = ProblemError(408, f"the body did not arrive within {seconds}")
            await refusal.response()(scope, passage.receive, passage.send)
        except ProblemError as refusal:
            await refusal.response()(scope, passage.receive, passage.send)

    async def _count_in(self, scope: Scope, passage: "_Passage") -> None:
        """Answers a request under /api, if not too many are inside."""
        if self._inside >= self._settings.most_requests:
            raise busy()
        self._inside += 1
        try:
            self._check(scope)
            await self._app(scope, passage.receive, passage.send)
        finally:
            self._inside -= 1

    def _check(self, scope: Scope) -> None:
        """Check where a request comes from, its token, and the encoding and size of its body."""
        settings, headers = self._settings, dict(scope["headers"])
        if settings.is_local:
            check_host(headers, settings.origins)
        if scope["path"].startswith("/api/"):
            check_origin(scope["method"], headers, settings.origins)
        if settings.token is not None and scope["path"].startswith(("/api/", "/metrics")):
            scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
            is_right = hmac.compare_digest(given.strip(), settings.token.encode())
            if scheme.lower() != b"bearer" or not is_right:
                raise ProblemError(
                    401,
                    "needs the service's token: send Authorization: Bearer TOKEN",
                    {"WWW-Authenticate": "Bearer"},
                )
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").lower()
        if encoding != "identity":
            raise ProblemError(
                415,
                f"Content-Encoding {encoding[:100]} is not supported: send the body as it is",
                {"Accept-Encoding": "identity"},
            )
        said = headers.get(b"content-length", b"0")
        if said.isdigit() and int(said) > settings.most_bytes:
            raise too_large(settings.most_bytes)

    def _route(self, path: str) -> str:
        """Return the path that a request is counted under, one of a few."""
        if path.startswith("/static/"):
            return "/static"
        return path if path in self._routes else "other"

    def _note(self, scope: Scope, passage: "_Passage", seconds: float) -> None:
        """Counts a request, and writes its line in the log."""
        route = self._route(scope["path"])
        status = passage.status or 499  # 499: the client left before it was answered
        self._metrics.requests.labels(route, status).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if log.isEnabledFor(logging.INFO) and scope["path"].startswith("/api/"):
            log.info(
                "request",
                extra={
                    "fields": {
                        "method": scope["method"],
                        "route": route,
                        "status": status,
                        "milliseconds": round(1000 * seconds, 1),
                        "bytes": passage.received,
                    }
                },
            )


class _Passage:
    """One request's messages on their way: counted in, given headers on the way out."""

    def __init__(self, receive: Receive, send: Send, most_bytes: int) -> None:
        self._receive = receive
        self._send = send
        self._most_bytes = most_bytes
        self.received = 0
        self.ended = False  # the request
        self.status = 0
        self.answered = False

    async def receive(self) -> Message:
        """Lets a part of the body in."""
        message = await self._receive()
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self.ended = not message.get("more_body", False)
            if self.received > self._most_bytes:
                raise too_large(self._most_bytes)
        return message

    async def send(self, message: Message) -> None:
        """Lets a part of the answer out."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), *_HEADERS]
        await self._send(message)
        self.answered = message["type"] == "http.response.body" and not message.get("more_body")


def too_large(most_bytes: int) -> ProblemError:
    """Makes the answer to a body that is too large."""
    return ProblemError(413, f"the body is too large: over {most_bytes:,} bytes")


class JsonLines(logging.Formatter):
    """Words a log's records as JSON, a line each."""

    def format(self, record: logging.LogRecord) -> str:
        """Words one record."""
        document: dict[str, Any] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)

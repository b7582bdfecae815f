"""One HTTP connection: limits on a request's head, and problem+json for what is not HTTP."""

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from digitwise.serving.problems import ProblemError

if TYPE_CHECKING:  # uvicorn's other protocol, on h11, has the same methods except on_…
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as _Protocol
else:
    _Protocol = AutoHTTPProtocol

MOST_HEAD = 65_536  # bytes of a request's address and headers; h11 has the same limit
_HEAD_SECONDS = 30.0  # for a request's head to arrive, or the rest of a body that was refused
_LINGER_SECONDS = 2.0  # for a refused client to read the answer before the connection closes
_COUNTS_HEAD = hasattr(AutoHTTPProtocol, "on_headers_complete")


class Connection(_Protocol):
    """Refuse requests whose head is too large or takes too long."""

    _in_head = _COUNTS_HEAD
    _head_bytes = 0
    _is_refused = False
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the timeout for the first request's head."""
        super().connection_made(transport)
        self._start_timer(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse data, and check the size of a head that is incomplete."""
        if self._is_refused:
            return
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_refused or self.transport.is_closing():
            return
        if self._in_head and self._head_bytes > MOST_HEAD:
            self._refuse(431, f"the headers are too large: over {MOST_HEAD:,} bytes")
        elif self._is_answering:
            self._stop_timer()
        elif self._timer is None:
            self._start_timer(_HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """Stop counting; what follows is the body."""
        self._in_head, self._head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Start counting the next request's head."""
        self._in_head = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer data that is not HTTP."""
        self._refuse(400, msg)

    @property
    def _is_answering(self) -> bool:
        """Whether a request has arrived whose answer is incomplete."""
        return self.cycle is not None and not self.cycle.response_complete

    def _start_timer(self, seconds: float) -> None:
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _give_up(self) -> None:
        """Close the connection; a client that has begun a request gets the reason."""
        self._timer = None
        if self._is_refused or self._is_answering or not self._head_bytes:
            self.transport.close()
        else:
            self._refuse(408, f"the headers did not arrive within {_HEAD_SECONDS:g} seconds")

    def _refuse(self, status: int, detail: str) -> None:
        """Answer, then close after a pause, so that the client can read the answer."""
        self._is_refused = True
        if not self._is_answering or not self.cycle.response_started:
            answer = ProblemError(status, detail, {"Connection": "close"}).response()
            lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
            lines += [name + b": " + value for name, value in answer.raw_headers]
            self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._stop_timer()
        self._start_timer(_LINGER_SECONDS)

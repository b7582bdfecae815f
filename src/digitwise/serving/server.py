"""serve(): the application behind uvicorn."""

import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import replace

import uvicorn

from digitwise.errors import DigitwiseError
from digitwise.serving.app import create_app
from digitwise.serving.connection import Connection
from digitwise.serving.gate import JsonLines
from digitwise.serving.origins import is_loopback
from digitwise.serving.settings import ServiceSettings

_GRACE = 10  # seconds that what has begun may take once a stop is asked for
_BACKLOG = 2048


def serve(
    settings: ServiceSettings,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    log_requests: bool = False,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Serves the page and the service until it is told to stop; then finishes what has begun.

    Args:
        settings: of the application; without a token and on a loopback address, only requests whose
            Host is this machine, or one of the origins, are answered.
        host: the address to listen on; the default is reached from this machine alone.
        port: 0 takes a free one.
        log_requests: whether each request has its line of JSON on stderr.
        on_start: told the service's address when it listens.

    Raises:
        DigitwiseError: the bundle is none that reads, or the address cannot be listened on.
    """
    is_local = settings.token is None and is_loopback(host.lower())
    app = create_app(replace(settings, is_local=is_local))
    listening = _listen(host, port)
    _log_to_stderr(logging.INFO if log_requests else logging.WARNING)
    config = uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=30,
    )
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"
    _Server(config, lambda: on_start(address) if on_start else None).run(sockets=[listening])


class _Server(uvicorn.Server):
    """A server that tells when it listens."""

    def __init__(self, config: uvicorn.Config, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts, and tells."""
        await super().startup(sockets)
        if self.started:
            self._on_start()


def _listen(host: str, port: int) -> socket.socket:
    """Opens the socket."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DigitwiseError(
            f"cannot listen on {host}:{port} ({reason}): choose another --host or --port"
        ) from error


def _log_to_stderr(level: int) -> None:
    """Sends uvicorn's log and ours to stderr, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name, least in (("digitwise.serving", level), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(least)
        logger.propagate = False

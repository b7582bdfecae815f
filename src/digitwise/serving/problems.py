"""Errors as problem+json (RFC 9457)."""

import json
from http import HTTPStatus

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """A request that is refused, with the reason.

    Args:
        status: of HTTP.
        detail: the reason, one line, and the mend.
        headers: to send besides.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    def response(self) -> Response:
        """Words it for the client."""
        document = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        content = json.dumps(document, ensure_ascii=False)
        return Response(content, self.status, self.headers, MEDIA_TYPE)


def busy() -> ProblemError:
    """Makes the answer to what comes while too much is done already."""
    return ProblemError(503, "busy: try again in a second", {"Retry-After": "1"})


def failed() -> ProblemError:
    """Create the answer to a request that failed with an internal error."""
    return ProblemError(500, "the service failed: its log says why")


def stopping() -> ProblemError:
    """Create the answer to requests that are still waiting when the service stops."""
    return ProblemError(503, "the service is stopping: try again in a second", {"Retry-After": "1"})

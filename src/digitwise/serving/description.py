"""What the service's OpenAPI document says of each address."""

import json
from importlib import resources
from typing import Any

from digitwise.serving.problems import MEDIA_TYPE

ABOUT = (
    "Reads handwritten digits out of pictures, strokes and 28×28 pixels. Boxes are x, y, width, "
    "height in the picture's pixels, after its EXIF orientation. What is refused is answered by "
    "problem+json (RFC 9457), whose detail says why."
)
DIGIT = (
    "the digit to explain, in reading order from 0, or -1 for the last; by default all, "
    "unless they are too many for one answer: then the error says how many can be explained"
)
RIGHT_DIGIT = "what the picture shows"

_REFUSALS = {
    401: "The token is missing or wrong.",
    403: "The request comes from another site's page, or collecting is off.",
    408: "The body did not arrive in time.",
    413: "The body is too large.",
    415: "The body's type is not read.",
    421: "The service listens on this machine only, and the Host header has another name.",
    422: "What was sent cannot be read; the detail says why.",
    500: "The service failed; its log says why.",
    501: "The bundle lacks what explaining needs.",
    503: "Too much is done already: come back after Retry-After seconds.",
    507: "The disk is full, or may not be written.",
}


def _schema(name: str) -> dict[str, Any]:
    """Opens one of the package's schemas."""
    file = resources.files("digitwise") / "schemas" / f"{name}.json"
    schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    del schema["$schema"]
    return schema


_PROBLEM = {"content": {MEDIA_TYPE: {"schema": _schema("problem")}}}


def _responses(
    done: int,
    what: str,
    schema: dict[str, Any],
    *refusals: int,
    media_type: str = "application/json",
) -> dict[int | str, dict[str, Any]]:
    """Describes the answers of an address."""
    answers: dict[int | str, dict[str, Any]] = {
        done: {"description": what, "content": {media_type: {"schema": schema}}}
    }
    return answers | {status: {"description": _REFUSALS[status], **_PROBLEM} for status in refusals}


def _body(json_schema: dict[str, Any], *, forms: bool = True) -> dict[str, Any]:
    """Describes the bodies that a picture, strokes or pixels come in."""
    file = {"type": "string", "format": "binary"}
    form = {"type": "object", "properties": {"image": file}, "required": ["image"]}
    kinds = [f"image/{kind}" for kind in ("png", "jpeg", "bmp", "gif", "tiff", "webp")]
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": json_schema, "examples": _EXAMPLES},
                **{kind: {"schema": file} for kind in [*kinds, "application/octet-stream"]},
                **({"multipart/form-data": {"schema": form}} if forms else {}),
            },
        }
    }


_EXAMPLES = {
    "strokes": {
        "summary": "a 1 in one stroke",
        "value": {
            "strokes": [[[60, 50], [80, 20], [80, 120]]],
            "width": 160,
            "height": 140,
            "stroke_width": 8,
        },
    },
}
_ASKED = _body(_schema("service-request"))
_TAKING = (401, 403, 408, 413, 415, 421, 422, 500, 503)
_STATE = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
_SAVED = {"type": "object", "properties": {"saved": {"type": "string"}}, "required": ["saved"]}

READ: dict[str, Any] = {
    "summary": "Read a picture, strokes, or 28×28 pixels",
    "responses": _responses(200, "What was read.", _schema("service-read"), *_TAKING),
    "openapi_extra": _ASKED,
}
EXPLAIN: dict[str, Any] = {
    "summary": "Read, and show what every layer made of each digit",
    "responses": _responses(
        200, "What was read, and why.", _schema("service-explain"), *_TAKING, 501
    ),
    "openapi_extra": _ASKED,
}
COLLECT: dict[str, Any] = {
    "summary": "Save a picture of one digit with what it is, where --collect was given",
    "responses": _responses(201, "It was saved.", _SAVED, *_TAKING, 507),
    "openapi_extra": _body(_schema("service-request"), forms=False),
}
MODEL: dict[str, Any] = {
    "summary": "What reads: its layers, its figures, its first kernels",
    "responses": _responses(200, "The network.", _schema("service-model"), 401, 421, 503),
}
HEALTH: dict[str, Any] = {
    "summary": "Whether the process answers",
    "responses": _responses(200, "It does.", _STATE),
}
READY: dict[str, Any] = {
    "summary": "Whether requests are taken",
    "responses": _responses(200, "They are.", _STATE, 503),
}
METRICS: dict[str, Any] = {
    "summary": "Figures for Prometheus",
    "responses": _responses(
        200, "In its text format.", {"type": "string"}, 401, media_type="text/plain"
    ),
}

"""What a request's body asks to be read: a picture, strokes, or 28×28 pixels."""

import json
import struct
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from digitwise.bundle import is_dark_on_light
from digitwise.data.images import Source
from digitwise.reading.strokes import check_count, draw_strokes
from digitwise.serving.problems import ProblemError

MOST_JSON = 2_000_000  # bytes
_MOST_PAGES = 1000  # Pillow's time grows with the square of the number
FILE_FIELD = "image"
_PIXELS = "pixels: 28 rows of 28 whole numbers from 0 to 255 are needed, ink bright"
_DRAWING = {"strokes", "width", "height", "stroke_width"}
_KINDS = (
    "send a picture as it is (Content-Type: image/png, …), as multipart/form-data with the field "
    f"'{FILE_FIELD}', or JSON with strokes or pixels"
)

Crop = UInt8[np.ndarray, "28 28"]
Picture = Callable[[], Source]


def is_json(request: Request) -> bool:
    """Tells whether a request's body is JSON: small, and taken in without a place."""
    return _media_type(request) == "application/json"


def is_form(request: Request) -> bool:
    """Return whether a request's body is a form with a file, which any web page can send."""
    return _media_type(request) == "multipart/form-data"


async def asked_in_json(request: Request) -> Crop | Picture:
    """Takes 28×28 pixels, or strokes, from a JSON body.

    Returns:
        The pixels, or what draws the strokes.

    Raises:
        ProblemError: the body is something else.
        DigitwiseError: there are too many strokes or points.
    """
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_JSON:
            raise ProblemError(413, f"the JSON is too large: over {MOST_JSON:,} bytes")
    try:
        document = json.loads(body, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ProblemError(
            422, f"the body is no JSON: {str(error) or 'nested too deep'}"
        ) from error
    if not isinstance(document, dict):
        raise ProblemError(422, "the JSON is no object: give it 'pixels' or 'strokes'")
    if set(document) == {"pixels"}:
        return _crop(document["pixels"])
    if "strokes" not in document or not set(document) <= _DRAWING:
        unknown = sorted(set(document) - _DRAWING - {"pixels"})
        mend = f"unknown: {', '.join(unknown)[:200]}" if unknown else "one of the two"
        raise ProblemError(422, f"the JSON needs 'pixels', or 'strokes' with their size ({mend})")
    missing = sorted(_DRAWING - set(document))
    if missing:
        raise ProblemError(422, f"the JSON lacks {', '.join(missing)}")
    check_count(document["strokes"])  # now, because a request may have to wait for a place
    return partial(draw_strokes, **document)


async def asked_picture(request: Request) -> Picture:
    """Takes a picture's bytes from a body: as it is, or as a form's field.

    Nothing is written to the disk.

    Raises:
        ProblemError: the body is something else.
    """
    kind = _media_type(request)
    if kind == "multipart/form-data":
        content = await _form_file(request)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        content = await request.body()
    else:
        raise ProblemError(
            415, f"{kind or 'a body without a type'} is not read: {_KINDS}", {"Accept": "image/*"}
        )
    if not content:
        raise ProblemError(422, "the picture is empty")
    if content[:5] == b"%PDF-":
        raise ProblemError(415, "a PDF is not read here: digitwise read FILE.pdf reads it")
    if _has_too_many_pages(content):
        raise ProblemError(422, f"the TIFF has more than {_MOST_PAGES:,} pages: split it")
    return lambda: content


def _media_type(request: Request) -> str:
    """Takes the type of a request's body, without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _has_too_many_pages(content: bytes) -> bool:
    """Return whether a file is a TIFF whose chain of pages is too long, or endless."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return False
    try:
        (version,) = struct.unpack_from(f"{order}H", content, 2)
        start, count, entry, link = {42: (4, "H", 12, "I"), 43: (8, "Q", 20, "Q")}[version]
        (page,) = struct.unpack_from(order + link, content, start)
        for _ in range(_MOST_PAGES):
            if not page:
                return False
            (entries,) = struct.unpack_from(order + count, content, page)
            end = page + struct.calcsize(f"={count}") + entry * entries
            (page,) = struct.unpack_from(order + link, content, end)
    except (KeyError, IndexError, OverflowError, struct.error):
        return False  # not a TIFF, or a damaged one, which the decoder refuses
    return bool(page)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object from JSON, and refuse duplicate keys."""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a key is given twice")
    return document


def _crop(pixels: Any) -> Crop:
    """Checks 28×28 pixels from JSON."""
    try:
        array = np.array(pixels)
    except (ValueError, OverflowError) as error:
        raise ProblemError(422, _PIXELS) from error
    if array.shape != (28, 28) or array.dtype.kind not in "iu":
        raise ProblemError(422, _PIXELS)
    if array.min() < 0 or array.max() > 255:
        raise ProblemError(422, _PIXELS)
    crop = array.astype(np.uint8)
    if is_dark_on_light(crop[np.newaxis]):
        raise ProblemError(422, f"{_PIXELS}: these have dark ink, send 255 minus each value")
    return crop


async def _form_file(request: Request) -> bytes:
    """Takes the picture from a form, in memory all the while."""
    parser = MultiPartParser(request.headers, request.stream(), max_files=1, max_fields=8)
    parser.spool_max_size = 2**62  # bytes that it keeps in memory; what comes in is bounded
    try:
        form = await parser.parse()
    except (MultiPartException, HTTPException, KeyError, ValueError, UnicodeError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise ProblemError(422, f"the form cannot be read: {reason}") from error
    try:
        file = form.get(FILE_FIELD)
        if not isinstance(file, UploadFile):
            raise ProblemError(422, f"the form has no file in the field '{FILE_FIELD}'")
        return await file.read()
    finally:
        await form.close()

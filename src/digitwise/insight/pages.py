"""HTML pages that need nothing from elsewhere: the style in them, pictures as data."""

import base64
import html
import io
from typing import TYPE_CHECKING

import cv2
import numpy as np
from jaxtyping import UInt8

from digitwise.messages import printable
from digitwise.storage import MARK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #1b1f27; background: #fff; }
h2 { border-top: 1px solid #d1d5db; padding-top: 1rem; margin-top: 2.5rem; }
figure { margin: 0; } figcaption, .aside { color: #4b5563; font-size: .9rem; }
img { max-width: 100%; height: auto; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr));
  gap: 1.5rem; }
@media print { body { margin: 0; max-width: none; } figure, tr { break-inside: avoid; } }
"""


def page(title: str, body: str, style: str = "") -> str:
    """Makes a page of what stands in it.

    Args:
        title: its title, as text.
        body: its content, as HTML.
        style: CSS besides what all pages have.
    """
    return printable(
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="generator" content="{MARK}">'
        f"<title>{html.escape(title)}</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><style>{_STYLE}{style}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n"
    )


def figure(source: str, caption: str, *, opens: bool = False) -> str:
    """Shows a picture with its caption.

    Args:
        source: a file's name, or a data address.
        caption: as text.
        opens: whether a click opens the picture by itself.
    """
    source, caption = html.escape(source), html.escape(caption)
    picture = f'<img src="{source}" alt="{caption}">'
    if opens:
        picture = f'<a href="{source}">{picture}</a>'
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>"


def picture_data(pixels: UInt8[np.ndarray, "h w"]) -> str:
    """Gives a picture as a data address, to stand where a file's name would."""
    return _data(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes())


def figure_data(drawn: "Figure") -> str:
    """Gives a matplotlib figure as a data address, in 256 colors."""
    from PIL import Image

    from digitwise.insight import figures

    whole, small = io.BytesIO(), io.BytesIO()
    drawn.savefig(whole, format="png", dpi=figures.DPI)
    Image.open(whole).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        small, "PNG", optimize=True
    )
    return _data(small.getvalue())


def _data(png: bytes) -> str:
    """Words a PNG as a data address."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"

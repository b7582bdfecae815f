"""The sheet of paper in a picture that shows what it lies on, too."""

import itertools
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

_SMALL_SIDE = 220  # pixels of the shorter side on which paper is looked at
_EVEN = 6  # grey values by which the margin of evenly lit paper varies
_LEAST_SIDE = 150  # pixels of a picture that may show more than paper
_STROKES = 0.04  # of the shorter side: what is narrower is smoothed away
_WEAK_EDGES = (7, 14, 28)  # Sobel's gradient, about four times the step in grey values
_STRONG = 3  # times as strong: what a weak edge has to hang together with
_GAPS = (13, 7, 3)  # pixels of an edge that may be missing
_LEAST_SHEET = 0.12  # of the picture
_WHOLE = 0.97  # of the picture: there is nothing around the paper
_ONE_REGION = 0.9  # of the picture, which is all paper
_SOLID = (0.97, 0.95)  # of its hull that a sheet fills, tried in turn
_CLOSE, _FAR = 4, 12  # pixels of the small picture from a sheet's edge, inward and outward
_SHARP, _MOSTLY = 0.6, 0.7  # of the step farther away; of the edge
_SAME, _MOST_SAME = 10, 0.25  # grey values; of what is around a sheet
_MOSTLY_EVEN = 0.75  # of a sheet that bears no edge; a 0's stroke around its inside is less
_MARGIN = 3  # of the small picture's pixels, at the sheet's edge, that are left out


@dataclass(frozen=True)
class Sheet:
    """Paper, or several pieces of it, on something else.

    Attributes:
        place: the rows and columns of the picture in which it lies.
        planes: that part of the picture, the paper continued over what is around it.
        inside: where the paper is.
    """

    place: tuple[slice, slice]
    planes: UInt8[np.ndarray, "..."]
    inside: Bool[np.ndarray, "h w"]


def find_sheet(planes: UInt8[np.ndarray, "..."], small: UInt8[np.ndarray, "..."]) -> Sheet | None:
    """Finds sheets of paper: even, convex regions with sharp edges, and something else around them.

    A region ends where the picture changes sharply, so that soft shadows do not part it. Where all
    that is large is convex there is nothing to leave out: a strip beside it may be a shadow.

    Args:
        planes: a picture, (h, w) grey or (h, w, 3) RGB.
        small: the same, shrunken.

    Returns:
        None where all of the picture may be written on.
    """
    if min(planes.shape[:2]) < _LEAST_SIDE:
        return None
    margin = even_margin(small)
    if margin is not None and _share_of(small, margin, _EVEN) > 1 - _LEAST_SHEET:
        return None
    calm = cv2.medianBlur(small, round(min(small.shape[:2]) * _STROKES) // 2 * 2 + 1)
    sheet = _sheets(calm)
    if sheet is None:
        return None
    height, width = planes.shape[:2]
    scale_x, scale_y = width / small.shape[1], height / small.shape[0]
    x, y, w, h = cv2.boundingRect(sheet)
    rows = slice(int(y * scale_y), min(height, round((y + h) * scale_y)))
    columns = slice(int(x * scale_x), min(width, round((x + w) * scale_x)))
    size = columns.stop - columns.start, rows.stop - rows.start
    near = np.s_[y : y + h, x : x + w]
    inside = cv2.resize(sheet[near], size, interpolation=cv2.INTER_NEAREST) > 0
    around = cv2.resize(_continued(calm, sheet)[near], size, interpolation=cv2.INTER_LINEAR)
    seen = inside if planes.ndim == 2 else inside[..., np.newaxis]
    return Sheet((rows, columns), np.where(seen, planes[rows, columns], around), inside)


def shrink(planes: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Brings a picture's shorter side down to the pixels on which paper is looked at."""
    height, width = planes.shape[:2]
    scale = min(1.0, _SMALL_SIDE / min(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 0.5:  # exact halves are several times as fast as other scales
        planes = cv2.resize(planes, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(planes, size, interpolation=cv2.INTER_AREA)


def even_margin(small: UInt8[np.ndarray, "..."]) -> np.ndarray | None:
    """Takes the color of a page's margin where all of the paper has it, else None."""
    edge = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    typical = np.asarray(np.median(edge, axis=0))
    if min(small.shape[:2]) < 64:
        return typical
    varies = float(np.quantile(np.abs(edge - typical), 0.8))
    alike = _share_of(small, typical, 3 * _EVEN)
    return typical if varies < _EVEN and alike > 0.6 else None


def _share_of(small: UInt8[np.ndarray, "..."], color: np.ndarray, off: int) -> float:
    """Tells how much of a picture has a color, give or take some grey values."""
    return float((np.abs(small.astype(np.float32) - color) < off).mean())


def _sheets(calm: UInt8[np.ndarray, "..."]) -> UInt8[np.ndarray, "h w"] | None:
    """Finds the sheets in a small picture without strokes: 1 on them, 0 around."""
    partings = []
    for weak, gap in itertools.product(_WEAK_EDGES, _GAPS):
        edges = cv2.Canny(calm, weak, _STRONG * weak, L2gradient=True)
        regions = _large_regions(cv2.bitwise_not(cv2.dilate(edges, np.ones((gap, gap), np.uint8))))
        if len(regions) == 1 and regions[0].mean() > _ONE_REGION:
            break  # with fewer and thinner edges it is still one
        partings.append((regions, gap // 2))
    for solid in _SOLID:
        found = [_convex(regions, solid, grow, calm) for regions, grow in partings]
        sheets = max(found, key=lambda one: 0 if one is None else int(one.sum()), default=None)
        if sheets is not None:
            return sheets if _differs(calm, sheets) else None
    return None


def _large_regions(even: UInt8[np.ndarray, "h w"]) -> list[UInt8[np.ndarray, "h w"]]:
    """Parts what lies between edges, and keeps what is large enough for a sheet."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(even, connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return [
        (labels == number).view(np.uint8)
        for number in 1 + np.flatnonzero(areas > _LEAST_SHEET * even.size)
    ]


def _convex(
    regions: list[UInt8[np.ndarray, "h w"]],
    solid: float,
    grow: int,
    calm: UInt8[np.ndarray, "..."],
) -> UInt8[np.ndarray, "h w"] | None:
    """Joins the regions that are convex, holes that writing left in them filled.

    Args:
        regions: what may be paper, less some pixels on all sides.
        solid: how much of its hull a region fills at least.
        grow: how many pixels.
        calm: the picture.

    Returns:
        Them less their margin; None where there are none or they leave nothing out.
    """
    sheets = np.zeros_like(regions[0]) if regions else np.zeros((1, 1), np.uint8)
    for region in regions:
        outline, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        own = cv2.drawContours(np.zeros_like(region), outline, 0, 1, -1)
        for other in regions:
            if other is not region:
                own &= 1 - other
        hull = cv2.fillConvexPoly(np.zeros_like(region), cv2.convexHull(outline[0]), 1)
        if own.sum() > solid * hull.sum() and region.sum() > _MOSTLY_EVEN * hull.sum():
            if not _is_sharp(calm, cv2.dilate(hull, np.ones((2 * grow + 1,) * 2, np.uint8))):
                return None
            sheets |= hull
    if not 0 < sheets.mean() < _WHOLE:
        return None
    margin = _MARGIN - grow
    if margin < 0:
        return cv2.dilate(sheets, np.ones((1 - 2 * margin,) * 2, np.uint8))
    return cv2.erode(sheets, np.ones((2 * margin + 1,) * 2, np.uint8))


def _differs(calm: UInt8[np.ndarray, "..."], sheets: UInt8[np.ndarray, "h w"]) -> bool:
    """Tells sheets from the inside of a large 0, around which is its stroke, then paper again."""
    colors = calm.reshape(*sheets.shape, -1).astype(int)
    usual = np.median(colors[sheets > 0], axis=0)
    off = np.abs(colors[sheets == 0] - usual).max(axis=1)
    return bool((off < _SAME).mean() < _MOST_SAME)


def _is_sharp(calm: UInt8[np.ndarray, "..."], sheet: UInt8[np.ndarray, "h w"]) -> bool:
    """Tells a sheet's edge, as strong close by as farther away, from that of a shadow."""
    outline, _ = cv2.findContours(sheet, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    points = outline[0].reshape(-1, 2)
    soft = cv2.GaussianBlur(sheet.astype(np.float32), (0, 0), _CLOSE)
    slopes = np.stack([cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1)], -1)
    inward = slopes[points[:, 1], points[:, 0]]
    inward /= np.maximum(np.linalg.norm(inward, axis=1, keepdims=True), 1e-6)
    ends = np.round(points + _FAR * np.stack([inward, -inward])).astype(int)
    seen = ((ends >= 0) & (ends < sheet.shape[::-1])).all(axis=(0, 2))
    points, inward = points[seen], inward[seen]
    if not len(points):
        return False
    colors = calm.reshape(*sheet.shape, -1).astype(int)
    steps = []
    for away in (_CLOSE, _FAR):
        x, y = np.round(points + away * np.stack([inward, -inward])).astype(int).transpose(2, 0, 1)
        inner, outer = colors[y, x]
        steps.append(np.abs(inner - outer).max(axis=-1))
    return bool((steps[0] > _SHARP * steps[1]).mean() > _MOSTLY)


def _continued(
    calm: UInt8[np.ndarray, "..."], sheet: UInt8[np.ndarray, "h w"]
) -> UInt8[np.ndarray, "..."]:
    """Continues paper over what is around it: each pixel like the nearest one well inside."""
    framed = cv2.copyMakeBorder(sheet, *(1,) * 4, cv2.BORDER_REPLICATE)
    inner = cv2.erode(framed, np.ones((3, 3), np.uint8), iterations=_MARGIN)[1:-1, 1:-1]
    _, labels = cv2.distanceTransformWithLabels(
        1 - inner, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(labels.max() + 1, np.intp)
    nearest[labels[inner > 0]] = np.flatnonzero(inner)
    return calm.reshape(inner.size, -1)[nearest[labels]].reshape(calm.shape)

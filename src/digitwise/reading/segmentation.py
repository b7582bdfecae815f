"""Pixels → ink → connected pieces of it, with what helps to put them in lines."""

import itertools
import math
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

_SMALL_SIDE = 220  # pixels of the shorter side on which the paper is estimated
_STROKE = 0.1  # of the shorter side: wider than most strokes
_PAPER_WINDOW = 0.33  # of the shorter side: wider than any stroke
_EVEN = 6  # grey values by which the margin of evenly lit paper varies
_NEAR_WINDOW = 0.17  # of the shorter side: in which a stroke is the lesser part
_NO_SHADOW = 0.5  # darkness that no shadow has
_LEAST_CONTRAST = 0.07  # of the paper's brightness
_NOISE_FACTOR = 5.0
_EDGE_MARGIN = 0.06  # of the shorter side, around what lies beyond the paper
_NOISY = 0.025  # of the paper's brightness: from there on it is smoothed
_MOST_PIECES = 600
_FILLED = 0.72  # of its box: a disk has 0.785; of MNIST's digits one in a thousand has 0.65
_LEAST_FRAME = 16  # pixels of a frame's shorter side
_THICKEST_RULE, _THICKEST_FRAME = 40, 7  # how many times as long as thick
_FRAME_COVERS = 0.9  # of each side of its box
SOLID = 100  # of 255: ink that a cut goes through


@dataclass(frozen=True)
class Ink:
    """Where a page is written on.

    Attributes:
        strength: how much each pixel is ink, 0 to 255.
        mask: which pixels are.
    """

    strength: UInt8[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class Piece:
    """Some connected ink.

    Attributes:
        x: of its box's left side, in pixels.
        y: of its box's upper side.
        ink: its strength in the box, 0 where the ink is another's.
    """

    x: int
    y: int
    ink: UInt8[np.ndarray, "h w"]

    @property
    def width(self) -> int:
        """Of the box, in pixels."""
        return int(self.ink.shape[1])

    @property
    def height(self) -> int:
        """Of the box, in pixels."""
        return int(self.ink.shape[0])

    @property
    def right(self) -> int:
        """The first column after the box."""
        return self.x + self.width

    @property
    def bottom(self) -> int:
        """The first row after the box."""
        return self.y + self.height

    @property
    def center(self) -> tuple[float, float]:
        """The middle of the box."""
        return self.x + self.width / 2, self.y + self.height / 2


def find_ink(pixels: UInt8[np.ndarray, "h w 3"]) -> Ink:
    """Tells ink from paper, dark on light or light on dark, under uneven light.

    Ink is what differs from the paper around it, relative to the light that falls there, in
    whichever channel differs most. The threshold is Otsu's (1979), over what rises above the noise.
    """
    contrast = _contrast(pixels)
    noise = _noise(contrast)
    if noise > _NOISY and min(contrast.shape) > 300:
        contrast = cv2.GaussianBlur(contrast, (0, 0), min(2.0, 0.8 + 8 * noise))
        noise = _noise(contrast)
    floor = max(_LEAST_CONTRAST, _NOISE_FACTOR * noise)
    candidates = contrast[contrast > floor * 0.6]
    if candidates.size < 8 or float(candidates.max()) < floor:
        return Ink(np.zeros(contrast.shape, np.uint8), np.zeros(contrast.shape, bool))
    level = float(np.quantile(candidates, 0.98))
    threshold = max(floor, 0.9 * _otsu(candidates), 0.3 * level)
    strength = np.clip(contrast * (255 / level), 0, 255).astype(np.uint8)
    return Ink(strength, _hysteresis(contrast, 0.62 * threshold, threshold))


def _noise(contrast: Float32[np.ndarray, "h w"]) -> float:
    """Estimates how much bare paper varies, as a standard deviation."""
    rough = contrast[::3, ::3]
    fine = np.abs(rough - cv2.medianBlur(rough, 3))
    return (
        max(1.4826 * float(np.median(np.abs(rough - np.median(rough)))), float(fine.mean())) + 1e-4
    )


def _contrast(pixels: UInt8[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w"]:
    """Measures how much darker each pixel is than its paper, from 0 to 1.

    A light-on-dark page is inverted first. The paper is estimated twice: close by, which follows
    shadows; and at large, which sees strokes that are wide for the page, but only where they
    are so dark that no shadow is.
    """
    short = min(pixels.shape[:2])
    if short > 500:
        pixels = cv2.GaussianBlur(pixels, (3, 3), 0.8)
    if _is_light_on_dark(pixels):
        pixels = 255 - pixels
    near, wide = (_darkness(pixels, paper) for paper in _papers(pixels))
    near -= np.median(near[::4, ::4])
    wide[wide <= _NO_SHADOW] = 0
    return np.clip(cv2.max(near, wide), 0, 1)


def _darkness(
    pixels: UInt8[np.ndarray, "h w 3"], paper: UInt8[np.ndarray, "h w 3"]
) -> Float32[np.ndarray, "h w"]:
    """Compares each pixel with its paper, in the channel that differs most."""
    little = (8, 8, 8, 0)  # light everywhere, so that black paper has no noise
    share = cv2.divide(cv2.add(pixels, little), cv2.add(paper, little), scale=200)
    red, green, blue = cv2.split(share)
    least = cv2.min(cv2.min(red, green), blue)
    return cv2.addWeighted(least, -1 / 200, least, 0, 1, dtype=cv2.CV_32F)


def _is_light_on_dark(pixels: UInt8[np.ndarray, "h w 3"]) -> bool:
    """Tells the polarity from what stands out of its surroundings: the darker or the lighter."""
    small = _shrink(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), _SMALL_SIDE)
    around = _even_margin(small)
    if around is None:
        around = cv2.medianBlur(small, round(min(small.shape) * _NEAR_WINDOW) // 2 * 2 + 1)
    difference = small.astype(np.float32) - np.float32(around)
    difference[np.abs(difference) < 10] = 0
    darker, lighter = (np.square(np.minimum(side, 0)).sum() for side in (difference, -difference))
    return bool(lighter > 1.2 * darker)


def _papers(
    pixels: UInt8[np.ndarray, "h w 3"],
) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w 3"]]:
    """Estimates the paper's color under every pixel: close by, and at large."""
    small = _shrink(pixels, _SMALL_SIDE)
    short = min(small.shape[:2])
    closed = cv2.morphologyEx(
        small, cv2.MORPH_CLOSE, _disk(_STROKE * short), borderType=cv2.BORDER_REPLICATE
    )
    near = cv2.GaussianBlur(closed, (0, 0), max(0.5, _STROKE * short / 3))
    margin = _even_margin(small)
    if margin is None:
        wide = cv2.medianBlur(small, max(3, round(short * _PAPER_WINDOW) // 2 * 2 + 1))
    else:
        wide = np.broadcast_to(margin.astype(np.uint8), small.shape)
    size = pixels.shape[1::-1]
    enlarged = [
        cv2.resize(np.ascontiguousarray(paper), size, interpolation=cv2.INTER_LINEAR)
        for paper in (near, wide)
    ]
    return enlarged[0], enlarged[1]


def _even_margin(small: UInt8[np.ndarray, "..."]) -> np.ndarray | None:
    """Takes the color of a page's margin where all of the paper has it, else None."""
    edge = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    typical = np.median(edge, axis=0)
    if min(small.shape[:2]) < 64:
        return np.asarray(typical)
    varies = float(np.quantile(np.abs(edge - typical), 0.8))
    alike = float((np.abs(small.astype(np.float32) - typical) < 3 * _EVEN).mean())
    return np.asarray(typical) if varies < _EVEN and alike > 0.6 else None


def _shrink(pixels: UInt8[np.ndarray, "..."], short: int) -> UInt8[np.ndarray, "..."]:
    """Brings a page's shorter side down to some pixels."""
    height, width = pixels.shape[:2]
    scale = min(1.0, short / min(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def _disk(diameter: float) -> UInt8[np.ndarray, "k k"]:
    """Makes a round kernel of an odd diameter."""
    side = max(3, round(diameter) // 2 * 2 + 1)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _otsu(values: Float32[np.ndarray, " n"]) -> float:
    """Parts values in two so that each part varies the least (Otsu, 1979)."""
    counts, edges = np.histogram(values, 128)
    middles = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(middles[int(np.nanargmax(between))])


def _hysteresis(
    values: Float32[np.ndarray, "h w"], low: float, high: float
) -> Bool[np.ndarray, "h w"]:
    """Keeps what lies above `low` and hangs together with something above `high`."""
    weak = (values > low).astype(np.uint8)
    count, labels = cv2.connectedComponents(weak, connectivity=8)
    strong = np.zeros(count, bool)
    strong[np.unique(labels[values > high])] = True
    strong[0] = False
    return strong[labels]


def remove_rules(ink: Ink) -> Ink:
    """Takes ruled and squared lines out of upright ink, and mends the strokes they crossed."""
    height, width = ink.mask.shape
    mask = ink.mask.astype(np.uint8)
    cleaned = mask.copy()
    for across in (True, False):
        length = max(40, round((width if across else height) * 0.25))
        if length >= (width if across else height):
            continue
        lines = _straight_runs(mask, across, length)
        if not lines.any():
            continue
        lines = _thin_parts(lines & mask, across, _THICKEST_RULE)
        cleaned[lines > 0] = 0
        mend = np.ones((7, 1) if across else (1, 7), np.uint8)
        cleaned |= cv2.morphologyEx(cleaned, cv2.MORPH_CLOSE, mend) & mask
    return Ink(np.where(cleaned > 0, ink.strength, 0).astype(np.uint8), cleaned > 0)


def remove_frames(ink: Ink) -> Ink:
    """Takes the boxes of a form out of upright ink, and mends the digits that they crossed.

    A frame is made of straight lines that hang together and run along all four sides of the box
    around them. Boxes that share their sides are one such frame.
    """
    mask = ink.mask.astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    cleaned = mask.copy()
    for number, (x, y, w, h, _) in enumerate(stats[1:].tolist(), 1):
        if min(w, h) < _LEAST_FRAME:
            continue
        place = np.s_[y : y + h, x : x + w]
        own = (labels[place] == number).astype(np.uint8)
        if not (_has_two_lines(own, 0) and _has_two_lines(own, 1)):
            continue
        frames = _frame_lines(own)
        if not frames.any():
            continue
        rest = own & ~cv2.dilate(frames, np.ones((3, 3), np.uint8))
        for mend in ((7, 1), (1, 7)):
            rest |= cv2.morphologyEx(rest, cv2.MORPH_CLOSE, np.ones(mend, np.uint8)) & own
        cleaned[place][own > 0] = rest[own > 0]
    return Ink(np.where(cleaned > 0, ink.strength, 0).astype(np.uint8), cleaned > 0)


def _has_two_lines(own: UInt8[np.ndarray, "h w"], axis: int) -> bool:
    """Tells quickly whether ink may have two long lines along an axis, well apart."""
    amount = cv2.blur(cv2.reduce(own, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32F), (3, 3)) * 3
    long = np.flatnonzero(amount > 0.6 * own.shape[axis])
    return len(long) > 1 and int(long[-1] - long[0]) > 0.4 * own.shape[1 - axis]


def _frame_lines(own: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Finds the straight lines of connected ink that belong to frames."""
    lines = np.zeros_like(own)
    length = max(_LEAST_FRAME // 2, round(0.5 * min(own.shape)))
    for across in (True, False):
        straight = _straight_runs(own, across, length) & own
        lines |= _thin_parts(straight, across, _THICKEST_FRAME)
    together = cv2.morphologyEx(lines, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    _, labels, stats, _ = cv2.connectedComponentsWithStats(together, connectivity=8)
    for number, (x, y, w, h, _) in enumerate(stats[1:].tolist(), 1):
        group = labels[y : y + h, x : x + w] == number
        if min(w, h) < _LEAST_FRAME or not _runs_around(group):
            lines[labels == number] = 0
    return lines


def _runs_around(own: Bool[np.ndarray, "h w"]) -> bool:
    """Tells whether ink runs along all four sides of its box."""
    height, width = own.shape
    y, x = max(3, height // 12), max(3, width // 12)
    above, below = own[:y].any(axis=0), own[-y:].any(axis=0)
    left, right = own[:, :x].any(axis=1), own[:, -x:].any(axis=1)
    return all(float(side.mean()) > _FRAME_COVERS for side in (above, below, left, right))


def _straight_runs(
    mask: UInt8[np.ndarray, "h w"], across: bool, length: int
) -> UInt8[np.ndarray, "h w"]:
    """Finds runs of ink of some length along rows or columns, also where they tilt a little."""
    thick, run = ((1, 3), (1, length)) if across else ((3, 1), (length, 1))
    joined = cv2.dilate(mask, np.ones(thick, np.uint8))
    return cv2.morphologyEx(joined, cv2.MORPH_OPEN, np.ones(run, np.uint8))


def _thin_parts(
    lines: UInt8[np.ndarray, "h w"], across: bool, slender: int
) -> UInt8[np.ndarray, "h w"]:
    """Keeps those long runs that are thin: a rule, not the side of a thick stroke.

    Args:
        lines: the runs.
        across: whether they lie, or else stand.
        slender: how many times as long as thick they are.
    """
    _, labels, stats, _ = cv2.connectedComponentsWithStats(lines, connectivity=8)
    extent = stats[:, cv2.CC_STAT_WIDTH if across else cv2.CC_STAT_HEIGHT]
    thickness = stats[:, cv2.CC_STAT_AREA] / np.maximum(extent, 1)
    thin = thickness <= extent / slender
    thin[0] = False
    return thin[labels].astype(np.uint8)


def find_pieces(ink: Ink) -> list[Piece]:
    """Lists the connected pieces of ink, the largest first; specks are left out."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(
        ink.mask.astype(np.uint8), connectivity=8
    )
    if count == 1:
        return []
    kept = list(range(1, count))
    tallest = float(np.quantile(stats[kept, cv2.CC_STAT_HEIGHT], 0.9))
    least = max(6.0, 0.004 * tallest * tallest)
    kept = [number for number in kept if stats[number, cv2.CC_STAT_AREA] >= least]
    kept = sorted(kept, key=lambda number: -int(stats[number, cv2.CC_STAT_AREA]))[:_MOST_PIECES]
    return [_cut_out(ink, labels, stats[number], number) for number in kept]


def clear_border(ink: Ink, page: Ink) -> Ink:
    """Takes away the paper's edge and what lies beyond it, which no writing hugs.

    Args:
        ink: what is to be cleared, its rules removed.
        page: the same with its rules, since the paper's edge may look like one.
    """
    height, width = ink.mask.shape
    inner = _inner(width, height)
    beyond = np.zeros(ink.mask.shape, np.uint8)
    for mask in (ink.mask, page.mask):
        count, labels, stats, _ = cv2.connectedComponentsWithStats(
            mask.astype(np.uint8), connectivity=8
        )
        edges = [set(np.unique(line)) - {0} for line in _edges(labels)]
        outside = [
            number
            for number in sorted(set().union(*edges))
            if _hugs_edge(stats[number], [number in edge for edge in edges], width, height)
        ]
        if mask is page.mask:  # rules cross the page; its edge does not
            amount = np.bincount(labels[inner].ravel(), minlength=count)
            outside = [n for n in outside if amount[n] < 0.3 * stats[n, cv2.CC_STAT_AREA]]
        elif len(outside) == count - 1:
            return ink
        beyond |= np.isin(labels, outside).astype(np.uint8)
    if not beyond.any():
        return ink
    labels = cv2.connectedComponents(ink.mask.astype(np.uint8), connectivity=8)[1]
    near = cv2.dilate(beyond, _disk(_EDGE_MARGIN * min(width, height)))
    near[inner] = 0
    dropped = np.unique(labels[(near | beyond) > 0])
    kept = ink.mask & ~np.isin(labels, dropped[dropped > 0])
    return Ink(np.where(kept | (labels == 0), ink.strength, 0).astype(np.uint8), kept)


def _edges(labels: np.ndarray) -> list[np.ndarray]:
    """Returns the outermost two rows and columns: top, bottom, left, right."""
    return [labels[:2], labels[-2:], labels[:, :2], labels[:, -2:]]


def _inner(width: int, height: int) -> tuple[slice, slice]:
    """Returns what is far from the picture's edge."""
    margin = max(3, round(0.08 * min(width, height)))
    return slice(margin, height - margin), slice(margin, width - margin)


def _hugs_edge(stats: np.ndarray, touches: list[bool], width: int, height: int) -> bool:
    """Tells the edge of the paper, a shadow or a table from a digit that was cropped tightly."""
    w, h = int(stats[cv2.CC_STAT_WIDTH]), int(stats[cv2.CC_STAT_HEIGHT])
    along_row, along_column = touches[0] or touches[1], touches[2] or touches[3]
    if along_row and along_column:
        return True
    if along_row:
        return w > 2 * h or w > 0.5 * width or h > 0.95 * height
    return h > 3.5 * w or h > 0.5 * height or w > 0.95 * width


def _cut_out(ink: Ink, labels: np.ndarray, stats: np.ndarray, number: int) -> Piece:
    """Takes one piece with the soft edge around it."""
    height, width = labels.shape
    x, y, w, h = (int(value) for value in stats[:4])
    left, top = max(0, x - 1), max(0, y - 1)
    right, bottom = min(width, x + w + 1), min(height, y + h + 1)
    around = labels[top:bottom, left:right]
    own = cv2.dilate((around == number).astype(np.uint8), np.ones((3, 3), np.uint8))
    soft = np.where((own > 0) & ((around == number) | (around == 0)), 1, 0)
    return Piece(left, top, (ink.strength[top:bottom, left:right] * soft).astype(np.uint8))


def without_fixtures(pieces: list[Piece]) -> list[Piece]:
    """Leaves out what is no writing: boxes of a form around other pieces, and punched holes."""
    if not pieces:
        return []
    usual = float(np.median([piece.height for piece in pieces]))
    return [piece for piece in pieces if not (_is_frame(piece, pieces) or _is_hole(piece, usual))]


def _is_hole(piece: Piece, usual: float) -> bool:
    """Tells a punched hole from a point: a filled disk about as large as the writing."""
    if piece.height < 0.4 * usual or not 0.8 < piece.width / piece.height < 1.25:
        return False
    solid = cv2.compare(piece.ink, SOLID, cv2.CMP_GT)
    x, y, width, height = cv2.boundingRect(solid)
    if not width:
        return False
    own = solid[y : y + height, x : x + width] > 0
    corner = max(1, min(width, height) // 9)
    corners = (
        own[:corner, :corner],
        own[:corner, -corner:],
        own[-corner:, :corner],
        own[-corner:, -corner:],
    )
    return bool(own.mean() > _FILLED and np.mean(corners) < 0.2)


def _is_frame(piece: Piece, pieces: list[Piece]) -> bool:
    """Tells a drawn box from a digit: little ink, at its edges, and something inside."""
    if piece.width < 12 or piece.height < 12:
        return False
    ink = piece.ink > 60
    if ink.mean() > 0.45:
        return False
    margin_x, margin_y = max(2, piece.width // 6), max(2, piece.height // 6)
    inside = ink[margin_y:-margin_y, margin_x:-margin_x]
    straight = max(ink[:, :margin_x].sum(axis=0).max(), ink[:, -margin_x:].sum(axis=0).max())
    level = max(ink[:margin_y].sum(axis=1).max(), ink[-margin_y:].sum(axis=1).max())
    if straight > 0.8 * piece.height and level > 0.8 * piece.width and inside.mean() < 0.3:
        return any(other is not piece and _contains(piece, other) for other in pieces) or (
            float(inside.mean()) < 0.02
        )
    return False


def _contains(outer: Piece, inner: Piece) -> bool:
    """Tells whether one box lies within another."""
    return (
        outer.x <= inner.x
        and outer.y <= inner.y
        and inner.right <= outer.right
        and inner.bottom <= outer.bottom
        and inner.height >= 0.2 * outer.height
    )


def union(pieces: list[Piece]) -> Piece:
    """Joins pieces into one."""
    x, y = min(piece.x for piece in pieces), min(piece.y for piece in pieces)
    right = max(piece.right for piece in pieces)
    bottom = max(piece.bottom for piece in pieces)
    field = np.zeros((bottom - y, right - x), np.uint8)
    for piece in pieces:
        region = field[piece.y - y : piece.bottom - y, piece.x - x : piece.right - x]
        np.maximum(region, piece.ink, out=region)
    return Piece(x, y, field)


def find_cuts(piece: Piece, per_height: int, most: int) -> list[int]:
    """Proposes where to cut a piece: where little ink stands above another, evenly besides.

    Args:
        piece: what to cut.
        per_height: cuts on as much width as the piece is high.
        most: how many are proposed at the most.

    Returns:
        Columns, from left to right, the piece's sides included.
    """
    height, width = piece.ink.shape
    ink = (piece.ink > SOLID).sum(axis=0)
    count = min(most, max(3, round(per_height * width / max(1, height))))
    chosen = {0, width}
    for left, right in itertools.pairwise(np.linspace(0, width, count + 1)):
        start, end = max(2, int(left)), min(width - 2, max(int(right), int(left) + 1))
        if end > start:
            chosen.add(start + int(ink[start:end].argmin()))
    return sorted(chosen)


def columns_of(piece: Piece, start: int, end: int) -> Piece:
    """Cuts a piece from one column to another, and its empty rows away."""
    part = piece.ink[:, start:end]
    rows = np.flatnonzero((part > 60).any(axis=1))
    if not len(rows):
        return Piece(piece.x + start, piece.y, part)
    return Piece(piece.x + start, piece.y + int(rows[0]), part[rows[0] : rows[-1] + 1])


def rotation(
    width: int, height: int, degrees: float
) -> tuple[Float32[np.ndarray, "2 3"], int, int]:
    """Plans to turn a page against the clock so that all of it stays in sight.

    Returns:
        The affine map from the page to the turned page, and the turned page's width and height.
    """
    angle = math.radians(degrees)
    cosine, sine = abs(math.cos(angle)), abs(math.sin(angle))
    new_width = math.ceil(width * cosine + height * sine - 1e-6)
    new_height = math.ceil(width * sine + height * cosine - 1e-6)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    matrix[:, 2] += [(new_width - width) / 2, (new_height - height) / 2]
    return matrix.astype(np.float32), new_width, new_height


def turn(ink: Ink, degrees: float) -> Ink:
    """Turns ink against the clock."""
    if degrees % 90 == 0:
        quarters = round(degrees / 90) % 4
        return Ink(
            np.ascontiguousarray(np.rot90(ink.strength, quarters)),
            np.ascontiguousarray(np.rot90(ink.mask, quarters)),
        )
    height, width = ink.mask.shape
    matrix, new_width, new_height = rotation(width, height, degrees)
    size = (new_width, new_height)
    strength = cv2.warpAffine(ink.strength, matrix, size, flags=cv2.INTER_LINEAR)
    mask = cv2.warpAffine(ink.mask.astype(np.uint8) * 255, matrix, size, flags=cv2.INTER_LINEAR)
    return Ink(strength, mask > 127)


def turned_patch(piece: Piece, degrees: float) -> UInt8[np.ndarray, "h w"]:
    """Turns one piece alone against the clock."""
    return turn(Ink(piece.ink, piece.ink > 0), degrees).strength

"""Pixels → ink → connected pieces of it, with what helps to put them in lines."""

import itertools
import math
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from digitwise.reading.sheet import even_margin, find_sheet, shrink

_STROKE = 0.1  # of the shorter side: wider than most strokes
_PAPER_WINDOW = 0.33  # of the shorter side: wider than any stroke
_SURROUNDINGS = (0.25, 0.05, 0.04)  # of the shorter side: in which a stroke is the lesser part
_DISTINCT = 9  # grey values from which something stands out
_LITTLE = 50.0  # squared grey values in all, which say nothing of the polarity
_ALIKE = 2  # grey values by which the two estimates of even paper differ
_NO_SHADOW = 0.5  # darkness that no shadow has
_LEAST_CONTRAST = 0.07  # of the paper's brightness
_NOISE_FACTOR = 5.0
_FULL = 255  # contrast of black ink on white paper, as a grey value
_LEAST_PAGE = 150  # pixels of the shorter side from which there may be something around paper
_LARGE = 0.002  # of the picture, from which it is that
_EDGE_MARGIN = 0.06  # of the shorter side, around what lies beyond the paper
_NOISY = 0.025  # of the paper's brightness: from there on it is smoothed
_MOST_PIECES = 20_000  # a page of the working size has no room for more digits
_FILLED = 0.72  # of its box: a disk has 0.785; of MNIST's digits one in a thousand has 0.65
_HOLLOW = 0.8  # of a disk's ink, above which its middle is: a blurred 0 is fainter there
_LEAST_FRAME = 16  # pixels of a frame's shorter side
_THICKEST_RULE, _THICKEST_FRAME = 40, 7  # how many times as long as thick
_FRAME_COVERS = 0.9  # of each side of its box
_FRAME_SIDE = 0.7  # of connected ink that a frame is part of, besides a digit that runs across it
_NEIGHBORS = np.ones((3, 3), np.uint8)
_THICKER = np.ones((1, 3), np.uint8), np.ones((3, 1), np.uint8)  # across columns, across rows
SOLID = 100  # of 255: ink that a cut goes through


@dataclass
class Skipped:
    """Counts of what was skipped on a page with too much ink to read in reasonable time.

    Attributes:
        pieces: connected pieces of ink that were ignored.
        unsplit: pieces that may be touching digits and were not split.
    """

    pieces: int = 0
    unsplit: int = 0

    @property
    def notice(self) -> str | None:
        """One line about what was skipped; None if nothing was."""
        parts = []
        if self.pieces:
            parts.append(f"{self.pieces:,} of the smallest pieces of ink were not read")
        if self.unsplit:
            parts.append(f"{self.unsplit:,} shapes were not checked for touching digits")
        return f"too much ink: {' and '.join(parts)}" if parts else None


Components = tuple[Int32[np.ndarray, "h w"], Int32[np.ndarray, "count 5"]]


@dataclass(frozen=True)
class Ink:
    """Where a page is written on.

    Attributes:
        strength: how much each pixel is ink, 0 to 255.
        mask: which pixels are.
        connected: the components, where they are known.
    """

    strength: UInt8[np.ndarray, "h w"]
    mask: Bool[np.ndarray, "h w"]
    connected: Components | None = field(default=None, repr=False)

    @cached_property
    def components(self) -> Components:
        """Which connected piece each pixel belongs to, 0 for none; OpenCV's measures of each."""
        return self.connected or _components(self.mask)

    def only(self, mask: Bool[np.ndarray, "h w"]) -> "Ink":
        """Keeps of the ink what is in a mask, and the soft edges around it."""
        kept = (mask | ~self.mask).view(np.uint8)
        return Ink(cv2.bitwise_and(self.strength, self.strength, mask=kept), mask)


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

    @cached_property
    def width(self) -> int:
        """Of the box, in pixels."""
        return int(self.ink.shape[1])

    @cached_property
    def height(self) -> int:
        """Of the box, in pixels."""
        return int(self.ink.shape[0])

    @cached_property
    def right(self) -> int:
        """The first column after the box."""
        return self.x + self.width

    @cached_property
    def bottom(self) -> int:
        """The first row after the box."""
        return self.y + self.height

    @cached_property
    def center(self) -> tuple[float, float]:
        """The middle of the box."""
        return self.x + self.width / 2, self.y + self.height / 2


def find_ink(pixels: UInt8[np.ndarray, "h w 3"]) -> Ink:
    """Tells ink from paper, dark on light or light on dark, under uneven light.

    Ink is what differs from the paper around it, relative to the light that falls there, in
    whichever channel differs most. The threshold is Otsu's (1979), over what rises above the noise.
    Where the picture shows what the paper lies on, that is left out.
    """
    planes = _without_color(pixels)
    small = shrink(planes)
    sheet = find_sheet(planes, small)
    if sheet is None:
        return _ink_on_paper(planes, small)
    ink = _ink_on_paper(sheet.planes, shrink(sheet.planes))
    if not ink.mask[sheet.inside].any():  # nothing is written on it: it is itself the stroke of a 1
        return _ink_on_paper(planes, small)
    strength, mask = np.zeros(planes.shape[:2], np.uint8), np.zeros(planes.shape[:2], bool)
    strength[sheet.place] = np.where(sheet.inside, ink.strength, 0)
    mask[sheet.place] = ink.mask & sheet.inside
    return Ink(strength, mask)


def _ink_on_paper(planes: UInt8[np.ndarray, "..."], small: UInt8[np.ndarray, "..."]) -> Ink:
    """Tells ink from paper in a picture that shows nothing else; it is given small, too."""
    contrast = _contrast(planes, small)
    noise = _noise(contrast)
    if noise > _NOISY * _FULL and min(contrast.shape) > 300:
        blur = min(2.0, 0.8 + 8 * noise / _FULL)
        contrast = cv2.GaussianBlur(contrast, (0, 0), blur)
        noise = _noise(contrast)
    floor = max(_LEAST_CONTRAST * _FULL, _NOISE_FACTOR * noise)
    counts = _histogram(contrast)
    beyond = _beyond_paper(contrast > floor)
    if beyond is not None:
        counts -= _histogram(contrast, beyond)
    counts[: math.ceil(0.6 * floor)] = 0
    if counts.sum() < 8 or not counts[math.ceil(floor) :].any():
        return Ink(np.zeros(contrast.shape, np.uint8), np.zeros(contrast.shape, bool))
    level = _quantile(counts, 0.98)
    threshold = max(floor, 0.9 * _otsu(counts), 0.3 * level)
    strength = cv2.convertScaleAbs(contrast, alpha=255 / level)
    return Ink(strength, *_hysteresis(contrast, 0.62 * threshold, threshold))


def _beyond_paper(dark: Bool[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"] | None:
    """Finds the large dark parts of a picture at its edge: a table or a shadow, no measure of ink.

    Args:
        dark: what is darker than paper.

    Returns:
        Where they are; None where there are none, or nothing else.
    """
    height, width = dark.shape
    if min(height, width) < _LEAST_PAGE or not any(edge.any() for edge in _edges(dark)):
        return None
    thick = np.ones((2 * (min(height, width) // 200) + 1,) * 2, np.uint8)  # rules are thinner
    solid = cv2.morphologyEx(dark.view(np.uint8), cv2.MORPH_OPEN, thick)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(solid, connectivity=8)
    at_edge = np.zeros(len(stats), bool)
    at_edge[np.concatenate([edge.ravel() for edge in _edges(labels)])] = True
    at_edge &= stats[:, cv2.CC_STAT_AREA] > _LARGE * height * width
    at_edge[0] = False
    if not at_edge.any() or at_edge[1:].all():
        return None
    return at_edge[labels].view(np.uint8)


def _histogram(
    values: UInt8[np.ndarray, "h w"], where: UInt8[np.ndarray, "h w"] | None = None
) -> Float32[np.ndarray, "256"]:
    """Counts how often each value stands in a picture, or in a part of it."""
    return cv2.calcHist([values], [0], where, [256], [0, 256]).ravel()


def _quantile(counts: Float32[np.ndarray, "256"], share: float) -> float:
    """Finds the value below which a share of what was counted lies, also between whole values."""
    summed = np.concatenate([[0], np.cumsum(counts)])
    value = int(np.searchsorted(summed, share * summed[-1])) - 1
    return max(0.0, value - 0.5 + (share * summed[-1] - summed[value]) / max(1, counts[value]))


def _noise(contrast: UInt8[np.ndarray, "h w"]) -> float:
    """Estimates how much bare paper varies, as a standard deviation."""
    rough = np.ascontiguousarray(contrast[::3, ::3])
    fine = float(cv2.absdiff(rough, cv2.medianBlur(rough, 3)).mean())
    median = _quantile(_histogram(rough), 0.5)
    varies = _quantile(_histogram(cv2.absdiff(rough, np.full_like(rough, round(median)))), 0.5)
    return max(1.4826 * varies, fine, 0.02)


def _contrast(
    planes: UInt8[np.ndarray, "..."], small: UInt8[np.ndarray, "..."]
) -> UInt8[np.ndarray, "h w"]:
    """Measures how much darker each pixel is than its paper, from 0 to `_FULL`.

    A light-on-dark page is inverted first. The paper is estimated twice: close by, which follows
    shadows; and at large, which sees strokes that are wide for the page, but only where they
    are so dark that no shadow is.
    """
    if min(planes.shape[:2]) > 500:
        planes = cv2.GaussianBlur(planes, (3, 3), 0.8)
    if _is_light_on_dark(small):
        planes, small = cv2.bitwise_not(planes), cv2.bitwise_not(small)
    paper, wide_paper = _papers(small)
    near = _darkness(planes, paper)
    usual = np.uint8(_quantile(_histogram(np.ascontiguousarray(near[::4, ::4])), 0.5))
    near = cv2.subtract(near, np.full_like(near, usual)) if usual else near
    if cv2.absdiff(paper, wide_paper).max() <= _ALIKE:
        return near
    wide = _darkness(planes, wide_paper)
    wide = cv2.threshold(wide, _NO_SHADOW * _FULL, 0, cv2.THRESH_TOZERO)[1]
    return cv2.max(near, wide)


def _without_color(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "..."]:
    """Takes one channel for all three where they are alike."""
    if pixels.strides[2] == 0:
        return np.ascontiguousarray(pixels[..., 0])
    red, green, blue = cv2.split(pixels)
    alike = np.array_equal(red, green) and np.array_equal(green, blue)
    return red if alike else pixels


def _darkness(
    planes: UInt8[np.ndarray, "..."], paper: UInt8[np.ndarray, "..."]
) -> UInt8[np.ndarray, "h w"]:
    """Compares each pixel with its paper, enlarged, in the channel that falls off most.

    It is measured by the paper's brightest channel: in those that are dim, blue on yellow paper
    say, noise and what JPEG leaves around ink would weigh too much.
    """
    size = planes.shape[1::-1]
    drop = cv2.subtract(cv2.resize(paper, size, interpolation=cv2.INTER_LINEAR), planes)
    if paper.ndim == 3:
        drop, paper = _brightest(drop), _brightest(paper)
    light = cv2.convertScaleAbs(paper, beta=8)  # everywhere some, so that black has no noise
    return cv2.divide(drop, cv2.resize(light, size, interpolation=cv2.INTER_LINEAR), scale=_FULL)


def _brightest(planes: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """Takes of each pixel the channel that has the most."""
    red, green, blue = cv2.split(planes)
    return cv2.max(cv2.max(red, green), blue)


def _is_light_on_dark(small: UInt8[np.ndarray, "..."]) -> bool:
    """Tells the polarity from what stands out of its surroundings: the darker or the lighter.

    Surroundings of several sizes are asked: in wide ones a digit that fills the picture stands out,
    in narrow ones a thin stroke does and a shadow does not. The clearest answers weigh the most.
    """
    grey = small if small.ndim == 2 else cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    margin = even_margin(grey)
    if margin is not None:
        return _favor_for_light(grey, np.full_like(grey, margin)) > 0
    windows = (round(min(grey.shape) * share) // 2 * 2 + 1 for share in _SURROUNDINGS)
    return sum(_favor_for_light(grey, cv2.medianBlur(grey, max(3, w))) for w in windows) > 0


def _favor_for_light(grey: UInt8[np.ndarray, "h w"], around: UInt8[np.ndarray, "h w"]) -> float:
    """Compares what is lighter than its surroundings with what is darker, as a logarithm."""
    lighter, darker = (
        float(np.square(np.where(side > _DISTINCT, side, 0).astype(np.float32)).sum())
        for side in (cv2.subtract(grey, around), cv2.subtract(around, grey))
    )
    return math.log((lighter + _LITTLE) / (1.2 * (darker + _LITTLE)))


def _papers(
    small: UInt8[np.ndarray, "..."],
) -> tuple[UInt8[np.ndarray, "..."], UInt8[np.ndarray, "..."]]:
    """Estimates the paper's color under every pixel of a shrunken page: close by, and at large."""
    short = min(small.shape[:2])
    closed = cv2.morphologyEx(
        small, cv2.MORPH_CLOSE, _disk(_STROKE * short), borderType=cv2.BORDER_REPLICATE
    )
    near = cv2.GaussianBlur(closed, (0, 0), max(0.5, _STROKE * short / 3))
    margin = even_margin(small)
    if margin is None:
        return near, cv2.medianBlur(small, max(3, round(short * _PAPER_WINDOW) // 2 * 2 + 1))
    return near, np.ascontiguousarray(np.broadcast_to(margin.astype(np.uint8), small.shape))


def _disk(diameter: float) -> UInt8[np.ndarray, "k k"]:
    """Makes a round kernel of an odd diameter."""
    side = max(3, round(diameter) // 2 * 2 + 1)
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))


def _otsu(counts: Float32[np.ndarray, "256"]) -> float:
    """Parts values, by how often each stands, in two that vary the least (Otsu, 1979).

    One value alone has nothing to be parted from: 0.
    """
    counts = counts.astype(np.float64)
    values = np.arange(len(counts))
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * values)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(np.argmax(np.nan_to_num(between)))


def _components(mask: Bool[np.ndarray, "h w"]) -> Components:
    """Parts a mask in connected pieces.

    Their boxes are found by looking at the ink alone, a few hundredths of a page, which takes a
    third of the time of OpenCV's function for both.
    """
    count, labels = cv2.connectedComponents(mask.view(np.uint8), connectivity=8)
    stats = np.zeros((count, 5), np.int32)
    if count > 1:
        ink = np.flatnonzero(mask)  # row after row
        own = labels.ravel()[ink]
        ink = ink[np.argsort(own.astype(np.uint16) if count < 2**16 else own, kind="stable")]
        areas = np.bincount(own, minlength=count)[1:]
        ends = np.cumsum(areas)
        starts = ends - areas
        width = mask.shape[1]
        top, bottom = ink[starts] // width, ink[ends - 1] // width
        x = ink % width
        left, right = np.minimum.reduceat(x, starts), np.maximum.reduceat(x, starts)
        stats[1:] = np.column_stack([left, top, right - left + 1, bottom - top + 1, areas])
    return labels, stats


def _hysteresis(
    values: UInt8[np.ndarray, "h w"], low: float, high: float
) -> tuple[Bool[np.ndarray, "h w"], Components | None]:
    """Keeps what lies above `low` and hangs together with something above `high`.

    Returns:
        What is kept, and its components where all of it was kept.
    """
    weak = values > low
    labels, stats = _components(weak)
    strong = np.zeros(len(stats), bool)
    strong[labels.ravel()[np.flatnonzero(values > high)]] = True
    if strong[1:].all():
        return weak, (labels, stats)
    return strong[labels], None


def remove_rules(ink: Ink) -> Ink:
    """Takes ruled and squared lines out of upright ink, and mends the strokes they crossed."""
    height, width = ink.mask.shape
    mask = ink.mask.view(np.uint8)
    cleaned = mask.copy()
    _, stats = ink.components
    for across in (True, False):
        length = max(40, round((width if across else height) * 0.25))
        if length >= (width if across else height):
            continue
        longest = stats[1:, cv2.CC_STAT_WIDTH if across else cv2.CC_STAT_HEIGHT].max(initial=0)
        if longest < length / 2:  # of two that nearly hang together
            continue
        lines = _straight_runs(mask, across, length)
        if not lines.any():
            continue
        lines = _thin_parts(lines & mask, across, _THICKEST_RULE)
        cleaned[lines > 0] = 0
        mend = np.ones((7, 1) if across else (1, 7), np.uint8)
        cleaned |= cv2.morphologyEx(cleaned, cv2.MORPH_CLOSE, mend) & mask
    return ink.only(cleaned.view(bool)) if (cleaned != mask).any() else ink


def remove_frames(ink: Ink) -> Ink:
    """Takes the boxes of a form out of upright ink, and mends the digits that they crossed.

    A frame is made of straight lines that hang together and run along all four sides of the box
    around them. Boxes that share their sides are one such frame.
    """
    labels, stats = ink.components
    cleaned = None
    for number, (x, y, w, h, _) in enumerate(stats[1:].tolist(), 1):
        if min(w, h) < _LEAST_FRAME:
            continue
        place = np.s_[y : y + h, x : x + w]
        own = (labels[place] == number).view(np.uint8)
        if not (_has_two_lines(own, 0) and _has_two_lines(own, 1)):
            continue
        frames = _frame_lines(own)
        if not frames.any():
            continue
        rest = own & ~cv2.dilate(frames, _NEIGHBORS)
        for mend in ((7, 1), (1, 7)):
            rest |= cv2.morphologyEx(rest, cv2.MORPH_CLOSE, np.ones(mend, np.uint8)) & own
        if cleaned is None:
            cleaned = ink.mask.copy()
        cleaned[place][own > 0] = rest[own > 0] > 0
    return ink if cleaned is None else ink.only(cleaned)


def _has_two_lines(own: UInt8[np.ndarray, "h w"], axis: int) -> bool:
    """Tells quickly whether ink may have two long lines along an axis, well apart."""
    thickened = cv2.dilate(own, _THICKER[axis])
    amount = cv2.reduce(thickened, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32F)
    long = np.flatnonzero(amount > _FRAME_SIDE * own.shape[axis])
    return len(long) > 1 and int(long[-1] - long[0]) > 0.4 * own.shape[1 - axis]


def _frame_lines(own: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Finds the straight lines of connected ink that belong to frames."""
    lines = np.zeros_like(own)
    length = max(_LEAST_FRAME // 2, round(0.5 * min(own.shape)))
    for across in (True, False):
        straight = _straight_runs(own, across, length) & own
        thin = _thin_parts(straight, across, _THICKEST_FRAME) if straight.any() else straight
        if not thin.any():
            return thin
        lines |= thin
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


def find_pieces(ink: Ink, skipped: Skipped) -> list[Piece]:
    """List the connected pieces of ink, the largest first; specks and fixtures are left out.

    Args:
        ink: of a page.
        skipped: receives the number of pieces beyond the limit.
    """
    labels, stats = ink.components
    kept = list(range(1, len(stats)))
    if not kept:
        return []
    tallest = float(np.quantile(stats[kept, cv2.CC_STAT_HEIGHT], 0.9))
    least = max(6.0, 0.004 * tallest * tallest)
    kept = [number for number in kept if stats[number, cv2.CC_STAT_AREA] >= least]
    kept = sorted(kept, key=lambda number: -int(stats[number, cv2.CC_STAT_AREA]))
    skipped.pieces = len(kept[_MOST_PIECES:])
    kept = kept[:_MOST_PIECES]
    return _without_fixtures([_cut_out(ink, labels, stats[number], number) for number in kept])


def clear_border(ink: Ink, page: Ink) -> Ink:
    """Takes away the paper's edge and what lies beyond it, which no writing hugs.

    Args:
        ink: what is to be cleared, its rules removed.
        page: the same with its rules, since the paper's edge may look like one.
    """
    if not any(edge.any() for edge in _edges(page.mask)):
        return ink
    height, width = ink.mask.shape
    inner = _inner(width, height)
    beyond = np.zeros(ink.mask.shape, bool)
    for written, with_rules in ((ink, False), (page, True)):
        labels, stats = written.components
        edges = [set(np.unique(line)) - {0} for line in _edges(labels)]
        outside = [
            number
            for number in sorted(set().union(*edges))
            if _hugs_edge(stats[number], [number in edge for edge in edges], width, height)
        ]
        if with_rules:  # they cross the page; its edge does not
            amount = np.bincount(labels[inner].ravel(), minlength=len(stats))
            outside = [n for n in outside if amount[n] < 0.3 * stats[n, cv2.CC_STAT_AREA]]
        elif len(outside) == len(stats) - 1:
            return ink
        if outside:
            beyond |= np.isin(labels, outside)
    if not beyond.any():
        return ink
    labels, stats = ink.components
    near = cv2.dilate(beyond.view(np.uint8), _disk(_EDGE_MARGIN * min(width, height)))
    near[inner] = 0
    kept = np.ones(len(stats), bool)
    kept[labels[(near > 0) | beyond]] = False
    kept[0] = False
    return ink.only(kept[labels])


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
    around, strength = labels[top:bottom, left:right], ink.strength[top:bottom, left:right]
    own = around == number
    soft = cv2.dilate(own.view(np.uint8), _NEIGHBORS) & (own | (around == 0))
    return Piece(left, top, strength * soft)


def _without_fixtures(pieces: list[Piece]) -> list[Piece]:
    """Leaves out what is no writing: boxes of a form around other pieces, and punched holes."""
    if not pieces:
        return []
    usual = float(np.median([piece.height for piece in pieces]))
    return [piece for piece in pieces if not (_is_frame(piece, pieces) or _is_hole(piece, usual))]


def _is_hole(piece: Piece, usual: float) -> bool:
    """Tells a punched hole from a point: a filled disk about as large as the writing."""
    if piece.height < 0.4 * usual or not 0.8 < piece.width / piece.height < 1.25:
        return False
    _, solid = cv2.threshold(piece.ink, SOLID, 255, cv2.THRESH_BINARY)
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
    if own.mean() <= _FILLED or np.mean(corners) >= 0.2:
        return False
    ink = piece.ink[y : y + height, x : x + width]
    middle = ink[height // 3 : -(height // 3) or None, width // 3 : -(width // 3) or None]
    return bool(middle.min() > _HOLLOW * np.quantile(ink[own], 0.9))


def _is_frame(piece: Piece, pieces: list[Piece]) -> bool:
    """Tells a drawn box from a digit: little ink, at its edges, and something inside."""
    if piece.width < 12 or piece.height < 12:
        return False
    ink = (piece.ink > 60).view(np.uint8)
    margin_x, margin_y = max(2, piece.width // 6), max(2, piece.height // 6)
    upright = cv2.reduce(ink, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[0]
    straight = max(upright[:margin_x].max(), upright[-margin_x:].max())
    if straight <= 0.8 * piece.height or upright.sum() > 0.45 * ink.size:
        return False
    lying = cv2.reduce(ink, 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0]
    level = max(lying[:margin_y].max(), lying[-margin_y:].max())
    inside = ink[margin_y:-margin_y, margin_x:-margin_x]
    if level > 0.8 * piece.width and inside.mean() < 0.3:
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

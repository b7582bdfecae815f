"""Pieces of ink → recognized characters: broken ones joined, touching ones parted."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from digitwise.data.normalization import fit_to_mnist
from digitwise.reading.recognizer import Recognizer
from digitwise.reading.segmentation import (
    SOLID,
    Piece,
    Skipped,
    columns_of,
    find_cuts,
    union,
)

CHAIN, LONGEST_CHAIN = 1.5, 14  # width by height of touching digits
FINE_CUTS, COARSE_CUTS = 8, 4  # proposed on as much width as a piece is high
_MOST_CUTS = 80
_CUT_COST = 1.2  # for cutting through ink as high as a digit
_PART_COST = 0.35  # for each part
_WIDTH_COST, _USUAL_WIDTH = 1.5, 0.7  # for a part that is wider, each measured by its height
_WIDE, _VERY_WIDE = 1.1, 1.5  # width by height from which a piece may be two digits although it
_UNMISTAKABLE, _CERTAIN = 0.9, 0.99  # is recognized as one with this confidence
_SPECK = 0.1  # of a digit's height: smaller is dirt
_SMALL_BAR, _SMALL, _SMALLEST = 0.55, 0.38, 0.25  # of the usual height: see _least_extent
_TALL, _SLANTED = 1.25, 0.2  # of the usual height, and columns a row: a slash, no 1
_TAILED, _HEAD = 1.4, 0.62  # of the usual height; of such a digit's height: without its tail
_MOST_BARS = 0.6  # of the parts: what falls into 1s is an H or an M
_FLOOD, _LEAST_IN_FLOOD = 50, 0.7  # specks, and more than digits: these are as large as usual
_PAIRS_AT_A_TIME = 500  # pieces compared with all others at a time
_FAINT, _MOST_FAINT = 0.42, 0.2  # of the usual strength; of the digits: more are another pen's
_NOISE = 300  # with more glyphs, mostly non-digits, a page is noise: strokes are not joined
_MOST_SPANS = 25_000  # parts tried per page to split touching digits


@dataclass
class Glyph:
    """A piece with what it was recognized as.

    Attributes:
        piece: the ink.
        image: the same as the network saw it.
        label: the most probable class, an index into the bundle's classes.
        text: that class's name.
        confidence: how probable it is.
        non_digit: how probable it is that this is none.
        is_digit: whether it is accepted as its class.
    """

    piece: Piece
    image: UInt8[np.ndarray, "28 28"]
    label: int
    text: str
    confidence: float
    non_digit: float
    is_digit: bool

    def reject(self) -> None:
        """Mark it as a non-digit, whatever the network predicted."""
        self.confidence, self.non_digit, self.is_digit = 0.0, 1.0, False


def recognize(recognizer: Recognizer, pieces: Sequence[Piece]) -> list[Glyph]:
    """Recognizes each piece as it stands."""
    if not pieces:
        return []
    images = np.stack([fit_to_mnist(piece.ink) for piece in pieces])
    found, names = recognizer.classify(images), recognizer.bundle.classes
    rows = zip(
        found.classes.tolist(),
        found.confidence.tolist(),
        found.non_digit.tolist(),
        found.accepted.tolist(),
        strict=True,
    )
    return [
        Glyph(piece, image, label, names[label], confidence, non_digit, is_digit)
        for piece, image, (label, confidence, non_digit, is_digit) in zip(
            pieces, images, rows, strict=True
        )
    ]


def find_glyphs(
    recognizer: Recognizer,
    pieces: list[Piece],
    known: Sequence[Glyph],
    skipped: Skipped,
) -> list[Glyph]:
    """Recognizes a page's pieces, joining what was broken and parting what touches.

    Args:
        recognizer: tells how probable each digit is.
        pieces: the page's.
        known: some of them that were recognized before.
        skipped: receives the number of pieces that were not split because there are too many.
    """
    if not pieces:
        return []
    before = {id(glyph.piece) for glyph in known}
    new = [piece for piece in pieces if id(piece) not in before]
    glyphs = [*known, *recognize(recognizer, new)]
    size = _digit_height(glyphs)
    glyphs = [glyph for glyph in glyphs if extent(glyph.piece) >= _SPECK * size]
    glyphs = _join(recognizer, glyphs, size)
    glyphs = _split(recognizer, glyphs, size, skipped)
    usual = _digit_height(glyphs)
    _look_past_tails(recognizer, glyphs, usual)
    strengths = np.array([_strength(glyph.piece) for glyph in glyphs])
    least_strength = _least_strength(strengths[[glyph.is_digit for glyph in glyphs]])
    others = sum(not glyph.is_digit for glyph in glyphs)
    flooded = others > max(_FLOOD, len(glyphs) / 2)
    for glyph, strength in zip(glyphs, strengths, strict=True):
        least = max(_least_extent(glyph), _LEAST_IN_FLOOD if flooded else 0.0)
        too_small = extent(glyph.piece) < least * usual
        too_faint = strength < least_strength
        if too_small or too_faint or _is_slash(glyph, glyphs, usual):
            glyph.reject()
    return glyphs


def partition(
    recognizer: Recognizer, piece: Piece, size: float, cuts_per_height: int, in_two: bool = False
) -> tuple[float, list[Glyph]]:
    """Finds the cuts between which a piece's parts are recognized best.

    Args:
        recognizer: tells how probable each part is.
        piece: touching digits.
        size: how tall digits are, in pixels.
        cuts_per_height: cuts tried on as much width as the piece is high.
        in_two: whether it is cut once at the most.

    Returns:
        The sum of the parts' log-probabilities less the costs of the cuts, and the parts from
        left to right; minus infinity and none where it cannot be cut.
    """
    cuts, spans = _spans(piece, size, cuts_per_height, in_two)
    parts = recognize(recognizer, [columns_of(piece, cuts[a], cuts[b]) for a, b in spans])
    found = dict(zip(spans, parts, strict=True))
    best: list[tuple[float, list[int]]] = [(0.0, [0]), *[(-math.inf, [])] * (len(cuts) - 1)]
    for (a, b), part in found.items():
        if part.piece.height < 0.3 * piece.height:
            continue
        score = best[a][0] + _log_confidence(part) - _PART_COST
        score -= _WIDTH_COST * max(0.0, part.piece.width / part.piece.height - _USUAL_WIDTH)
        score -= _crossing_cost(piece, cuts[a]) if a else 0
        if score > best[b][0]:
            best[b] = (score, [*best[a][1], b])
    score, chosen = best[-1]
    return score, [found[span] for span in itertools.pairwise(chosen)]


def _spans(
    piece: Piece, size: float, cuts_per_height: int, in_two: bool
) -> tuple[list[int], list[tuple[int, int]]]:
    """Return the cuts tried on a piece, and the pairs of cuts between which a digit may be."""
    cuts = find_cuts(piece, cuts_per_height, _MOST_CUTS)
    widest = 1.25 * max(size, piece.height)
    return cuts, [
        (a, b)
        for b in range(1, len(cuts))
        for a in range(b)
        if 0.1 * size <= cuts[b] - cuts[a] <= widest and not (in_two and a and b < len(cuts) - 1)
    ]


def extent(piece: Piece) -> int:
    """Measures a piece's longer side."""
    return max(piece.width, piece.height)


def _log_confidence(glyph: Glyph) -> float:
    """Takes the logarithm of a confidence, not below that of a ten-thousandth."""
    return math.log(max(glyph.confidence, 1e-4))


def _log_confidence_in_one(glyph: Glyph) -> float:
    """Says how sure it is that a piece is one digit: which one, a 4 or a 9, weighs half."""
    return (_log_confidence(glyph) + math.log(max(1 - glyph.non_digit, 1e-4))) / 2


def _crossing_cost(piece: Piece, column: int) -> float:
    """Charges a cut for the ink that it goes through."""
    return _CUT_COST * float((piece.ink[:, column] > SOLID).mean())


def _split(
    recognizer: Recognizer, glyphs: list[Glyph], size: float, skipped: Skipped
) -> list[Glyph]:
    """Split the glyphs that may be touching digits, as many as the limit on spans allows."""
    split, left = [], _MOST_SPANS
    for glyph in glyphs:
        if not _may_be_several(glyph, size):
            split.append(glyph)
            continue
        spans = len(_spans(glyph.piece, size, FINE_CUTS, _is_in_two(glyph))[1])
        if spans > left:
            skipped.unsplit += 1
            split.append(glyph)
            continue
        left -= spans
        split += _part(recognizer, glyph, size)
    return split


def _may_be_several(glyph: Glyph, size: float) -> bool:
    """Check by its shape and confidence whether a piece may be touching digits."""
    piece = glyph.piece
    wide = piece.width / max(1, piece.height)
    if piece.height < 0.5 * size or piece.width < 0.35 * size:
        return False
    if glyph.confidence > _UNMISTAKABLE and wide < _WIDE:
        return False
    if glyph.confidence > _CERTAIN and wide < _VERY_WIDE:
        return False
    return wide <= LONGEST_CHAIN and piece.height <= 4 * size


def _is_in_two(glyph: Glyph) -> bool:
    """Check whether a piece is so narrow that it is two digits at most."""
    wide = glyph.piece.width / max(1, glyph.piece.height)
    return wide < (_VERY_WIDE if glyph.is_digit else _WIDE)


def _part(recognizer: Recognizer, glyph: Glyph, size: float) -> list[Glyph]:
    """Cut a piece into the digits that it most probably consists of, one or more."""
    piece, in_two = glyph.piece, _is_in_two(glyph)
    score, parts = partition(recognizer, piece, size, FINE_CUTS, in_two)
    if score <= _log_confidence_in_one(glyph) - _PART_COST:
        return [glyph]
    if sum(part.is_digit for part in parts) < 0.75 * len(parts):
        return [glyph]
    bars = sum(part.text == "1" for part in parts)
    return [glyph] if bars > _MOST_BARS * len(parts) else parts


def _join(recognizer: Recognizer, glyphs: list[Glyph], size: float) -> list[Glyph]:
    """Joins strokes that make a digit only together, the surest gain first."""
    if len(glyphs) > _NOISE and 2 * sum(glyph.is_digit for glyph in glyphs) < len(glyphs):
        return glyphs
    standing = dict(enumerate(glyphs))
    gains: dict[tuple[int, int], tuple[float, Glyph]] = {}

    def weigh(pairs: list[tuple[int, int]]) -> None:
        unions = [union([standing[i].piece, standing[j].piece]) for i, j in pairs]
        for (i, j), whole in zip(pairs, recognize(recognizer, unions), strict=True):
            gain = whole.confidence - _confidence_apart(standing[i], standing[j], size)
            if gain > 0:
                gains[i, j] = gain, whole

    weigh(_near_pairs([glyph.piece for glyph in glyphs], size))
    while gains:
        i, j = max(gains, key=lambda pair: gains[pair][0])
        new = max(standing) + 1
        standing[new] = gains[i, j][1]
        del standing[i], standing[j]
        gains = {pair: gain for pair, gain in gains.items() if not {i, j} & set(pair)}
        others = [number for number in standing if number != new]
        pieces = [standing[number].piece for number in others]
        near = _near(pieces, [standing[new].piece], size)[:, 0]
        weigh([(others[i], new) for i in np.flatnonzero(near)])
    return list(standing.values())


def _near_pairs(pieces: Sequence[Piece], size: float) -> list[tuple[int, int]]:
    """Lists the pairs of pieces that are near enough to be strokes of one digit."""
    pairs = []
    for start in range(0, len(pieces), _PAIRS_AT_A_TIME):
        near = _near(pieces[start : start + _PAIRS_AT_A_TIME], pieces, size)
        pairs += [(int(i) + start, int(j)) for i, j in np.argwhere(near) if i + start < j]
    return pairs


def _near(
    some: Sequence[Piece], others: Sequence[Piece], size: float
) -> Bool[np.ndarray, "some others"]:
    """Check which pieces are close enough to which others to be strokes of one digit."""
    first, second = (
        np.array([(piece.x, piece.right, piece.y, piece.bottom) for piece in pieces]).reshape(-1, 4)
        for pieces in (some, others)
    )
    near = np.ones((len(some), len(others)), bool)
    for start, gap, whole in ((0, 0.12 * size, 1.3 * size), (2, 0.3 * size, 1.6 * size)):
        (starts, ends), (other_starts, other_ends) = (
            sides[:, start : start + 2].T for sides in (first, second)
        )
        near &= np.maximum.outer(starts, other_starts) - np.minimum.outer(ends, other_ends) <= gap
        near &= np.maximum.outer(ends, other_ends) - np.minimum.outer(starts, other_starts) <= whole
    return near


def _confidence_apart(first: Glyph, second: Glyph, size: float) -> float:
    """Says how well two pieces stand by themselves: what a union has to beat."""
    small, large = sorted((first, second), key=lambda glyph: glyph.piece.height)
    if small.piece.height >= 0.55 * size and not _stacked(small.piece, large.piece, size):
        return max(0.5, (small.confidence + large.confidence) / 2 + 0.1)
    if large.confidence > _UNMISTAKABLE and _stands_beside(small.piece, large.piece):
        return 1.0  # a point, a comma or a minus
    return 0.55 * large.confidence  # a loose stroke is no digit, whatever it looks like


def _stacked(first: Piece, second: Piece, size: float) -> bool:
    """Tells whether two pieces stand above one another within one digit's height."""
    above, below = sorted((first, second), key=lambda piece: piece.y)
    beside = above.right <= below.x or below.right <= above.x
    return (
        not beside
        and below.y > above.y + 0.7 * above.height
        and below.bottom - above.y < 1.3 * size
    )


def _stands_beside(small: Piece, large: Piece) -> bool:
    """Tells whether a piece stands left or right of another, and not at its head as a 5's bar."""
    apart = small.x >= large.right or small.right <= large.x
    return apart and small.center[1] > large.y + 0.3 * large.height


def _digit_height(glyphs: list[Glyph]) -> float:
    """Estimates how tall the page's digits are: of those recognized, else of all.

    It is the median, each weighted by its height, so that neither specks nor a shadow decide.
    """
    tall = [glyph.piece.height for glyph in glyphs if glyph.is_digit]
    heights = np.sort(tall or [glyph.piece.height for glyph in glyphs])
    summed = np.cumsum(heights)
    return float(heights[np.searchsorted(summed, summed[-1] / 2)])


def _least_extent(glyph: Glyph) -> float:
    """Tells how small a digit may be, of the usual height: a small 1 or 7 is a comma or a slash."""
    if glyph.text in ("1", "7"):
        return _SMALL_BAR
    return _SMALL if glyph.confidence < _UNMISTAKABLE else _SMALLEST


def _look_past_tails(recognizer: Recognizer, glyphs: list[Glyph], usual: float) -> None:
    """Recognizes a 9, a 4 or a 6 whose tail is so long that it looks like a 1 or like nothing."""
    tall = [
        glyph
        for glyph in glyphs
        if glyph.piece.height > _TAILED * usual and (not glyph.is_digit or glyph.text == "1")
    ]
    pieces = [glyph.piece for glyph in tall]
    heads = [Piece(one.x, one.y, one.ink[: round(_HEAD * one.height)]) for one in pieces]
    feet = [Piece(one.x, one.y, one.ink[-round(_HEAD * one.height) :]) for one in pieces]
    found = recognize(recognizer, [*heads, *feet])
    for number, part in enumerate(found):
        likely = ("4", "9") if number < len(tall) else ("6",)
        if part.text in likely and part.confidence > _UNMISTAKABLE:
            glyph = tall[number % len(tall)]
            glyph.label, glyph.text, glyph.confidence = part.label, part.text, part.confidence
            glyph.non_digit, glyph.is_digit = part.non_digit, part.is_digit


def _least_strength(strengths: Float64[np.ndarray, " digits"]) -> float:
    """Tells how strong digits are at least: a few far fainter are creases, edges or dirt."""
    if not len(strengths):
        return 0.0
    least = _FAINT * float(np.median(strengths))
    return least if (strengths < least).mean() <= _MOST_FAINT else 0.0


def _strength(piece: Piece) -> float:
    """Measures how strong the ink of a piece is: nearly the most of it."""
    ink = piece.ink[piece.ink > 0]
    return float(np.partition(ink, nth := int(0.9 * len(ink)))[nth]) if len(ink) else 0.0


def _is_slash(glyph: Glyph, glyphs: list[Glyph], usual: float) -> bool:
    """Tells a slash from a 1: between digits, taller than they are, slanted and straight."""
    piece = glyph.piece
    if glyph.text != "1" or piece.height < _TALL * usual:
        return False
    x, y = piece.center
    beside = [
        other.piece.center[0] - x
        for other in glyphs
        if other is not glyph and other.is_digit and abs(other.piece.center[1] - y) < 0.6 * usual
    ]
    if not any(0 < away < 2 * usual for away in beside) or not any(
        -2 * usual < away < 0 for away in beside
    ):
        return False
    rows, columns = np.nonzero(piece.ink > SOLID)
    if len(rows) < 8:
        return False
    slope, start = np.polyfit(rows, columns, 1)
    off = np.abs(columns - (start + slope * rows))
    return bool(slope < -_SLANTED and np.quantile(off, 0.9) < 0.12 * piece.height)

"""Which way up a page lies: told from how its rows run and how well its digits are recognized."""

import numpy as np

from digitwise.reading.glyphs import (
    CHAIN,
    COARSE_CUTS,
    LONGEST_CHAIN,
    Glyph,
    extent,
    partition,
    recognize,
)
from digitwise.reading.recognizer import Recognizer
from digitwise.reading.segmentation import Piece, turned_patch

_SAMPLE = 24  # pieces that decide
_CLEARLY_UPRIGHT = 0.9  # mean confidence at which no other turn is tried
_WORTH_TURNING = 0.6  # mean confidence below which a turn has found nothing, either
_LEANS = (-45.0, -30.0, -15.0, 15.0, 30.0, 45.0)  # degrees tried around the best turn so far
_LEANING_GAIN = 0.1  # of mean confidence, from which they are believed
_AGREE = 0.8  # of 1: how much neighbors stand in one direction where rows are clear
_LEVEL = 12  # degrees: rows that slope less are read as they are
_FAVOR = 0.10  # of mean confidence, for no turn at all where rows are level
_MOST_CHAINS = 4  # that are parted
_BAR = 0.4  # width by height below which a piece may be a 1, or a row that lies on its side
_TRUST_IN_BARS = 0.6  # the most that such a piece says for a turn


def uprightness(recognizer: Recognizer, pieces: list[Piece]) -> tuple[float, list[Glyph]]:
    """Finds by how many degrees against the clock a page is to be turned to be upright.

    Args:
        recognizer: tells how well digits are recognized.
        pieces: the page's, the largest first, fixtures left out.

    Returns:
        The degrees, and those pieces that were recognized as they stand.
    """
    pieces = _typical(pieces)
    if not pieces:
        return 0.0, []
    standing = recognize(recognizer, pieces)
    return _find_turn(recognizer, pieces, standing), standing


def _find_turn(recognizer: Recognizer, pieces: list[Piece], standing: list[Glyph]) -> float:
    """Tries turns until one makes the pieces legible."""
    slope, clear = _row_direction(pieces)
    scores = {0.0: _legibility(recognizer, standing)}
    level = abs(slope) < _LEVEL or abs(slope) > 90 - _LEVEL
    if scores[0.0] > _CLEARLY_UPRIGHT and level:
        return 0.0
    scores[0.0] += _FAVOR if level else 0.0
    turns = [90.0, 180.0, 270.0]
    if 4 < abs(slope) < 86:
        turns += [(slope + quarter) % 360 for quarter in (0, 90, 180, 270)]
    for turn in turns:
        scores.setdefault(turn, _turned_legibility(recognizer, pieces, turn))
    best = max(scores, key=lambda turn: scores[turn])
    score = scores[best] - (_FAVOR if level and not best else 0.0)
    if score > _CLEARLY_UPRIGHT or clear:
        return best if score > _WORTH_TURNING else 0.0
    leans = {
        (best + lean) % 360: _turned_legibility(recognizer, pieces, (best + lean) % 360)
        for lean in _LEANS
    }
    leaning = max(leans, key=lambda turn: leans[turn])
    if leans[leaning] > score + _LEANING_GAIN:
        best, score = leaning, leans[leaning]
    return best if score > _WORTH_TURNING else 0.0


def _typical(pieces: list[Piece]) -> list[Piece]:
    """Chooses pieces of about the usual size."""
    if not pieces:
        return []
    usual = float(np.median([extent(piece) for piece in pieces[:_SAMPLE]]))
    candidates = pieces[: 3 * _SAMPLE]
    return [piece for piece in candidates if 0.5 * usual <= extent(piece) <= 1.7 * usual][:_SAMPLE]


def _turned_legibility(recognizer: Recognizer, pieces: list[Piece], turn: float) -> float:
    """Tells how well pieces are recognized when each is turned."""
    turned = [Piece(0, 0, turned_patch(piece, turn)) for piece in pieces]
    return _legibility(recognizer, recognize(recognizer, turned))


def _legibility(recognizer: Recognizer, glyphs: list[Glyph]) -> float:
    """Tells how well pieces were recognized, as a mean confidence; chains are parted first."""
    scores, weights, chains = [], [], 0
    usual = float(np.median([extent(glyph.piece) for glyph in glyphs]))
    for glyph in glyphs:
        confidence, piece = glyph.confidence, glyph.piece
        shape = piece.width / max(1, piece.height)
        if shape < _BAR:
            confidence = min(confidence, _TRUST_IN_BARS)
        elif not glyph.is_digit and CHAIN < shape < LONGEST_CHAIN:
            chains += 1
            if chains > _MOST_CHAINS:
                continue
            _, parts = partition(recognizer, piece, float(piece.height), COARSE_CUTS)
            if parts:
                confidence = float(np.mean([part.confidence for part in parts]))
        scores.append(confidence)
        weights.append(min(1.0, extent(piece) / usual) ** 2)  # a mark says little
    return float(np.average(scores, weights=weights))


def _row_direction(pieces: list[Piece]) -> tuple[float, bool]:
    """Finds in which direction neighbors stand.

    Returns:
        Degrees against the clock's turning, in ±90, and whether most neighbors agree.
    """
    if len(pieces) < 3:
        return 0.0, False
    centers = np.array([piece.center for piece in pieces])
    sizes = np.array([extent(piece) for piece in pieces])
    away = centers[np.newaxis] - centers[:, np.newaxis]
    distance = np.hypot(away[..., 0], away[..., 1])
    np.fill_diagonal(distance, np.inf)
    nearest = distance.argmin(axis=1)
    rows = np.arange(len(pieces))
    near = distance[rows, nearest] < 4 * sizes
    if near.sum() < 2:
        return 0.0, False
    steps = away[rows, nearest][near]
    doubled = np.exp(2j * np.arctan2(steps[:, 1], steps[:, 0])).mean()
    return float(np.degrees(np.angle(doubled)) / 2), bool(near.sum() > 3 and abs(doubled) > _AGREE)

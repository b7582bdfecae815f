"""Strokes are drawn as a pen would."""

import cv2
import numpy as np
import pytest

import digitwise as dw
from digitwise.errors import DigitwiseError
from digitwise.reading.strokes import draw_strokes


def test_a_stroke_is_as_wide_as_asked_and_pressure_makes_it_wider() -> None:
    for pressure, width in ((0.25, 10), (0.5, 20), (1.0, 40)):
        drawn = draw_strokes([[[50, 50, pressure], [150, 50, pressure]]], 200, 100, 20)
        assert abs((drawn[:, 100] < 128).sum() - width) <= 2
    dot = draw_strokes([[[50, 50]]], 100, 100, 20)
    assert abs((dot < 128).sum() - 314) < 50


def test_a_seven_drawn_in_two_strokes_is_read() -> None:
    strokes = [[[60, 40], [130, 40], [90, 160]], [[75, 100], [125, 100]]]
    assert dw.Reader().read(draw_strokes(strokes, 200, 200, 12)).text == "7"


@pytest.mark.parametrize(
    ("strokes", "width", "stroke_width", "reason"),
    [
        ([[[1, float("nan")]]], 100, 5, "stroke 0"),
        ([[[1]]], 100, 5, "stroke 0"),
        ([[[True, 2]]], 100, 5, "stroke 0"),
        ([5], 100, 5, "stroke 0"),
        ("strokes", 100, 5, "list of strokes"),
        ([], 0, 5, "width"),
        ([], 5000, 5, "width"),
        ([], 100, 0, "stroke_width"),
        ([[[0, 0]] * 20_001], 100, 5, "points"),
        ([[]] * 20_001, 100, 5, "points"),
    ],
)
def test_senseless_strokes_are_refused(
    strokes: object, width: int, stroke_width: float, reason: str
) -> None:
    with pytest.raises(DigitwiseError, match=reason):
        draw_strokes(strokes, width, 100, stroke_width)


@pytest.mark.parametrize(
    ("points", "side", "stroke_width"),
    [
        ([[0, 0], [4096, 4096]] * 100, 4096, 200),  # wide strokes across a large canvas
        ([[0, 0], [4096, 4096]] * 1000, 4096, 1),  # thin ones, whose edges take time
        ([[50, 50]] * 5000, 100, 200),  # dots that are wider than the canvas
        ([[-1e8, 0], [1e8, 0]] * 1000, 1000, 20),  # far outside
    ],
)
def test_strokes_that_take_too_long_to_draw_are_refused_before_anything_is_drawn(
    monkeypatch: pytest.MonkeyPatch, points: list[list[float]], side: int, stroke_width: float
) -> None:
    drawn: list[object] = []
    monkeypatch.setattr(cv2, "line", lambda *arguments: drawn.append(arguments))
    with pytest.raises(DigitwiseError, match="more than 200,000,000 pixels"):
        draw_strokes([points], side, side, stroke_width)
    assert not drawn
    draw_strokes([points[:20]], side, side, stroke_width)
    assert drawn


def test_as_many_points_as_are_allowed_can_fill_a_drawing_box() -> None:
    spiral = np.linspace(0, 150 * np.pi, 20_000)
    points = np.stack([300 + spiral / 2 * np.cos(spiral), 200 + spiral / 2 * np.sin(spiral)], 1)
    drawn = draw_strokes([points.tolist()], 600, 400, 26)
    assert (drawn < 128).mean() > 0.7

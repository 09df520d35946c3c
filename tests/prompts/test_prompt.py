"""Prompts: what the user types becomes boxes and points in frame pixels, or one clear line."""

import math

import pytest

from mam_video.core.errors import UsageError
from mam_video.core.geometry import Box, Point
from mam_video.prompts.prompt import Prompt

SIZE = (480, 854)  # H, W


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("412,96,800,470", (412, 96, 800, 470)),
        (" 1.5, 2 ,30.25,40", (1.5, 2, 30.25, 40)),
        ("10%,20%,50%,100%", (85.4, 96, 427, 480)),
        ("0.1,0.2,0.5,1", (85.4, 96, 427, 480)),
        ("0,20%,50%,90%", (0, 96, 427, 432)),
        ("0,0,1,1", (0, 0, 854, 480)),
    ],
)
def test_boxes_in_pixels_percent_and_fractions(text: str, expected: tuple[float, ...]) -> None:
    prompt = Prompt.parse(text, [], SIZE)
    assert prompt.box is not None
    assert prompt.box.xyxy == pytest.approx(expected)


def test_points_on_the_subject_and_on_the_background() -> None:
    prompt = Prompt.parse(None, ["100,50", "50%,25%,0", "3,4,1"], SIZE)
    assert prompt.points == (Point(100, 50), Point(427, 120, subject=False), Point(3, 4))


@pytest.mark.parametrize(
    ("box", "points", "says"),
    [
        ("1,2,3", [], "x0,y0,x1,y1"),
        ("a,b,c,d", [], "x0,y0,x1,y1"),
        ("nan,0,10,10", [], "finite"),
        ("0,0,inf,10", [], "finite"),
        ("50,50,50,90", [], "empty or inverted"),
        ("90,50,50,90", [], "empty or inverted"),
        ("900,10,950,90", [], "outside the frame, which is 854x480"),
        (None, ["900,10"], "outside the frame"),
        (None, ["10,10,2"], "third value"),
        (None, ["10,10,0"], "no prompt"),
        (None, [], "no prompt"),
    ],
)
def test_wrong_prompts_get_one_line(box: str | None, points: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Prompt.parse(box, points, SIZE)
    assert "\n" not in str(caught.value)


def test_box_geometry() -> None:
    box = Box(10, 20, 30, 60)
    assert (box.width, box.height, box.area, box.centre) == (20, 40, 800, (20, 40))
    assert box.grown(5).xyxy == (5, 15, 35, 65)
    assert box.moved(1, -2).xyxy == (11, 18, 31, 58)
    assert box.clipped((50, 25)) == Box(10, 20, 25, 50)
    assert box.clipped((10, 10)) is None
    assert box.iou(box) == 1
    assert box.iou(Box(20, 20, 40, 60)) == pytest.approx(1 / 3)
    assert box.iou(Box(100, 100, 110, 110)) == 0
    assert not math.isnan(box.grown(-100).area)

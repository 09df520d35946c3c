"""Views: geometry is exact both ways, for every size and place."""

import numpy as np
import pytest
import torch

from mam_video.core.crop import Crop
from mam_video.core.geometry import Box

SIZES = [(480, 854), (1080, 1920), (2160, 3840), (1920, 1080), (479, 853), (100, 100), (37, 640)]


@pytest.mark.parametrize("frame", SIZES)
def test_the_whole_frame_is_scaled_as_sam_does(frame: tuple[int, int]) -> None:
    h, w = frame
    view = Crop.whole(frame, 1024)
    scale = 1024 / max(h, w)
    assert view.content == (int(h * scale + 0.5), int(w * scale + 0.5))
    assert max(view.content) == 1024


@pytest.mark.parametrize("frame", SIZES)
@pytest.mark.parametrize("size", [256, 1024])
def test_boxes_go_there_and_back(frame: tuple[int, int], size: int) -> None:
    view = Crop.around(Box(5, 6, 30, 36), frame, size, 1.7)
    box = Box(7.25, 8.5, 21, 30.75)
    assert view.to_frame(view.to_view(box)).xyxy == pytest.approx(box.xyxy)
    assert view.to_view(view.box).xyxy == pytest.approx((0, 0, view.content[1], view.content[0]))


@pytest.mark.parametrize("frame", SIZES)
@pytest.mark.parametrize("centre", [(0, 0), (0.5, 0.5), (1, 1), (0.9, 0.1)])
def test_a_view_stays_inside_the_frame_and_holds_the_box(frame: tuple[int, int], centre: tuple[float, float]) -> None:
    h, w = frame
    cx, cy = centre[0] * w, centre[1] * h
    box = Box(cx - 20, cy - 10, cx + 20, cy + 10).clipped(frame)
    assert box is not None
    view = Crop.around(box, frame, 256, 1.6)
    assert view.x0 >= 0 and view.y0 >= 0 and view.x0 + view.width <= w and view.y0 + view.height <= h
    assert view.x0 <= box.x0 and view.y0 <= box.y0
    assert view.x0 + view.width >= box.x1 and view.y0 + view.height >= box.y1


@pytest.mark.parametrize("size", [128, 256, 512])
def test_an_edge_comes_back_where_it_was(size: int) -> None:
    """A vertical edge at x = 130 of the frame, cut into a view and brought back, crosses one half at 130."""
    picture = np.zeros((200, 300, 3), np.uint8)
    picture[:, 130:] = 255
    view = Crop(41, 17, 190, 151, size)
    cut = view.cut(picture)
    assert cut.shape[:2] == view.content
    square = np.zeros((size, size), np.float32)
    square[: cut.shape[0], : cut.shape[1]] = cut[..., 0] / 255.0
    part = view.to_rectangle(torch.from_numpy(square)[None, None])[0, 0].numpy()
    assert part.shape == (view.height, view.width)
    row = view.paste(part, (200, 300))[90]
    crossing = np.interp(0.5, row[100:160], np.arange(100, 160) + 0.5)
    assert abs(crossing - 130) < 0.5


def test_what_lies_outside_the_view_is_zero() -> None:
    view = Crop(10, 20, 30, 40, 64)
    whole = view.paste(np.ones((40, 30), np.float32), (100, 100))
    assert whole.sum() == 30 * 40
    assert whole[20:60, 10:40].all()

"""The flow-guided temporal filter on a device: the arithmetic of `matting/temporal_filter.py`.

There the work is limited to the rectangle that the window's alphas cover, which is found in the numbers. Here it
is done in the crops of the window's frames, which are known; what lies outside that rectangle stays as it is, as there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from mam_video.core.settings import SmoothSettings
from mam_video.matting.device.frames import Part, ResidentMatted
from mam_video.matting.device.sampling import in_extent, linear_taps, sampled, shrunk
from mam_video.matting.temporal_filter import COLOUR_NOISE, Neighbours
from mam_video.models.resident import ResidentMotion


def averaged(view: Neighbours[ResidentMatted], settings: SmoothSettings) -> ResidentMatted:
    """Average the matte at the centre with those within the radius."""
    window, centre = view
    matted = window[centre].matted
    past, future = view.reach(settings.radius)
    mattes = [window[i].matted for i in (*past, centre, *future)]
    part = reduce(Part.joined, (each.part for each in mattes))
    covered = in_extent(reduce(torch.maximum, (each.alpha[part.slices] for each in mattes)))
    here = matted.alpha[part.slices]
    total, weights = here, torch.ones_like(here)
    for places, back in ((past, False), (future, True)):
        for place in places:
            arrived = _carried(view, place, part, back=back)
            if arrived is None:
                break
            alpha, trust = arrived
            middle = 0.5 * (alpha + here)
            weight = settings.strength * trust * 4 * middle * (1 - middle)
            total = total + weight * alpha
            weights = weights + weight
    alpha = matted.alpha.clone()
    alpha[part.slices] = torch.where(covered, (total / weights).clamp(0, 1), here)
    return replace(matted, alpha=alpha, part=part)


def _carried(view: Neighbours[ResidentMatted], place: int, part: Part, *, back: bool) -> tuple[Tensor, Tensor] | None:
    """Carry the alpha of the neighbour at `place` to the centre; return the part of it, and its trust, 0..1."""
    window, centre = view
    step = -1 if back else 1
    alpha, colour = window[place].matted.alpha[None], None
    trusted: Tensor | None = None
    size = window[centre].matted.frame.size
    for i in range(place, centre, step):
        held = window[i if back else i + 1]
        motion = held.matted.frame.motion
        if held.motion is None or motion is None:
            return None
        small = motion.size
        if colour is None:
            colour = _small_picture(window[place].matted, small)
        agreed = motion.trusted[int(back)][None]
        trusted = agreed if trusted is None else agreed * carry(motion, trusted, back=back)
        colour = carry(motion, colour, back=back).round()  # as 8 bits hold it
        last = i + step == centre
        alpha = carry(motion, alpha, back=back, part=part if last else None)
    assert trusted is not None and colour is not None
    here = _small_picture(window[centre].matted, small)
    difference = _blurred((here - colour).abs().amax(0, keepdim=True))
    trust = trusted * torch.exp(-((difference / COLOUR_NOISE) ** 2))
    return alpha[0], _enlarged(trust, size, part)[0]


def carry(motion: ResidentMotion, values: Tensor, *, back: bool = False, part: Part | None = None) -> Tensor:
    """Warp maps (C, H, W) float32 of the source frame to the target (`back`: the other way), as `Motion.carry`.

    `part` limits the result to a rectangle of them.
    """
    h, w = values.shape[-2:]
    part = part or Part(0, h, 0, w)
    flow = motion.flows[int(back)]
    sy, sx = motion.size[0] / h, motion.size[1] / w
    flow = flow[:, part.y0 : part.y1, part.x0 : part.x1] if (h, w) == motion.size else _enlarged(flow, (h, w), part)
    x = flow[0] * (1 / sx) + torch.arange(part.x0, part.x1, dtype=torch.float32, device=flow.device)
    y = flow[1] * (1 / sy) + torch.arange(part.y0, part.y1, dtype=torch.float32, device=flow.device)[:, None]
    return sampled(values, x, y)


def _enlarged(values: Tensor, size: tuple[int, int], part: Part) -> Tensor:
    """Enlarge maps (C, h, w) of a whole frame to its `size` (H, W), and return the part of them."""
    h, w = values.shape[-2:]
    sy, sx = h / size[0], w / size[1]
    rows = linear_taps(h, part.y1 - part.y0, sy, (part.y0 + 0.5) * sy - 0.5, values.device)
    columns = linear_taps(w, part.x1 - part.x0, sx, (part.x0 + 0.5) * sx - 0.5, values.device)
    return columns.columns(rows.rows(values))


def _small_picture(matted: ResidentMatted, size: tuple[int, int]) -> Tensor:
    """Return the frame's picture at the motion's size (h, w): (3, h, w) float32 of whole codes."""
    picture = matted.frame.picture.permute(2, 0, 1)
    if picture.shape[-2:] == size:
        return picture.float()
    return shrunk(picture, size).round()


def _blurred(values: Tensor) -> Tensor:
    """Return the mean of (1, h, w) over 3 x 3 pixels, mirrored at the border's pixels as OpenCV does by default."""
    h, w = values.shape[-2:]
    mode = "reflect" if min(h, w) > 1 else "replicate"
    return F.avg_pool2d(F.pad(values[None], (1, 1, 1, 1), mode=mode), 3, stride=1)[0]

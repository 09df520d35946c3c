"""How long a model's calls take on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from mam_video.core.errors import UsageError
from mam_video.core.geometry import Box
from mam_video.models.base import Model, ViewPrompt, at_plate_size, matte_model_of, video_model_of

T = TypeVar("T")
_PLATE = 1024  # side of the crop that a model at the plate's size is given


def measure_speed(model: Model, times: int = 3) -> dict[str, float]:
    """Measure the calls of a model on a square of noise: seconds for one frame, the best of `times`, by stage.

    A matte model that works at the plate's size is given a crop of 1024 pixels, half of it unknown.
    Raises: UsageError, the model finds nothing itself.
    """
    rng = np.random.default_rng(0)
    follower = video_model_of(model)
    seconds: dict[str, float] = {}
    if follower is not None:
        session, frame = follower.session(1), _noise(rng, model.view_size)
        half = model.view_size / 4
        prompt = ViewPrompt(Box(half, half, 3 * half, 3 * half))
        session.step(frame, [prompt])
        seconds["track"] = _best(lambda: session.step(frame, [None]), times, model)[0]
    elif model.name.partition("+")[0] == "masks":
        raise UsageError("model masks finds nothing itself: there is nothing to measure")
    else:
        picture, half = _noise(rng, model.view_size), model.view_size / 4
        seconds["embed"], embedding = _best(lambda: model.embed([picture]), times, model)
        prompt = ViewPrompt(Box(half, half, 3 * half, 3 * half))
        seconds["segment"], _ = _best(lambda: model.segment(embedding, 0, prompt), times, model)
    mattes = matte_model_of(model)
    side = _PLATE if at_plate_size(mattes) else mattes.view_size
    m = mattes.mask_size
    y, x = np.mgrid[:m, :m]
    logits = (m / 4 - np.hypot(x - m / 2, y - m / 2)).clip(-8, 8).astype(np.float32)[None]
    looked_at = mattes.embed([_noise(rng, side)])
    seconds["matte"], _ = _best(lambda: mattes.matte(looked_at, logits), times, model)
    return seconds


def _noise(rng: np.random.Generator, side: int) -> np.ndarray:
    return rng.integers(0, 256, (side, side, 3), np.uint8)


def _best(call: Callable[[], T], times: int, model: Model) -> tuple[float, T]:
    """Return the shortest time of a call and its result; on a GPU until it is done there."""
    cuda = str(getattr(model, "device", "cpu")).startswith("cuda")
    taken = []
    with torch.inference_mode():
        result = call()
        for _ in range(times):
            start = time.perf_counter()
            result = call()
            if cuda:
                torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
    return min(taken), result

"""What does each stage cost a CPU? The part of `benchmark.py` that counts it.

The embedded model follows the sample clip in one thread; of each stage the processor time of its own thread is counted,
not the time on the clock, so that other work on the machine disturbs little. The least of some runs counts. Files and
their codecs are left out; `media` measures those.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch
from speed import BOX, SAMPLE

from mam_video import Prompt, Settings, load_model, open_clip
from mam_video.matting.foreground import with_foreground
from mam_video.matting.pipeline import matte_frames
from mam_video.runtime.stage_timer import StageTimer


class ProcessorTimer(StageTimer):
    """Counts what the processor spends in the stage's thread."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - start
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + spent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--repeat", type=int, default=2)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    settings = Settings().with_values({"model": {"name": "lite", "device": "cpu"}}, "benchmark")
    model = load_model(settings.model)
    best: dict[str, float] = {}
    for _ in range(options.repeat):
        clock = ProcessorTimer()
        with open_clip(SAMPLE) as clip:
            for matted in matte_frames(clip.frames(0, options.frames), Prompt(BOX), model, settings, clock=clock):
                with clock.stage("foreground"):
                    with_foreground(matted)
        best = {name: min(spent, best.get(name, spent)) for name, spent in clock.seconds.items()}
    each = {name: spent / options.frames * 1000 for name, spent in best.items() if name != "decode"}
    print(f"lite, 1280x720, {options.frames} frames, one thread: {sum(each.values()):.0f} ms of processor time a frame")
    print("  " + ", ".join(f"{name} {ms:.1f}" for name, ms in sorted(each.items(), key=lambda item: -item[1])))
    return 0

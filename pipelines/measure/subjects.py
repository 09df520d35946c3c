"""What do several subjects cost? The part of `benchmark.py` that measures it.

The same clip, once with one subject and once with several, file to file, the whole frame as the view of all: a frame is
embedded once. Random weights: they take as long as trained ones. The runs take turns, and the best of each counts.
Processor time is told too: on a machine that others use it says more than the clock on the wall.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from speed import SAMPLE, cut_clip

from mam_video import Box, Prompt, Prompts, Settings, matte_clip
from mam_video.models.mam import MamModel

_SIZE = (720, 1280)  # of the sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--variant", choices=("vit-b", "vit-l", "vit-h"), default="vit-b")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--subjects", type=int, default=4)
    parser.add_argument("--frames", type=int, default=2, help="frames of the clip")
    parser.add_argument("--repeat", type=int, default=1, help="how often the two take turns")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    model = MamModel.random(options.variant, device=options.device)
    settings = Settings().with_values({"view": {"roi": "frame"}, "output": {"overwrite": True}}, "benchmark")
    h, w = _SIZE
    side = w / options.subjects
    prompts = [
        Prompts.of({0: Prompt(Box(k * side, 0.1 * h, (k + 1) * side, 0.9 * h))}, f"subject{k}")
        for k in range(options.subjects)
    ]
    wall = {1: float("inf"), options.subjects: float("inf")}
    work = dict(wall)
    with tempfile.TemporaryDirectory() as folder:
        plate = Path(folder) / "plate.mp4"
        cut_clip(SAMPLE, plate, options.frames)
        for _ in range(options.repeat):
            for count in wall:
                start, started = time.perf_counter(), time.process_time()
                report = matte_clip(plate, f"{folder}/{{subject}}.mov", prompts[:count], settings, model=model)
                wall[count] = min(wall[count], time.perf_counter() - start)
                work[count] = min(work[count], time.process_time() - started)
                spent = ", ".join(f"{name} {s:.1f}" for name, s in report.seconds.items() if s >= 0.1)
                print(f"  {count}: {wall[count]:.1f} s, processors {work[count]:.1f} s (stages: {spent})", flush=True)
    several, frames = options.subjects, options.frames
    print(
        f"SAM {options.variant}, {options.device}, {model.precision}, {frames} frames of {w}x{h}: {several} subjects "
        f"take {wall[several] / wall[1]:.2f}x the time of one ({wall[several] / frames:.1f} s a frame, one "
        f"{wall[1] / frames:.1f}), {work[several] / work[1]:.2f}x in processor time"
    )
    return 0

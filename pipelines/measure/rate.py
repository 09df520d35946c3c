"""How many frames a second, file to file, and where the time goes? The part of `benchmark.py` that measures it.

The sample clip at 854x480, played forth and back, becomes ProRes 4444; smoothing off. Every run is printed, with
milliseconds a frame by stage: stages overlap, so they add up to more than a frame takes. A CPU with AVX-512 can be made
to compute as one without: ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from mam_video import Box, Prompt, Settings, load_model, matte_clip, open_clip

SAMPLE = Path(__file__).resolve().parents[2] / "samples" / "rabbit.mp4"
SIZE = (480, 854)
BOX = Box(270 / 1.5, 44 / 1.5, 604 / 1.5, 624 / 1.5)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="lite")
    parser.add_argument("--frames", type=int, default=66)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of torch; its own choice if not given")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.threads:
        torch.set_num_threads(options.threads)
    settings = Settings().with_values({"model": {"name": options.model}, "smooth": {"strength": 0.0}}, "benchmark")
    model = load_model(settings.model)
    limits = {k: os.environ[k] for k in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY") if k in os.environ}
    print(f"{options.model}, 854x480 to ProRes 4444, {torch.get_num_threads()} threads {limits or ''}")
    with tempfile.TemporaryDirectory() as folder:
        plate = Path(folder) / "plate.mp4"
        _write_plate(plate, options.frames)
        for i in range(options.repeat):
            report = matte_clip(plate, Path(folder) / f"{i}.mov", Prompt(BOX), settings, model=model)
            print(report.summary(), flush=True)
    return 0


def _write_plate(path: Path, count: int) -> None:
    with open_clip(SAMPLE) as clip:
        pictures = [cv2.resize(f.rgb8, SIZE[::-1], interpolation=cv2.INTER_AREA) for f in clip.frames()]
    there_and_back = pictures + pictures[-2:0:-1]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.height, stream.width = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "18"}
        for i in range(count):
            picture = np.ascontiguousarray(there_and_back[i % len(there_and_back)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))

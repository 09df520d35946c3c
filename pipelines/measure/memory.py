"""Does memory grow with the clip, or time with the frames? The part of `benchmark.py` that measures it.

Each length is matted in a process of its own: tiny SAM with random weights and M2M at full size, 1920x1080, the view
held, smoothing on, ProRes 4444 out. Peak resident memory is the operating system's own figure of that process.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

SIZE = (1080, 1920)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, nargs="+", default=[60, 300], help="lengths to compare; the first is 1.0")
    parser.add_argument("--model", default="tiny", help="tiny (SAM and M2M, random weights), or a model by name")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.child:
        return _child(options)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for count in options.frames:
            plate = Path(folder) / f"{count}.mp4"
            write_plate(plate, count)
            command = [sys.executable, str(Path(__file__).with_name("benchmark.py")), "memory"]
            command += ["--child", str(plate), "--model", options.model]
            told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            found.append(told)
            first = found[0]
            print(
                f"{count:5} frames: peak {told['peak_mib']:.0f} MiB ({told['peak_mib'] / first['peak_mib']:.3f}x); "
                f"{told['early']:.2f} s a frame in the first half, {told['late']:.2f} in the second "
                f"({told['late'] / told['early']:.2f}x)",
                flush=True,
            )
    return 0


def write_plate(path: Path, count: int) -> None:
    """A textured disc that sways over a textured ground, so that a view around it can be held."""
    rng = np.random.default_rng(1)
    h, w = SIZE
    ground = cv2.resize(rng.integers(60, 200, (h // 8, w // 8, 3)).astype(np.uint8), (w, h))
    skin = cv2.resize(rng.integers(0, 255, (40, 40, 3)).astype(np.uint8), (440, 440))
    hole = np.zeros((440, 440, 1), np.float32)
    cv2.circle(hole, (220, 220), 200, 1.0, -1, cv2.LINE_AA)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(24))
        stream.height, stream.width = h, w
        stream.pix_fmt = "yuv420p"
        stream.options = {"preset": "ultrafast", "crf": "18"}
        for i in range(count):
            x, y = 700 + round(40 * np.sin(i / 9)), 300 + round(25 * np.cos(i / 7))
            picture = ground.copy()
            part = picture[y : y + 440, x : x + 440]
            part[:] = np.rint(skin * hole + part * (1 - hole)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _child(options: argparse.Namespace) -> int:
    from mam_video import Box, Prompt, Settings, load_model, matte_clip
    from mam_video.models.base import Model
    from mam_video.models.mam import MamModel

    settings = Settings().with_values({"smooth": {"strength": 0.75}, "model": {"device": "cpu"}}, "benchmark")
    model: Model
    if options.model == "tiny":
        model = MamModel.random("tiny", 1, device="cpu")
    else:
        model = load_model(settings.with_values({"model": {"name": options.model}}, "benchmark").model)
    with tempfile.TemporaryDirectory() as folder:
        prompt = Prompt(Box(700, 325, 1140, 765))
        report = matte_clip(options.child, Path(folder) / "m.mov", prompt, settings, model=model)
    seconds = report.frame_seconds[5:]  # the first wait for the pipeline to fill
    half = len(seconds) // 2
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    told = {"peak_mib": peak, "early": statistics.median(seconds[:half]), "late": statistics.median(seconds[half:])}
    print(json.dumps(told))
    return 0

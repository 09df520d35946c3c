"""How do the stages of a run overlap? The part of `benchmark.py` that draws it.

One line a thread, one bar for each piece of work of a stage, over the seconds of a run of the embedded model on the
sample clip. Waiting is white.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
from speed import BOX, SAMPLE, there_and_back

from mam_video import Box, Prompt, Settings, load_model, matte_clip
from mam_video.runtime.stage_timer import Span, StageTimer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cpu")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("-o", "--out", type=Path, default=Path("overlap.svg"))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    spans: list[Span] = []
    size = (854, 480)
    with tempfile.TemporaryDirectory() as folder:
        plate = Path(folder) / "plate.mp4"
        there_and_back(SAMPLE, plate, options.frames, size)
        scale = size[0] / 1280
        prompt = Prompt(Box(*(side * scale for side in BOX.xyxy)))
        settings = Settings().with_values({"model": {"name": "lite", "device": options.device}}, "benchmark")
        model = load_model(settings.model)
        StageTimer.on_span = spans.append
        try:
            report = matte_clip(plate, Path(folder) / "out.mov", prompt, settings, model=model)
        finally:
            StageTimer.on_span = None
    print(report.summary())
    print(report.timings())
    draw(spans, options.out, f"lite on {options.device}, {options.frames} frames of {size[0]}x{size[1]}")
    print(f"wrote {options.out}")
    return 0


def draw(spans: list[Span], path: Path, title: str) -> None:
    """Draw the spans, threads from top to bottom in the order of their first work."""
    first = min(span.start for span in spans)
    threads = list(dict.fromkeys(span.thread for span in sorted(spans, key=lambda span: span.start)))
    stages = list(dict.fromkeys(span.stage for span in sorted(spans, key=lambda span: span.start)))
    colours = {stage: plt.get_cmap("tab20")(k % 20) for k, stage in enumerate(stages)}
    figure, axes = plt.subplots(figsize=(11, 0.42 * len(threads) + 1.6))
    for stage in stages:
        for line, thread in enumerate(threads):
            bars = [(s.start - first, s.end - s.start) for s in spans if (s.stage, s.thread) == (stage, thread)]
            axes.broken_barh(bars, (line - 0.4, 0.8), color=colours[stage])
    handles = [plt.Rectangle((0, 0), 1, 1, color=colours[stage]) for stage in stages]
    axes.legend(handles, stages, ncol=8, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.18), frameon=False)
    axes.set_yticks(range(len(threads)), threads, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("seconds")
    axes.set_title(title, fontsize=9)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)

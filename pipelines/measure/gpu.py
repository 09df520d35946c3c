"""What a device makes of the whole way, file to file? The part of `benchmark.py` that prints the table.

The embedded model follows the sample clip from a box. SAM and M2M have random weights, which take as long as trained
ones but lose the subject, so both loops, ours and the obvious one of `speed.py`, are given the same saved track: each
frame is embedded once and matted once by both. Smoothing and foreground are on; output is ProRes 4444. Each case runs
once on a few frames before it is timed. On a CPU it runs as well, with `--size` and `--frames` small enough: then it
shows what is copied, not how fast a GPU is.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from speed import BOX, SAMPLE, ObviousLoop, package_sam, there_and_back

from mam_video import Box, Prompt, Settings, load_model, matte_clip
from mam_video.models.devices import cpu_name
from mam_video.models.m2m import M2M
from mam_video.models.mam import MamModel
from mam_video.models.transfers import counted

SAMPLE_SIZE = (1280, 720)
_WARM = 4  # frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda", "mps"), default="cuda")
    parser.add_argument("--size", type=_size, nargs="+", default=[(1280, 720), (1920, 1080)], metavar="WxH")
    parser.add_argument("--variant", choices=("vit-b", "vit-l", "vit-h", "tiny"), default="vit-b")
    parser.add_argument(
        "--stages", choices=("host", "device"), default="device", help="where those after the model work"
    )
    parser.add_argument("--frames", type=int, default=60, help="of the embedded model; SAM and M2M take a third")
    parser.set_defaults(run=run)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


@dataclass
class Row:
    """One line of the table.

    seconds  a frame takes
    work     seconds of the CPU's cores that a frame takes, all threads together
    stages   milliseconds a frame, the largest first
    moved    uploads and downloads a frame, by what they are
    """

    what: str
    seconds: float
    work: float
    stages: dict[str, float]
    moved: dict[str, float]
    busy: float | None
    memory: float | None

    def text(self) -> str:
        """Return the line."""
        facts = [f"{1 / self.seconds:6.2f} frames a second", f"{self.work:.2f} s of CPU a frame"]
        if self.busy is not None:
            facts.append(f"GPU busy {self.busy:.0%}")
        if self.memory is not None:
            facts.append(f"{self.memory:.1f} GiB on the card")
        lines = [f"{self.what}: {', '.join(facts)}"]
        if self.stages:
            lines.append("    ms: " + ", ".join(f"{name} {each:.1f}" for name, each in self.stages.items()))
        if self.moved:
            lines.append("    copies a frame: " + ", ".join(f"{name} {each:.2f}" for name, each in self.moved.items()))
        return "\n".join(lines)


def run(options: argparse.Namespace) -> int:
    name = torch.cuda.get_device_name() if options.device == "cuda" else cpu_name()
    print(f"{name}, {options.device}, {torch.get_num_threads()} threads of torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for size in options.size:
            for row in table(
                Path(folder), size, options.device, options.variant, options.frames, stages=options.stages
            ):
                print(row.text(), flush=True)
    return 0


def table(
    folder: Path,
    size: tuple[int, int],
    device: str,
    variant: str,
    frames: int,
    warm: int = _WARM,
    stages: str = "device",
) -> list[Row]:
    """Measure all cases at one size (width, height); the obvious loop comes last."""
    of_lite, of_sam = (_settings(name, device, stages) for name in ("lite", f"mam-{variant}"))
    at = f"{size[0]}x{size[1]}"
    plate, short = folder / f"{at}.mp4", folder / f"{at}-short.mp4"
    there_and_back(SAMPLE, plate, frames, size)
    there_and_back(SAMPLE, short, warm, size)
    prompt = Prompt(_box(size))
    lite = load_model(of_lite.model)
    matte_clip(short, folder / "warm.mov", prompt, of_lite, model=lite)
    rows = [_timed(f"lite, real weights, {at}", frames, device, lambda: matte_clip(
        plate, folder / "lite.mov", prompt, of_lite, model=lite, track_to=folder / "lite.track"
    ))]  # fmt: skip

    count = max(frames // 3, 2)
    plate = folder / f"{at}-sam.mp4"
    there_and_back(SAMPLE, plate, count, size)
    masks = write_masks(folder / f"masks-{at}", count, size)
    sam, m2m = package_sam(variant), M2M()
    state = {key: value.clone() for key, value in sam.state_dict().items() if not key.startswith("pixel")}
    ours = MamModel.from_states(variant, state, m2m.state_dict(), device)
    saved = folder / f"{at}.track"
    matte_clip(plate, folder / "warm.mov", None, of_sam, model=ours, masks=masks, track_to=saved)
    rows.append(_timed(f"SAM {variant} + M2M in {ours.precision}, {at}", count, device, lambda: matte_clip(
        plate, folder / "ours.mov", None, of_sam, model=ours, track_from=saved
    )))  # fmt: skip
    obvious = ObviousLoop(sam, m2m, device)
    guides = [np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) > 127 for path in sorted(masks.iterdir())]
    obvious.run(short, folder / "warm.mov", guides[:1])
    rows.append(_timed(f"the obvious loop, the same track, {at}", count, device,
                       lambda: obvious.run(plate, folder / "obvious.mov", guides)))  # fmt: skip
    ours_, theirs = rows[-2:]
    theirs.what += f": {theirs.seconds / ours_.seconds:.2f} times ours, {theirs.work / ours_.work:.2f} of its CPU"
    return rows


def _settings(model: str, device: str, stages: str) -> Settings:
    known = {"name": model, "device": device} if model in ("lite",) else {}
    return Settings().with_values({"model": {**known, "stages": stages}, "output": {"overwrite": True}}, "benchmark")


def _box(size: tuple[int, int]) -> Box:
    x, y = size[0] / SAMPLE_SIZE[0], size[1] / SAMPLE_SIZE[1]
    return Box(BOX.x0 * x, BOX.y0 * y, BOX.x1 * x, BOX.y1 * y)


def write_masks(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Write the track that both loops follow, as a mask for each frame: the ellipse in the box of the sample."""
    folder.mkdir()
    box = _box(size)
    mask = np.zeros(size[::-1], np.uint8)
    centre = round((box.x0 + box.x1) / 2), round((box.y0 + box.y1) / 2)
    cv2.ellipse(mask, centre, (round(box.width / 2), round(box.height / 2)), 0, 0, 360, 255, -1)
    for i in range(count):
        cv2.imwrite(str(folder / f"m.{i:04d}.png"), mask)
    return folder


def _timed(what: str, frames: int, device: str, work: Callable[[], Any]) -> Row:
    """Run `work` on `frames` frames and take the line of it."""
    before = counted()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with _Busy(device) as busy:
        start, spent = time.perf_counter(), time.process_time()
        report = work()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds, spent = time.perf_counter() - start, time.process_time() - spent
    stages = {k: v / frames * 1000 for k, v in report.seconds.items()} if report is not None else {}
    moved: dict[str, float] = {}
    for way, old, new in zip(("up", "down"), before, counted(), strict=True):
        moved |= {f"{way} {k}": (n - old.get(k, 0)) / frames for k, n in sorted(new.items()) if n > old.get(k, 0)}
    memory = torch.cuda.max_memory_allocated() / (1 << 30) if device == "cuda" else None
    return Row(what, seconds / frames, spent / frames, stages, moved, busy.share, memory)


class _Busy:
    """The share of the time that a GPU works, as nvidia-smi samples it; None where there is none."""

    def __init__(self, device: str) -> None:
        self._program = shutil.which("nvidia-smi") if device == "cuda" else None
        self._end = threading.Event()
        self._found: list[int] = []

    @property
    def share(self) -> float | None:
        return sum(self._found) / len(self._found) / 100 if self._found else None

    def __enter__(self) -> _Busy:
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _sample(self) -> None:
        while self._program and not self._end.wait(0.25):
            asked = [self._program, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
            if told and told[0].isdigit():
                self._found.append(int(told[0]))

"""How long does a frame take as an EXR? The part of `benchmark.py` that measures it.

RGBA in half with zip, of a plate of 16 bits with grain: its subject on a fifth of the picture, and the picture whole,
which is the worst case. A frame is converted to premultiplied linear light, compressed and written, one after the
other, on all cores. Nothing is decoded and no model runs.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from mam_video.core.frames import Frame, Matted, Record, State
from mam_video.core.geometry import Box
from mam_video.core.settings import OutputSettings
from mam_video.media.base import ClipInfo
from mam_video.media.sequence.encoders import Encoder, exr_encoder
from mam_video.runtime.cores import cores

_RATE = Fraction(24)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", default="3840x2160", help="of the picture")
    parser.add_argument("--frames", type=int, default=9, help="of each kind; medians are printed")
    parser.add_argument("--compression", default="zip", choices=["zip", "zips", "piz", "dwaa", "dwab", "none"])
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    width, height = (int(side) for side in options.size.split("x"))
    plate = _grainy(height, width)
    info = ClipInfo(Path("plate.mov"), width, height, _RATE, 1 / _RATE)
    encoder = exr_encoder(info, OutputSettings(exr_compression=options.compression), alpha_only=False, layers=())
    print(f"EXR, {width}x{height}, RGBA half, {options.compression}, {cores()} cores, medians of {options.frames}:")
    kinds = {"subject on a fifth": _disc(height, width, 0.2), "whole picture": np.ones((height, width), np.float32)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "frame.exr"
        for kind, alpha in kinds.items():
            record = Record(0, 0, State.TRACKED, Box(0, 0, width, height), 1.0, 1.0)
            matted = Matted(Frame(0, 0, 1 / _RATE, plate), alpha, record)
            encoder.write(matted, 0, path)  # the first one prepares the library
            spent = [_written(encoder, matted, path) for _ in range(options.frames)]
            wall, cpu = (statistics.median(column) for column in zip(*spent, strict=True))
            print(
                f"  {kind}: {1e3 * wall:.0f} ms on the clock (least {1e3 * min(spent)[0]:.0f}), "
                f"{1e3 * cpu:.0f} ms of processor time, {path.stat().st_size / 1e6:.1f} MB"
            )
    return 0


def _written(encoder: Encoder, matted: Matted, path: Path) -> tuple[float, float]:
    """Write one frame: seconds on the clock, and of processor time in all threads."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return used.ru_utime + used.ru_stime

    wall, cpu = time.perf_counter(), spent()
    encoder.write(matted, 0, path)
    return time.perf_counter() - wall, spent() - cpu


def _grainy(height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint16: soft colours with film grain of 300/65535."""
    noise = np.random.default_rng(0)
    small = noise.integers(0, 65536, (height // 64, width // 64, 3)).astype(np.float32)
    soft = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = noise.normal(0, 300, (height, width, 3)).astype(np.float32)
    return np.clip(soft * 0.7 + 8000 + grain, 0, 65535).astype(np.uint16)


def _disc(height: int, width: int, share: float) -> np.ndarray:
    """(H, W) float32: a disc that covers a share of the picture, with an edge of 20 pixels."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    away = np.hypot(x - width / 2, y - height / 2)
    return np.clip((np.sqrt(share * height * width / np.pi) - away) / 20 + 0.5, 0, 1).astype(np.float32)

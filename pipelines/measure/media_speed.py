"""How fast are reading and writing alone? The part of `benchmark.py` that measures it.

A 1080p ProRes 4444 clip is read and written as ProRes 4444 with alpha, without a model: by us (to 16-bit RGB, through
matted frames with an alpha, and back), and by ffmpeg's command line with the same codec settings and threads, which
copies the codec's own pixels from decoder to encoder. The two take turns, and the medians count. Processor time stands
beside wall time, since other work on the machine takes wall time from both.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mam_video import MamVideoError, open_clip
from mam_video.core.frames import Matted, Record, State
from mam_video.core.geometry import Box
from mam_video.core.settings import OutputSettings
from mam_video.media import open_writer
from mam_video.runtime.streams import ahead, ordered_map


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--frames", type=int, default=48)
    parser.add_argument("--repeat", type=int, default=5, help="how often the two take turns")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of ffmpeg; ours uses all cores")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if shutil.which("ffmpeg") is None:
        raise MamVideoError("ffmpeg's command line is not here to compare with")
    with tempfile.TemporaryDirectory() as folder:
        plate = Path(folder) / "plate.mov"
        _make(plate, options.frames, options.threads)
        threads = str(options.threads)
        theirs = ["ffmpeg", "-v", "error", "-y", "-threads", threads, "-i", str(plate), "-c:v", "prores_ks"]
        theirs += ["-profile:v", "4444", "-pix_fmt", "yuva444p10le", "-alpha_bits", "16", "-q:v", "1"]
        theirs += ["-threads", threads, str(Path(folder) / "theirs.mov")]
        spent: dict[str, list[tuple[float, float]]] = {"ffmpeg": [], "ours": []}
        for _ in range(options.repeat):
            for name, work in (
                ("ffmpeg", lambda: subprocess.run(theirs, check=True)),
                ("ours", lambda: transcode(plate, Path(folder) / "ours.mov")),
            ):
                spent[name].append(_measured(work))
                wall, cpu = spent[name][-1]
                print(f"  {name}: {wall:.2f} s, {cpu:.2f} s of processor time", flush=True)
    (wall, cpu), (our_wall, our_cpu) = (
        [statistics.median(column) for column in zip(*spent[name], strict=True)] for name in ("ffmpeg", "ours")
    )
    print(
        f"1080p ProRes 4444 to ProRes 4444 with alpha, {options.frames} frames, {threads} threads, medians of "
        f"{options.repeat}: {wall / our_wall:.2f} of ffmpeg's speed "
        f"({options.frames / our_wall:.1f} fps, ffmpeg {options.frames / wall:.1f}); "
        f"in processor time {cpu / our_cpu:.2f}"
    )
    return 0


def transcode(plate: Path, to: Path) -> None:
    """Every frame to 16-bit RGB and, with an alpha, back."""
    with open_clip(plate) as clip:
        alpha = np.ones(clip.info.size, np.float32)
        box = Box(0, 0, clip.info.width, clip.info.height)
        settings = OutputSettings(overwrite=True)
        matted = (
            Matted(frame, alpha, Record(frame.index, frame.pts, State.TRACKED, box, 1.0, 1.0))
            for frame in ahead(clip.frames(), 4, "decode")
        )
        with open_writer(str(to), clip.info, settings) as writer:
            for picture in ordered_map(writer.convert, matted, 2):
                writer.encode(picture)


def _measured(work: Callable[[], object]) -> tuple[float, float]:
    """Wall seconds, and processor seconds of this process and its children."""

    def spent() -> float:
        both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(each.ru_utime + each.ru_stime for each in both)

    wall, cpu = time.perf_counter(), spent()
    work()
    return time.perf_counter() - wall, spent() - cpu


def _make(path: Path, frames: int, threads: int) -> None:
    source = f"testsrc2=size=1920x1080:rate=24:duration={frames / 24:.6f},noise=alls=12:allf=t"
    command = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", source, "-frames:v", str(frames), "-c:v", "prores_ks"]
    command += ["-profile:v", "4444", "-pix_fmt", "yuv444p10le", "-q:v", "4", "-threads", str(threads), str(path)]
    subprocess.run(command, check=True)

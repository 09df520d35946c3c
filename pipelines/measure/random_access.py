"""How long does one frame of a movie take, fetched out of order: by our own seeking, and through decord?

    python pipelines/measure/random_access.py [CLIP] [--fetches 20]

Without a clip, ffmpeg encodes a smooth test picture as H.264. Four ways are timed: from the start, which is what a
reader does that has not read the clip before; by seeking with checksums, after one pass over the clip; through decord
with its opening and its checks, which is the first fetch; and through decord once it is open. Then a window of 48
frames is read, as corrections read windows. The pixels of decord are compared with ours.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from mam_video import MamVideoError, open_clip
from mam_video.core.frames import Frame
from mam_video.media import Reader, open_for_viewing
from mam_video.media.movie.decord_reader import DecordReader

T = TypeVar("T")
_WINDOW = 48


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip", nargs="?", type=Path)
    parser.add_argument("--fetches", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        clip = options.clip or _made(Path(folder) / "plate.mp4")
        with open_clip(clip) as reader:
            reader.index_for_random_access()
            whole, count = _timed(lambda: sum(1 for _ in reader.frames()))
            wanted = random.Random(1).sample(range(1, count), min(options.fetches, count - 1))
            ours, pictures = _fetched(reader, wanted)
            window, _ = _timed(lambda: list(reader.frames(max(count - 2 * _WINDOW, 0), count - _WINDOW)))
        print(f"{clip.name}: {count} frames of {reader.info.width}x{reader.info.height}, one pass {whole:.2f} s")
        with open_clip(clip) as fresh:
            start, _ = _timed(lambda: next(iter(fresh.frames(count * 3 // 4, count * 3 // 4 + 1))))
        print(f"  frame {count * 3 // 4} from the start: {1e3 * start:.0f} ms")
        print(f"  by our seeking, median of {len(wanted)}: {1e3 * ours:.0f} ms; window of {_WINDOW}: {window:.2f} s")
        with open_for_viewing(clip) as viewer:
            assert isinstance(viewer, DecordReader)
            first, _ = _timed(lambda: next(iter(viewer.frames(count * 3 // 4, count * 3 // 4 + 1))))
            if viewer.refusal:
                raise MamVideoError(f"decord does not read {clip.name}: {viewer.refusal}")
            theirs, seen = _fetched(viewer, wanted)
            window, _ = _timed(lambda: list(viewer.frames(max(count - 2 * _WINDOW, 1), count - _WINDOW)))
        print(f"  through decord, frame {count * 3 // 4} with opening and checks: {1e3 * first:.0f} ms")
        print(f"  through decord, median of {len(wanted)}: {1e3 * theirs:.0f} ms; window of {_WINDOW}: {window:.2f} s")
        apart = [np.abs(a.rgb8.astype(int) - b.rgb8) for a, b in zip(pictures, seen, strict=True)]
        print(f"  8-bit codes apart: mean {np.mean(apart):.2f}, 99th percentile {np.percentile(apart, 99):.0f}")
    return 0


def _fetched(reader: Reader, wanted: list[int]) -> tuple[float, list[Frame]]:
    """Median seconds of fetching each frame, and the first four frames."""
    spent, frames = [], []
    for index in wanted:
        seconds, frame = _timed(partial(_one, reader, index))
        spent.append(seconds)
        frames.append(frame)
        del frames[4:]
    return statistics.median(spent), frames


def _one(reader: Reader, index: int) -> Frame:
    return next(iter(reader.frames(index, index + 1)))


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def _made(path: Path) -> Path:
    if shutil.which("ffmpeg") is None:
        raise MamVideoError("ffmpeg's command line is needed to make a clip; name one")
    picture = "gblur=sigma=2,scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=1280x720:rate=25:duration=40",
        "-vf",
        picture,
    ]
    tags = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
    codec = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "50", "-bf", "2"]
    subprocess.run([*command, *codec, *tags, str(path)], check=True)
    return path


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MamVideoError as error:
        sys.exit(f"random_access: {error}")

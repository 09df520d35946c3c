"""Movies with known damage, and what reading one comes to; for the fuzz of `test_movie_damage.py`.

`python -m tests.media.damaged_movies MOVIE FRAMES FIRST LAST REPEAT` reads MOVIE with the damage of each seed, in a
process whose memory and time are bounded, and prints a line of JSON for each: what crashes, hangs or grows ends it.
"""

from __future__ import annotations

import faulthandler
import json
import resource
import signal
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

from mam_video.core.errors import MamVideoError
from mam_video.core.settings import InputSettings
from mam_video.media import open_clip

MOST_MEMORY: Final = 3 << 30  # bytes of address space
MOST_GROWTH: Final = 300 << 10  # KiB that reading a clip of 64x48 may add to what the process holds
MOST_SECONDS: Final = 20  # for one file of a dozen tiny frames, on a busy machine


def damaged(data: bytes, seed: int) -> bytes:
    """Cut off somewhere, or with some bits turned over: mostly near both ends, where the headers stand."""
    random = np.random.default_rng(seed)
    size = len(data)
    if random.random() < 0.25:
        return data[: int(random.integers(1, size))]
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 9))):
        where = random.random()
        place = int(random.integers(0, size))
        if where < 0.3:
            place %= min(size, 1200)
        elif where < 0.6:
            place = size - 1 - place % min(size, 2000)
        changed[place] ^= 1 << int(random.integers(0, 8))
    return bytes(changed)


def outcome(path: Path, settings: InputSettings) -> dict[str, Any]:
    """Either `frames` that came with those that are named `broken`, or the one line of the `error`."""
    try:
        with open_clip(path, settings) as clip:
            last = None
            count = 0
            for count, frame in enumerate(clip.frames(), 1):
                assert frame.index == count - 1
                assert frame.rgb.shape == (*clip.info.size, 3)
                assert last is None or frame.pts > last
                last = frame.pts
            return {"frames": count, "broken": clip.broken, "notes": clip.info.notes}
    except MamVideoError as error:
        return {"error": str(error)}


def main(movie: Path, first: int, last: int, on_error: Any) -> None:
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    settings = InputSettings(on_error=on_error)
    data = movie.read_bytes()
    path = movie.with_name(f"damaged-{on_error}{movie.suffix}")
    path.write_bytes(data)
    print(json.dumps({"seed": -1, **outcome(path, settings)}), flush=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(first, last):
        path.write_bytes(damaged(data, seed))
        print(f"seed {seed}", file=sys.stderr, flush=True)
        signal.alarm(MOST_SECONDS)  # ends the process, whatever it is in
        found = outcome(path, settings)
        signal.alarm(0)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown < MOST_GROWTH, f"{grown} KiB more"
        print(json.dumps({"seed": seed, **found}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])

"""How well cuts are found: edited sequences whose joins are known, of real clips.

    measure_cuts.py [--data DIR] [--sequences N] [--first SEED] [--grey]

DIR holds `davis/<clip>/frames/*.jpg` and `clips/*.mp4`. Each sequence joins five shots of them by hard cuts, dissolves
of 8 to 24 frames or fades through black; within shots lie camera flashes of one to three frames, fast pans, punch-ins
(the same take cut to a closer crop) and shots of constant shake. Measured, over all sequences: precision and recall of
hard cuts, exact to the frame; how many dissolves and fades were noticed within their range; false cuts in flashes.
`--grey` takes the colours away, as of black-and-white film.
PySceneDetect (`pip install scenedetect-headless`) is measured on the same frames where it is installed.

What counts and the threshold were chosen on the seeds 0-19; judge on others, as the default 100-119.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from mam_video.core.frames import Frame
from mam_video.core.settings import Settings
from mam_video.motion.flow import with_motion
from mam_video.motion.shot_detection import CutFinder

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev"
SIZE = (360, 640)  # (H, W) of the sequences
_MOVIES = ("bbb_burrow_720p25_audio", "bbb_bunny_720p24", "person_juggle_720p24", "dog_720p2997_audio")


@dataclass
class Edit:
    """A sequence and what is known of it. Indices are of the first frame of the new shot; ranges half-open."""

    frames: list[np.ndarray] = field(repr=False, default_factory=list)
    hard: list[int] = field(default_factory=list)
    dissolves: list[tuple[int, int]] = field(default_factory=list)
    fades: list[tuple[int, int]] = field(default_factory=list)
    flashes: list[tuple[int, int]] = field(default_factory=list)

    def as_frames(self) -> Iterator[Frame]:
        for index, rgb in enumerate(self.frames):
            yield Frame(index, index, Fraction(1, 24), rgb)


@cache
def takes(data: Path) -> dict[str, list[np.ndarray]]:
    """Every take, a little larger than SIZE (so that a crop can move in it), as (450, 800, 3) uint8."""
    found: dict[str, list[np.ndarray]] = {}
    for folder in sorted((data / "davis").iterdir()):
        paths = sorted((folder / "frames").glob("*.jpg")) if folder.is_dir() else []
        if paths:
            found[folder.name] = [_sized(cv2.cvtColor(cv2.imread(str(p)), cv2.COLOR_BGR2RGB)) for p in paths]
    for name in _MOVIES:
        with av.open(str(data / "clips" / f"{name}.mp4")) as movie:
            frames = (f.to_ndarray(format="rgb24") for f in movie.decode(video=0))
            found[name] = [_sized(rgb) for k, rgb in enumerate(frames) if k < 160]
    return found


def make_edit(seed: int, data: Path = DATA) -> Edit:
    """A sequence of five shots; the same seed gives the same sequence."""
    rng = np.random.default_rng(seed)
    all_takes = takes(data)
    names = list(all_takes)
    edit = Edit()
    before = ""
    for k in range(5):
        punch_in = bool(k and rng.random() < 0.2)
        name = before if punch_in else str(rng.choice([n for n in names if n != before]))
        shot, flashes = _shot(all_takes[name], rng, closer=punch_in)
        join = "hard" if k == 0 or punch_in else str(rng.choice(["hard", "hard", "dissolve", "fade"]))
        if k == 0:
            start = 0
        elif join == "hard":
            start = len(edit.frames)
            edit.hard.append(start)
        elif join == "dissolve":
            length = min(int(rng.integers(8, 25)), len(shot) // 2 - 2)
            start = len(edit.frames) - length
            edit.dissolves.append((start, start + length))
            for i in range(length):
                share = (i + 1) / (length + 1)
                edit.frames[start + i] = cv2.addWeighted(edit.frames[start + i], 1 - share, shot[i], share, 0)
        else:
            length = int(rng.integers(6, 13))
            start = len(edit.frames)
            edit.fades.append((start - length, start + length))
            for i in range(length):
                edit.frames[start - length + i] = _lit(edit.frames[start - length + i], 1 - (i + 1) / length, 0)
                shot[i] = _lit(shot[i], (i + 1) / length, 0)
        edit.flashes += [(start + a, start + b) for a, b in flashes]
        done = len(edit.frames) - start
        edit.frames += shot[done:]
        before = name
    return edit


def _shot(
    take: list[np.ndarray], rng: np.random.Generator, *, closer: bool
) -> tuple[list[np.ndarray], list[tuple[int, int]]]:
    """52 to 72 frames at most of a take, with what happens in it; flashes lie clear of both ends, where joins are."""
    length = min(int(rng.integers(52, 73)), len(take))
    begin = int(rng.integers(0, len(take) - length + 1))
    way = str(rng.choice(["still", "still", "pan", "shake"]))
    h, w = SIZE
    shown = []
    flip = bool(rng.random() < 0.5)
    speed = float(rng.uniform(15, 50))
    for i, rgb in enumerate(take[begin : begin + length]):
        x, y = (rgb.shape[1] - w) / 2, (rgb.shape[0] - h) / 2
        if way == "shake":
            x, y = x + rng.normal(0, 8), y + rng.normal(0, 6)
        if way == "pan":  # across a picture laid side by side with its mirror, with the blur of half a frame
            rgb = np.concatenate([rgb, rgb[:, ::-1]] * 2, axis=1)
            swing = max(0.0, np.sin(2 * np.pi * i / 40)) * speed  # pixels a frame
            swung = i // 40 * 2 + 1 - np.cos(2 * np.pi * min(i % 40, 20) / 40)
            x += speed * 40 / (2 * np.pi) * swung
            rgb = cv2.blur(rgb, (max(int(swing / 2), 1), 1))
        if closer:
            half = cv2.getRectSubPix(rgb, (w * 5 // 8, h * 5 // 8), (x + w * 0.45, y + h * 0.45))
            picture = cv2.resize(half, (w, h), interpolation=cv2.INTER_LINEAR)
        else:
            picture = cv2.getRectSubPix(rgb, (w, h), (x + w / 2, y + h / 2))
        shown.append(picture[:, ::-1].copy() if flip else picture)
    flashes: list[tuple[int, int]] = []
    if length >= 56 and rng.random() < 0.7:
        at, long = int(rng.integers(26, length - 27)), int(rng.integers(1, 4))
        flashes.append((at, at + long))
        for i in range(long):
            strength = 1 - 0.3 * i
            shown[at + i] = _lit(shown[at + i], 1 + 1.2 * strength, float(rng.uniform(30, 120)) * strength)
    return shown, flashes


def _lit(rgb: np.ndarray, gain: float, more: float) -> np.ndarray:
    return np.asarray(np.clip(rgb.astype(np.float32) * gain + more, 0, 255).round().astype(np.uint8))


def _sized(rgb: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.resize(rgb, (800, 450), interpolation=cv2.INTER_AREA))


@dataclass
class Score:
    """hard: (true positives, found in all, in truth); noticed: ranges within which a cut was placed, of how many."""

    right: int = 0
    found: int = 0
    true: int = 0
    dissolves: int = 0
    fades: int = 0
    in_flash: int = 0

    def add(self, edit: Edit, cuts: list[int]) -> None:
        """Cuts placed in dissolves and fades are counted there, neither right nor wrong."""
        ranges = [*edit.dissolves, *edit.fades]
        self.true += len(edit.hard)
        self.right += len(set(cuts) & set(edit.hard))
        self.found += sum(cut in edit.hard or not _within(cut, ranges) for cut in cuts)
        self.dissolves += sum(any(_within(cut, [r]) for cut in cuts) for r in edit.dissolves)
        self.fades += sum(any(_within(cut, [r]) for cut in cuts) for r in edit.fades)
        self.in_flash += sum(cut not in edit.hard and _within(cut, edit.flashes) for cut in cuts)

    @property
    def precision(self) -> float:
        return self.right / max(self.found, 1)

    @property
    def recall(self) -> float:
        return self.right / max(self.true, 1)


def _within(index: int, ranges: list[tuple[int, int]]) -> bool:
    """In one of them, or just behind its end: where a flash ends, or a dissolve has come through."""
    return any(a <= index <= b for a, b in ranges)


def ours(edit: Edit, threshold: float | None = None) -> list[int]:
    settings = Settings()
    cuts = settings.cuts if threshold is None else replace(settings.cuts, threshold=threshold)
    finder = CutFinder(replace(cuts, on_cut="continue"), settings.motion)
    for _ in finder.watch(with_motion(edit.as_frames(), settings.motion)):
        pass
    return finder.found


def pyscenedetect(make: Callable[[], Any]) -> Callable[[Edit], list[int]]:
    from scenedetect import FrameTimecode

    def find(edit: Edit) -> list[int]:
        detector = make()
        cuts: list[int] = []
        for index, rgb in enumerate(edit.frames):
            bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
            cuts += [cut.frame_num for cut in detector.process_frame(FrameTimecode(index, 24.0), bgr)]
        cuts += [cut.frame_num for cut in detector.post_process(FrameTimecode(len(edit.frames) - 1, 24.0))]
        return cuts

    return find


def candidates() -> dict[str, Callable[[Edit], list[int]]]:
    found: dict[str, Callable[[Edit], list[int]]] = {"motion and colour (cuts.py)": ours}
    try:
        from scenedetect.detectors import AdaptiveDetector, ContentDetector
    except ImportError:
        print("PySceneDetect is not installed: pip install scenedetect-headless", file=sys.stderr)
        return found
    for threshold in (27.0, 45.0):
        name = f"PySceneDetect content {threshold:g}" + (" (default)" if threshold == 27 else "")
        found[name] = pyscenedetect(partial(ContentDetector, threshold=threshold, min_scene_len=4))
    for ratio in (3.0,):
        name = f"PySceneDetect adaptive {ratio:g}" + (" (default)" if ratio == 3 else "")
        found[name] = pyscenedetect(partial(AdaptiveDetector, adaptive_threshold=ratio, min_scene_len=4))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="How well cuts are found, on edited sequences whose joins are known.")
    parser.add_argument("--data", type=Path, default=DATA, help="where davis/ and clips/ lie")
    parser.add_argument("--sequences", type=int, default=20)
    parser.add_argument("--first", type=int, default=100, help="seed of the first sequence")
    parser.add_argument("--grey", action="store_true", help="without colours")
    options = parser.parse_args()
    finders = candidates()
    scores = {name: Score() for name in finders}
    seconds = dict.fromkeys(finders, 0.0)
    frames = dissolves = fades = flashes = 0
    for seed in range(options.first, options.first + options.sequences):
        edit = make_edit(seed, options.data)
        if options.grey:
            edit.frames = [np.repeat(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2) for f in edit.frames]
        frames += len(edit.frames)
        dissolves, fades, flashes = (
            dissolves + len(edit.dissolves),
            fades + len(edit.fades),
            flashes + len(edit.flashes),
        )
        for name, find in finders.items():
            start = time.perf_counter()
            cuts = find(edit)
            seconds[name] += time.perf_counter() - start
            scores[name].add(edit, cuts)
            wrong = sorted(set(cuts) ^ set(edit.hard))
            if wrong:
                print(f"seed {seed}, {name}: hard {edit.hard}, found {cuts}", file=sys.stderr, flush=True)
    print(f"{options.sequences} sequences, {frames} frames, {flashes} flashes")
    print("| detector | precision | recall | dissolves noticed | fades noticed | cuts in flashes | ms a frame |")
    print("|---|---|---|---|---|---|---|")
    for name, s in scores.items():
        print(
            f"| {name} | {s.precision:.2f} ({s.right}/{s.found}) | {s.recall:.2f} ({s.right}/{s.true}) | "
            f"{s.dissolves}/{dissolves} | {s.fades}/{fades} | {s.in_flash} | {seconds[name] / frames * 1000:.1f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

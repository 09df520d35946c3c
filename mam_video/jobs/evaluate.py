"""Evaluate mattes against ground truth: pair the files, compute metrics, collect the numbers.

`evaluate` compares frame by frame; `evaluate_instances` compares pictures that hold several subjects. Pairs stream
through, so memory does not grow with the clip.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mam_video.core.errors import UsageError, need_extra
from mam_video.jobs.pairing import Named, pair_clips, paired, sizes_of, some_of, subjects_in_folder
from mam_video.media.still_images import read_alpha
from mam_video.metrics import METRICS, InstanceQuality, Matches, imq, match_instances, score_frame
from mam_video.metrics.instances import METRICS as INSTANCE_METRICS
from mam_video.report.files import write_json
from mam_video.runtime.streams import ordered_map

VERSION = 1  # of the JSON's layout
_THREADS = min(os.cpu_count() or 1, 4)  # pairs scored at once; NumPy and OpenCV release the interpreter's lock
OnFrame = Callable[[str, str], None]  # clip and frame, as each is done


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Options of an evaluation.

    metrics       names of `metrics.METRICS`; empty: J and F for masks; SAD, MSE, MAD, Grad and Conn for alphas, and
                  dtSSD for frames of a clip
    masks         compare masks: all values above `above`
    stills        the pictures are no frames of a clip: no dtSSD, and their sizes may differ
    stretch_grad  compute Grad as VideoMatte's low-resolution sheet does
    skip_ends     leave out the first and the last frame of each clip, as DAVIS does
    partial       evaluate what was predicted; the truth may have more
    """

    metrics: tuple[str, ...] = ()
    masks: bool = False
    stills: bool = False
    stretch_grad: bool = False
    above: float = 0.5
    skip_ends: bool = False
    partial: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.metrics if name not in METRICS]
        if unknown:
            raise UsageError(f"no metric is called '{unknown[0]}'; choose from {', '.join(METRICS)}")
        if not 0 <= self.above < 1:
            raise UsageError(f"a mask is what is above a value from 0 to less than 1, not {self.above:g}")
        if self.stills and "dtssd" in self.metrics:
            raise UsageError("dtSSD compares a frame with the one before it: it does not go with stills")

    @property
    def chosen(self) -> tuple[str, ...]:
        """The metrics that are computed, in the order of `metrics.METRICS`."""
        if self.metrics:
            return tuple(name for name in METRICS if name in self.metrics)
        if self.masks:
            return ("j", "f")
        return ("sad", "mse", "mad", "grad", "conn") + (() if self.stills else ("dtssd",))


@dataclass(frozen=True, slots=True)
class Scored:
    """The values of one clip: one for each frame and metric, in the units of `metrics.METRICS`; NaN where it has none.

    ends  whether the means count the first and the last frame
    """

    name: str
    frames: tuple[str, ...]
    values: dict[str, tuple[float, ...]] = field(repr=False)
    ends: bool = True

    def mean(self) -> dict[str, float]:
        """Average over the frames that have a value; NaN where none has."""
        part = slice(None) if self.ends else slice(1, -1)
        return {name: _mean(values[part]) for name, values in self.values.items()}

    def rows(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Yield each frame's name and values."""
        for i, frame in enumerate(self.frames):
            yield frame, {name: values[i] for name, values in self.values.items()}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of `evaluate`."""

    prediction: str
    truth: str
    clips: tuple[Scored, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.clips[0].values)

    def mean(self) -> dict[str, float]:
        """Average over the clips; each counts once, whatever its length."""
        means = [clip.mean() for clip in self.clips]
        return {name: _mean(m[name] for m in means) for name in self.metrics}

    @property
    def judge(self) -> str:
        """The metric that ranks frames: MAD, for masks J, else the first."""
        return next((name for name in ("mad", "j") if name in self.metrics), self.metrics[0])

    def worst(self, count: int) -> list[tuple[str, str, dict[str, float]]]:
        """Return the worst frames by `judge`, worst first: clip, frame, values."""
        sign = 1 if METRICS[self.judge].higher_is_better else -1
        rows = [(clip.name, frame, values) for clip in self.clips for frame, values in clip.rows()]
        rows = [row for row in rows if not math.isnan(row[2][self.judge])]
        return sorted(rows, key=lambda row: sign * row[2][self.judge])[:count]

    def as_dict(self) -> dict[str, Any]:
        clips: list[dict[str, Any]] = []
        for clip in self.clips:
            clips.append({
                "name": clip.name,
                "mean": _plain(clip.mean()),
                "frames": [{"name": frame, **_plain(values)} for frame, values in clip.rows()],
            })  # fmt: skip
            if "dtssd" in clip.values:  # the published sheets write 0 for the first frame and average it in
                clips[-1]["dtssd_with_leading_zero"] = float(np.nansum(clip.values["dtssd"]) / len(clip.frames))
        return {
            "version": VERSION,
            "prediction": self.prediction,
            "truth": self.truth,
            "units": {name: METRICS[name].label for name in self.metrics},
            "mean": _plain(self.mean()),
            "worst": [{"clip": c, "frame": f, **_plain(values)} for c, f, values in self.worst(10)],
            "clips": clips,
        }

    def save(self, path: Path) -> None:
        """Write as JSON; whole or not at all. Raises: MediaError."""
        write_json(path, self.as_dict(), "the evaluation")


@dataclass(frozen=True, slots=True)
class InstanceEvaluation:
    """The result of `evaluate_instances`. `absent`: pictures without a prediction; their subjects count as missed."""

    prediction: str
    truth: str
    pictures: dict[str, Matches] = field(repr=False)
    absent: tuple[str, ...] = ()

    @property
    def quality(self) -> InstanceQuality:
        return imq(self.pictures.values())

    def worst(self, count: int) -> list[tuple[str, float]]:
        """Return the pictures of lowest IMQ by MAD (or the first metric), worst first: name and IMQ in 0..1."""
        found = [(name, next(iter(imq([m]).imq.values()))) for name, m in self.pictures.items()]
        return sorted(found, key=lambda row: row[1])[:count]

    def as_dict(self) -> dict[str, Any]:
        quality = self.quality
        return {
            "version": VERSION,
            "prediction": self.prediction,
            "truth": self.truth,
            "units": "IMQ, MQ and RQ in 0..1",
            "imq": quality.imq,
            "mq": quality.mq,
            "rq": quality.rq,
            "absent": list(self.absent),
            "pictures": [
                {
                    "name": name,
                    "true_positives": m.true_positives,
                    "false_positives": m.false_positives,
                    "false_negatives": m.false_negatives,
                    "similarity": m.similarity,
                }
                for name, m in self.pictures.items()
            ],
        }

    def save(self, path: Path) -> None:
        """Write as JSON; whole or not at all. Raises: MediaError."""
        write_json(path, self.as_dict(), "the evaluation")


def evaluate(
    prediction: str | Path, truth: str | Path, judging: Judging | None = None, on_frame: OnFrame | None = None
) -> Evaluation:
    """Evaluate mattes frame by frame.

    Args:
        prediction, truth: two clips, two sequences or two folders of clips; see `media.alphas`. Pictures are paired by
            name, or where no name is the same by the number it ends with; a movie's frames by their order; clips by
            name, unless there is one on either side.
        judging: the options.
    Raises: UsageError, the two differ in number, names or size; MediaError, a file cannot be read.
    """
    judging = judging or Judging()
    clips = []
    for name, ours, theirs in pair_clips(prediction, truth, judging.partial):
        clips.append(_score(name, paired(ours, theirs, partial=judging.partial), judging, on_frame))
    return Evaluation(str(prediction), str(truth), tuple(clips))


def evaluate_instances(
    prediction: str | Path,
    truth: str | Path,
    *,
    metrics: tuple[str, ...] = INSTANCE_METRICS,
    partial: bool = False,
    on_frame: OnFrame | None = None,
) -> InstanceEvaluation:
    """Evaluate pictures of several subjects by IMQ.

    Args:
        prediction, truth: folders with a folder for each picture, which holds one alpha for each subject, of any name;
            or with one alpha for each picture, which then has one subject.
        metrics: names of `metrics.instances.METRICS`.
        partial: leave out pictures without a prediction, instead of counting their subjects as missed.
    Raises: UsageError, the folders do not belong together; MediaError, a file cannot be read.
    """
    need_extra("scipy", "evaluate", "matching subjects")
    ours, theirs = subjects_in_folder(Path(prediction)), subjects_in_folder(Path(truth))
    surplus = [name for name in ours if name not in theirs]
    if surplus:
        raise UsageError(f"{prediction}: {some_of(surplus)} has no counterpart in {truth}")
    if not ours:
        raise UsageError(f"{prediction}: holds no alphas")
    absent = tuple(name for name in theirs if name not in ours)
    found: dict[str, Matches] = {}
    for name, files in theirs.items():
        if partial and name in absent:
            continue
        alphas = [read_alpha(f) for f in (*ours.get(name, ()), *files)]
        shapes = {a.shape for a in alphas}
        if len(shapes) > 1:
            raise UsageError(f"{name}: alphas of one picture differ in size: {sizes_of(*sorted(shapes)[:2])}")
        count = len(ours.get(name, ()))
        found[name] = match_instances(alphas[:count], alphas[count:], metrics)
        if on_frame is not None:
            on_frame("", name)
    return InstanceEvaluation(str(prediction), str(truth), found, () if partial else absent)


def _score(name: str, pairs: Iterator[Named], judging: Judging, on_frame: OnFrame | None) -> Scored:
    chosen = judging.chosen
    frames: list[str] = []
    columns: dict[str, list[float]] = {n: [] for n in chosen}

    def score(item: tuple[Named, Named | None]) -> tuple[str, dict[str, float]]:
        (frame, ours, theirs), before = item
        past = before[1:] if before is not None else None
        return frame, score_frame(
            chosen, ours, theirs, past, stretch_grad=judging.stretch_grad, above=judging.above
        )  # fmt: skip

    with closing(ordered_map(score, _with_past(name, pairs, "dtssd" in chosen), _THREADS)) as scores:
        for frame, values in scores:
            frames.append(frame)
            for metric, value in values.items():
                columns[metric].append(value)
            if on_frame is not None:
                on_frame(name, frame)
    if not frames or (judging.skip_ends and len(frames) < 3):
        raise UsageError(f"{name or 'the clip'}: has {len(frames)} frames, too few to judge")
    return Scored(name, tuple(frames), {n: tuple(v) for n, v in columns.items()}, not judging.skip_ends)


def _with_past(clip: str, pairs: Iterator[Named], needed: bool) -> Iterator[tuple[Named, Named | None]]:
    """Yield each pair with the one before it; both must have one size."""
    past: Named | None = None
    for pair in pairs:
        if past is not None and past[2].shape != pair[2].shape:
            raise UsageError(
                f"{clip + ': ' if clip else ''}'{pair[0]}' and '{past[0]}' before it differ in size: "
                f"{sizes_of(pair[2].shape, past[2].shape)}; if they are not frames of a clip, give --stills"
            )
        yield pair, past
        past = pair if needed else None


def _mean(values: Iterable[float]) -> float:
    known = [v for v in values if not math.isnan(v)]
    return float(np.mean(known)) if known else math.nan


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    """Replace NaN by None, which JSON writes as null."""
    return {name: None if math.isnan(value) else value for name, value in values.items()}

"""How well a subject is followed from one box: region J on clips with known masks.

    evaluate_davis.py --model classic [--clips DIR] [--json OUT] [--sheet DIR] [--correct]

DIR holds clips as DAVIS lays them out: <clip>/frames/*.jpg and <clip>/masks/*.png (0 or 255). The tracker is given the
tight box of the first true mask and nothing else. J is the intersection over union of its mask with the true one,
averaged over all frames but the first and the last (Perazzi et al., CVPR 2016, section 5). The row "frozen" is the
first true mask kept for the whole clip: what doing nothing gets. Flagged frames are counted, those of J of 0.7 and more
among them, and frames of J under 0.5 that are not flagged.

With --correct each clip is followed again with one correction, the true box on the frame whose J is lowest (of those
with frames before and after them to be improved), as `mam-video matte --prompt 0:box=... --prompt N:box=...` does. J is
then averaged over the frames before it and over those after it, without the two prompted frames and the last.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from mam_video.core.crop import Crop
from mam_video.core.errors import MamVideoError, UsageError
from mam_video.core.frames import Frame, State
from mam_video.core.geometry import tight_box
from mam_video.core.settings import Settings
from mam_video.models.base import Model
from mam_video.models.registry import load_model
from mam_video.motion.flow import with_motion
from mam_video.prompts.prompt import Prompt, Prompts
from mam_video.tracking.bidirectional import track_prompts
from mam_video.tracking.track_back import checked
from mam_video.tracking.tracker import track
from mam_video.tracking.types import MaskObservation, TrackedFrame

CLIPS = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev" / "davis"


def read_clip(folder: Path) -> tuple[list[Path], list[Path]]:
    """The paths of a clip's frames and masks, in order."""
    frames, masks = sorted((folder / "frames").glob("*.jpg")), sorted((folder / "masks").glob("*.png"))
    if len(frames) < 3 or len(frames) != len(masks):
        raise UsageError(f"{folder}: needs frames/*.jpg and masks/*.png, as many of each and 3 at least")
    return frames, masks


def read_frames(paths: list[Path], start: int = 0) -> Iterator[Frame]:
    for index, path in enumerate(paths[start:], start):
        yield Frame(index, index, Fraction(1, 24), cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool."""
    return np.asarray(np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) > 127)


def mask_of(logits: np.ndarray, view: Crop, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: a track's mask at the frame's resolution."""
    given = torch.from_numpy(logits.astype(np.float32))[None, None]
    part = view.to_rectangle(given)[0, 0].numpy() > 0
    return view.paste(part, size)


def region_j(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two (H, W) bool masks; 1 where both are empty."""
    union = float((mask | truth).sum())
    return float((mask & truth).sum()) / union if union else 1.0


def _found(frames: list[Path], prompt: Prompt, model: Model, settings: Settings) -> Iterator[MaskObservation]:
    """Track a clip from the prompt on its first frame, as `mam-video matte` does."""
    batch = settings.model.batch or 1
    if settings.track.passes == 1:
        moved = with_motion(read_frames(frames), settings.motion)
        follow = track(moved, model, prompt, settings=settings.track, view=settings.view, batch=batch)
        yield from (tracked.observation for tracked in checked(follow, model, settings))
        return
    with tempfile.TemporaryDirectory() as kept:
        prompts = Prompts.of({0: prompt})
        yield from track_prompts(
            lambda start, stop: read_frames(frames[:stop], start), prompts, model, settings, Path(kept), batch=batch
        )


def evaluate(folder: Path, model: Model, settings: Settings, sheet: Path | None) -> dict[str, Any]:
    """One clip. Returns J by frame, states, and frames a second (decoding, flow and tracking)."""
    frames, masks = read_clip(folder)
    truths = [read_mask(path) for path in masks]
    results: list[float] = []
    states: list[str] = []
    pictures: list[np.ndarray] = []
    started = time.perf_counter()
    inspecting = 0.0
    for found, path, truth in zip(
        _found(frames, Prompt(tight_box(truths[0])), model, settings), frames, truths, strict=True
    ):
        paused = time.perf_counter()
        mask = mask_of(found.logits, found.crop, truth.shape)
        results.append(region_j(mask, truth))
        states.append(found.record.state.value)
        if sheet is not None:
            frame = next(read_frames([path]))
            pictures.append(drawn(TrackedFrame(frame, None, found), mask, truth, results[-1]))
        inspecting += time.perf_counter() - paused
    seconds = time.perf_counter() - started - inspecting
    if sheet is not None:
        sheet.mkdir(parents=True, exist_ok=True)
        write_sheet(pictures, sheet / f"{folder.name}.jpg")
    return {
        "clip": folder.name,
        "j": float(np.mean(results[1:-1])),
        "frozen": float(np.mean([region_j(truths[0], t) for t in truths[1:-1]])),
        "fps": len(truths) / seconds,
        "states": dict(Counter(states)),
        "flagged": sum(State(s).flagged for s in states),
        "good_flagged": sum(State(s).flagged for j, s in zip(results, states, strict=True) if j >= 0.7),
        "wrong_unflagged": sum(not State(s).flagged for j, s in zip(results, states, strict=True) if j < 0.5),
        "frames": [{"j": round(j, 4), "state": s} for j, s in zip(results, states, strict=True)],
    }


@dataclass(frozen=True)
class Corrected:
    """What one correction does to a clip; mean J of the frames before and after it, without and with it.

    frame   the corrected frame; `lowest` its J before
    frames  J of each frame with it
    """

    clip: str
    frame: int
    lowest: float
    before: tuple[float, float]
    after: tuple[float, float]
    frames: list[float]

    def rises(self) -> tuple[float, float]:
        return self.before[1] - self.before[0], self.after[1] - self.after[0]


def correct(folder: Path, row: dict[str, Any], model: Model, settings: Settings) -> Corrected:
    """The clip of `row` (from `evaluate`) followed again, with the true box on its worst frame."""
    frames, masks = read_clip(folder)
    truths = [read_mask(path) for path in masks]
    alone = [frame["j"] for frame in row["frames"]]
    worst = min((k for k in range(2, len(alone) - 2) if truths[k].any()), key=lambda k: alone[k])
    prompts = Prompts.of({k: Prompt(tight_box(truths[k])) for k in (0, worst)})
    with tempfile.TemporaryDirectory() as kept:
        found = list(
            track_prompts(
                lambda start, stop: read_frames(frames[:stop], start), prompts, model, settings, Path(kept),
                batch=settings.model.batch or 1,
            )
        )  # fmt: skip
    again = [
        region_j(mask_of(observation.logits, observation.crop, truth.shape), truth)
        for observation, truth in zip(found, truths, strict=True)
    ]

    def means(part: slice) -> tuple[float, float]:
        return float(np.mean(alone[part])), float(np.mean(again[part]))

    before, after = means(slice(1, worst)), means(slice(worst + 1, -1))
    return Corrected(folder.name, worst, alone[worst], before, after, [round(j, 4) for j in again])


def drawn(tracked: TrackedFrame, mask: np.ndarray, truth: np.ndarray, j: float) -> np.ndarray:
    """(h, w, 3) uint8 BGR: the mask in green, the true outline in red, box and view, and what the record says."""
    picture = cv2.cvtColor(tracked.frame.rgb8, cv2.COLOR_RGB2BGR)
    picture[mask] = picture[mask] // 2 + np.array([0, 127, 0], np.uint8)
    outlines, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, (0, 0, 255), 2)
    for box, colour in ((tracked.record.box, (0, 255, 255)), (tracked.crop.box, (255, 160, 0))):
        x0, y0, x1, y1 = (round(v) for v in box.xyxy)
        cv2.rectangle(picture, (x0, y0), (x1, y1), colour, 2)
    record = tracked.record
    text = f"{record.index} {record.state.value} score {record.score:.2f} J {j:.2f}"
    cv2.putText(picture, text, (8, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 2, cv2.LINE_AA)
    h, w = picture.shape[:2]
    return np.asarray(cv2.resize(picture, (426, round(426 * h / w)), interpolation=cv2.INTER_AREA))


def write_sheet(pictures: list[np.ndarray], path: Path, columns: int = 4, most: int = 24) -> None:
    """A contact sheet of at most `most` pictures spread over the clip."""
    chosen = [pictures[i] for i in np.unique(np.linspace(0, len(pictures) - 1, most).round().astype(int))]
    chosen += [np.zeros_like(chosen[0])] * (-len(chosen) % columns)
    rows = [np.hstack(chosen[i : i + columns]) for i in range(0, len(chosen), columns)]
    cv2.imwrite(str(path), np.vstack(rows))


def _told(means: tuple[float, float]) -> str:
    return f"{means[0]:.3f} {means[1]:.3f} ({means[1] - means[0]:+.3f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="classic")
    parser.add_argument("--clips", type=Path, default=CLIPS, metavar="DIR")
    parser.add_argument("--config", metavar="PRESET|FILE.toml")
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--sheet", type=Path, metavar="DIR")
    parser.add_argument("--correct", action="store_true", help="again, with one true box on the worst frame")
    arguments = parser.parse_args()
    try:
        settings = Settings().with_file(arguments.config) if arguments.config else Settings()
        folders = sorted(p for p in arguments.clips.glob("*") if (p / "frames").is_dir())
        if not folders:
            raise UsageError(f"{arguments.clips}: holds no clips (CLIP/frames/*.jpg and CLIP/masks/*.png)")
        settings = settings.with_values({"model": {"name": arguments.model}}, "--model")
        model = load_model(settings.model)
        print(f"{'clip':16} {'J':>6} {'frozen':>7} {'fps':>6}  {'flagged':>7} {'J>=.7':>6} {'J<.5 not':>8}  states")
        rows = []
        for folder in folders:
            row = evaluate(folder, model, settings, arguments.sheet)
            rows.append(row)
            said = ", ".join(f"{state} {count}" for state, count in row["states"].items())
            print(
                f"{row['clip']:16} {row['j']:6.3f} {row['frozen']:7.3f} {row['fps']:6.1f}  {row['flagged']:7d}"
                f" {row['good_flagged']:6d} {row['wrong_unflagged']:8d}  {said}",
                flush=True,
            )
        corrected = []
        if arguments.correct:
            print(f"\n{'clip':16} {'frame':>6} {'J':>6}   mean J before it: alone, with   after it: alone, with")
            for folder, row in zip(folders, rows, strict=True):
                corrected.append(one := correct(folder, row, model, settings))
                print(
                    f"{one.clip:16} {one.frame:6d} {one.lowest:6.3f}   {_told(one.before)}   {_told(one.after)}",
                    flush=True,
                )
            rises = np.mean([one.rises() for one in corrected], axis=0)
            print(f"{'mean rise':16} {'':6} {'':6}   {rises[0]:+.3f} before it   {rises[1]:+.3f} after it")
    except MamVideoError as error:
        print(f"evaluate_davis: {error}", file=sys.stderr)
        return error.exit_code
    mean = {key: float(np.mean([row[key] for row in rows])) for key in ("j", "frozen", "fps")}
    print(f"{'mean':16} {mean['j']:6.3f} {mean['frozen']:7.3f} {mean['fps']:6.1f}")
    if arguments.json is not None:
        told = {"model": arguments.model, "mean": mean, "clips": rows, "corrected": [asdict(one) for one in corrected]}
        arguments.json.write_text(json.dumps(told, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

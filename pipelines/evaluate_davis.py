"""How well a subject is followed from one box: region J on clips with known masks.

    evaluate_davis.py --model classic [--clips DIR] [--json OUT] [--sheet DIR]

DIR holds clips as DAVIS lays them out: <clip>/frames/*.jpg and <clip>/masks/*.png (0 or 255). The tracker is given the
tight box of the first true mask and nothing else. J is the intersection over union of its mask with the true one,
averaged over all frames but the first and the last (Perazzi et al., CVPR 2016, section 5). The row "frozen" is the
first true mask kept for the whole clip: what doing nothing gets.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from mam_video.errors import MamVideoError, UsageError
from mam_video.frames import Frame
from mam_video.models.base import Model
from mam_video.models.registry import load_model
from mam_video.motion import with_motion
from mam_video.prompts import Box, Prompt
from mam_video.settings import Settings
from mam_video.track import Tracked, track

CLIPS = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "dev" / "davis"


def read_clip(folder: Path) -> tuple[list[Path], list[Path]]:
    """The paths of a clip's frames and masks, in order."""
    frames, masks = sorted((folder / "frames").glob("*.jpg")), sorted((folder / "masks").glob("*.png"))
    if len(frames) < 3 or len(frames) != len(masks):
        raise UsageError(f"{folder}: needs frames/*.jpg and masks/*.png, as many of each and 3 at least")
    return frames, masks


def read_frames(paths: list[Path]) -> Iterator[Frame]:
    for index, path in enumerate(paths):
        yield Frame(index, index, Fraction(1, 24), cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool."""
    return np.asarray(np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)) > 127)


def tight_box(mask: np.ndarray) -> Box:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def mask_of(tracked: Tracked) -> np.ndarray:
    """(H, W) bool: the track's mask at the frame's resolution."""
    logits = torch.from_numpy(tracked.logits.astype(np.float32))[None, None]
    part = tracked.view.to_rectangle(logits)[0, 0].numpy() > 0
    return tracked.view.lay_down(part, tracked.frame.size)


def region_j(mask: np.ndarray, truth: np.ndarray) -> float:
    """Intersection over union of two (H, W) bool masks; 1 where both are empty."""
    union = float((mask | truth).sum())
    return float((mask & truth).sum()) / union if union else 1.0


def evaluate(folder: Path, model: Model, settings: Settings, sheet: Path | None) -> dict[str, Any]:
    """One clip. Returns J by frame, states, and frames a second (decoding, flow and tracking)."""
    frames, masks = read_clip(folder)
    truths = [read_mask(path) for path in masks]
    results: list[float] = []
    states: list[str] = []
    pictures: list[np.ndarray] = []
    started = time.perf_counter()
    inspecting = 0.0
    follow = track(
        with_motion(read_frames(frames), settings.motion),
        model,
        Prompt(tight_box(truths[0])),
        settings=settings.track,
        view=settings.view,
        batch=settings.model.batch or 1,
    )
    for tracked, truth in zip(follow, truths, strict=True):
        paused = time.perf_counter()
        mask = mask_of(tracked)
        results.append(region_j(mask, truth))
        states.append(tracked.record.state.value)
        if sheet is not None:
            pictures.append(drawn(tracked, mask, truth, results[-1]))
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
        "flagged": sum(s in ("uncertain", "lost") for s in states),
        "frames": [{"j": round(j, 4), "state": s} for j, s in zip(results, states, strict=True)],
    }


def drawn(tracked: Tracked, mask: np.ndarray, truth: np.ndarray, j: float) -> np.ndarray:
    """(h, w, 3) uint8 BGR: the mask in green, the true outline in red, box and view, and what the record says."""
    picture = cv2.cvtColor(tracked.frame.rgb8, cv2.COLOR_RGB2BGR)
    picture[mask] = picture[mask] // 2 + np.array([0, 127, 0], np.uint8)
    outlines, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, (0, 0, 255), 2)
    for box, colour in ((tracked.record.box, (0, 255, 255)), (tracked.view.box, (255, 160, 0))):
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", default="classic")
    parser.add_argument("--clips", type=Path, default=CLIPS, metavar="DIR")
    parser.add_argument("--config", metavar="PRESET|FILE.toml")
    parser.add_argument("--json", type=Path, metavar="OUT")
    parser.add_argument("--sheet", type=Path, metavar="DIR")
    arguments = parser.parse_args()
    try:
        settings = Settings().with_file(arguments.config) if arguments.config else Settings()
        folders = sorted(p for p in arguments.clips.glob("*") if (p / "frames").is_dir())
        if not folders:
            raise UsageError(f"{arguments.clips}: holds no clips (CLIP/frames/*.jpg and CLIP/masks/*.png)")
        settings = settings.with_values({"model": {"name": arguments.model}}, "--model")
        model = load_model(settings.model)
        print(f"{'clip':16} {'J':>6} {'frozen':>7} {'fps':>6}  {'flagged':>7}  states")
        rows = []
        for folder in folders:
            row = evaluate(folder, model, settings, arguments.sheet)
            rows.append(row)
            said = ", ".join(f"{state} {count}" for state, count in row["states"].items())
            print(
                f"{row['clip']:16} {row['j']:6.3f} {row['frozen']:7.3f} {row['fps']:6.1f}  {row['flagged']:7d}  {said}",
                flush=True,
            )
    except MamVideoError as error:
        print(f"evaluate_davis: {error}", file=sys.stderr)
        return error.exit_code
    mean = {key: float(np.mean([row[key] for row in rows])) for key in ("j", "frozen", "fps")}
    print(f"{'mean':16} {mean['j']:6.3f} {mean['frozen']:7.3f} {mean['fps']:6.1f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"model": arguments.model, "mean": mean, "clips": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

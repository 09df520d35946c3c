"""How solid a model's mattes are: on pictures with a known alpha, and on a clip without one.

    evaluate_solidity.py pictures [--model NAME] [--pictures DIR]
    evaluate_solidity.py clip     [--model NAME] [--clip FILE] [--box x0,y0,x1,y1] [--frames N]

`pictures` mattes NAME.{png,jpg} beside NAME_alpha.png from the true box, the whole picture in view. It prints the mean
of 1 - alpha well inside the true alpha and of alpha well outside it, by picture, x 1000; and the means of the pictures
of whole animals (am2k_* and lemur), and of all.

`clip` mattes a clip from a box on its first frame as `mam-video matte` does. Well inside is where the tracker's own
mask is confident (0.9), enclosed holes filled in which it never falls below 0.5, at least r pixels from the edge of
that; r is a 40th of its height.
It prints for each frame that fails: the lowest alpha well inside, the number of pixels there below 0.9, and the areas
of the components of alpha (from 0.05) other than the largest that have more than 20 pixels; then how many frames have
neither. `--model` may be given several times. `--sheet FILE.png` shows some frames of the clip.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from evaluate_alpha import pictures, solidity

from mam_video.core.errors import MamVideoError
from mam_video.core.geometry import tight_box
from mam_video.core.settings import Settings
from mam_video.matting.opencv_backend import OpenCVBackend
from mam_video.matting.pipeline import matte
from mam_video.matting.still import matte_picture
from mam_video.matting.temporal_filter import smooth
from mam_video.media.open import open_clip
from mam_video.models.base import Model
from mam_video.models.registry import load_model
from mam_video.motion.flow import with_motion
from mam_video.prompts.prompt import Prompt
from mam_video.report.sheet import Row, row_of, save_sheet
from mam_video.runtime.stage_timer import StageTimer
from mam_video.tracking.tracker import track
from mam_video.tracking.types import TrackedFrame

DEV = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev"
CONFIDENT = 0.9  # the mask where the tracker is confident
SOLID = 0.9  # alpha below this well inside is a hole
SEEN = 0.05  # alpha from this on is visible
SPECK = 20  # pixels; a component away from the subject may have so many
SHOWN = 6  # frames on a sheet


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with one frame: the lowest alpha well inside, pixels of holes there, areas of specks."""

    index: int
    lowest: float
    holes: int
    specks: tuple[int, ...]
    inside: int  # pixels


def disc(radius: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))


def well_inside(mask: np.ndarray) -> np.ndarray:
    """(H, W) bool: the confident mask with its doubtful holes filled, away from its edge; `mask` (H, W) in [0, 1]."""
    confident = mask >= CONFIDENT
    rows = np.flatnonzero(confident.any(1))
    if not len(rows):
        return confident
    count, label = cv2.connectedComponents((~confident).astype(np.uint8), connectivity=4)
    least = np.ones(count, np.float32)
    np.minimum.at(least, label.ravel(), mask.ravel())
    least[0] = 1
    closed = confident | (least >= 0.5)[label]
    r = max(3, round((rows[-1] - rows[0] + 1) / 40))
    inside: np.ndarray = cv2.erode(closed.astype(np.uint8), disc(r), borderValue=1) > 0
    return inside


def judged(index: int, alpha: np.ndarray, mask: np.ndarray) -> Verdict:
    inside = well_inside(mask)
    _, _, stats, _ = cv2.connectedComponentsWithStats((alpha >= SEEN).astype(np.uint8), connectivity=8)
    areas = sorted((int(a) for a in stats[1:, cv2.CC_STAT_AREA]), reverse=True)[1:]
    low = float(alpha[inside].min()) if inside.any() else 1.0
    return Verdict(
        index, low, int((alpha[inside] < SOLID).sum()), tuple(a for a in areas if a > SPECK), int(inside.sum())
    )


def with_masks(tracked: Iterable[TrackedFrame], found: list[np.ndarray]) -> Iterator[TrackedFrame]:
    """Pass frames on, and leave each one's mask (H, W) float32 in `found`."""
    for one in tracked:
        logits = torch.from_numpy(one.logits.astype(np.float32))[None, None]
        part = one.crop.to_rectangle(logits.sigmoid())[0, 0].numpy()
        found.append(one.crop.paste(part, one.frame.size))
        yield one


def verdicts(args: argparse.Namespace, model: Model, rows: list[Row]) -> Iterator[Verdict]:
    settings, clock = Settings(), StageTimer()
    masks: list[np.ndarray] = []
    with open_clip(args.clip) as clip:
        prompt = Prompt.parse(args.box, [], clip.info.size)
        moving = with_motion(islice(clip.frames(), args.frames), settings.motion, clock=clock)
        tracked = with_masks(track(moving, model, prompt, settings=settings.track, view=settings.view), masks)
        backend = OpenCVBackend(settings, clock=clock)
        mattes = map(backend.refined, matte(tracked, model, settings, backend))
        for k, (matted, _) in enumerate(smooth(mattes, settings.smooth, clock)):
            if k % max(args.frames // SHOWN, 1) == 0:
                rows.append(row_of(matted))
            yield judged(matted.frame.index, matted.alpha, masks[k])
            masks[k] = np.zeros((0, 0), np.float32)


def evaluate_clip(args: argparse.Namespace, name: str, model: Model) -> None:
    rows: list[Row] = []
    found = []
    for one in verdicts(args, model, rows):
        found.append(one)
        if one.holes or one.specks:
            print(f"{name} frame {one.index}: lowest {one.lowest:.2f}, holes {one.holes} px, specks {list(one.specks)}")
    solid, clean = sum(not v.holes for v in found), sum(not v.specks for v in found)
    area = np.mean([v.inside for v in found])
    print(
        f"{name}: of {len(found)} frames {solid} are solid, {clean} without specks ({area:.0f} pixels are well inside)"
    )
    if args.sheet:
        save_sheet(rows, args.sheet)


def evaluate_pictures(args: argparse.Namespace, name: str, model: Model) -> None:
    found = {}
    for case in pictures(args.pictures):
        alpha = matte_picture(model, case.picture, Prompt(tight_box(case.alpha > 0.5)))
        found[case.name] = 1e3 * np.array(solidity(alpha, case.alpha))
        print(f"{name} {case.name:20} inside {found[case.name][0]:6.1f} outside {found[case.name][1]:6.2f}", flush=True)
    animals = [v for k, v in found.items() if k.startswith(("am2k_", "lemur"))]
    for what, values in (("am2k_* and lemur", animals), ("all", list(found.values()))):
        if values:
            inside, outside = np.mean(values, 0)
            print(f"{name} mean of {len(values)}, {what}: inside {inside:.1f} outside {outside:.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["pictures", "clip"])
    parser.add_argument("--model", action="append", metavar="NAME")
    parser.add_argument("--pictures", type=Path, default=DEV / "alpha")
    parser.add_argument("--clip", type=Path, default=DEV / "clips" / "dog_720p2997_audio.mp4")
    parser.add_argument("--box", default="228,215,448,556")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--sheet", type=Path, metavar="FILE.png")
    args = parser.parse_args()
    try:
        for name in args.model or ["lite"]:
            model = load_model(Settings().with_values({"model": {"name": name}}, "--model").model)
            (evaluate_pictures if args.what == "pictures" else evaluate_clip)(args, name, model)
    except MamVideoError as error:
        print(f"evaluate_solidity: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

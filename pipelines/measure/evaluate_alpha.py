"""How good a model's masks and alphas are on single pictures, asked with the true box.

    evaluate_alpha.py masks      [--model NAME] [--clips DIR]      IoU of every 10th frame of clips with true masks
    evaluate_alpha.py composites [--model NAME] [--count N]        held-out subjects over held-out backgrounds
    evaluate_alpha.py pictures   [--model NAME] [--pictures DIR]   NAME.{png,jpg} beside NAME_alpha.png
    evaluate_alpha.py clips      [--model NAME] [--count N]        short made clips of held-out subjects: MAD and dtSSD

`--model` may be given several times. Composites and pictures print the mean absolute difference in the unknown band
(where the true alpha is between 0 and 1, and 10 pixels around), for the model's alpha and for its own binary mask, and
how solid each is: the mean of 1 - alpha well inside the true alpha ("inside") and of alpha well outside it ("outside");
with `--closed-form` also for closed-form matting (pymatting) with a trimap that leaves 10 pixels around the model's
mask's edge unknown, and with one around the true mask's. `--sheet DIR` writes pictures to look at.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch

from mam_video import metrics
from mam_video.core.errors import MamVideoError
from mam_video.core.frames import Frame
from mam_video.core.geometry import tight_box
from mam_video.core.settings import Settings
from mam_video.matting.opencv_backend import OpenCVBackend
from mam_video.matting.pipeline import matte, matte_frames
from mam_video.models.base import Model
from mam_video.models.registry import load_model
from mam_video.prompts.prompt import Prompt
from mam_video.tracking.tracker import track
from mam_video.training.data.composites import Composites, composite, unknown_band
from mam_video.training.data.pictures import read_backgrounds, read_cutouts, read_manifest, read_rendered
from mam_video.training.synth.scene import WEIGHTS

DEV = Path(__file__).resolve().parents[3] / "shared" / "data" / "dev"
BAND = 10  # pixels on either side of what is soft


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    picture: np.ndarray  # (H, W, 3) uint8
    alpha: np.ndarray  # (H, W) float32


def grey(path: Path) -> np.ndarray:
    """(H, W) float32 in [0, 1]."""
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise MamVideoError(f"{path}: cannot read this picture")
    out: np.ndarray = picture.astype(np.float32) / 255
    return out


def matted(model: Model, settings: Settings, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The model's alpha (H, W) float32 and its mask (H, W) bool, from the true box alone."""
    frame = Frame(0, 0, Fraction(1, 24), case.picture)
    found = list(track([(frame, None)], model, Prompt(tight_box(case.alpha > 0.5)), settings=settings.track))
    backend = OpenCVBackend(settings)
    (result, _) = backend.refined(next(iter(matte(found, model, settings, backend))))
    one = found[0]
    part = one.crop.to_rectangle(torch.from_numpy(one.logits.astype(np.float32))[None, None])[0, 0].numpy() > 0
    return result.alpha, one.crop.paste(part, frame.size)


def solidity(alpha: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Mean of 1 - alpha well inside the true alpha and of alpha well outside it; 0 where there is no such place."""
    reach = max(3, round(max(truth.shape) / 80))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    inside = cv2.erode((truth > 0.98).astype(np.uint8), disc, borderValue=1) > 0
    outside = cv2.dilate((truth > 0.02).astype(np.uint8), disc) == 0
    holes = float((1 - alpha[inside]).mean()) if inside.any() else 0.0
    return holes, float(alpha[outside].mean()) if outside.any() else 0.0


def closed_form(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Closed-form matting with `BAND` pixels unknown on either side of the mask's edge."""
    from pymatting import estimate_alpha_cf

    trimap = mask.astype(np.float64)
    trimap[unknown_band(mask.astype(np.float32), BAND)] = 0.5
    if not ((trimap == 0).any() and (trimap == 1).any()):
        return mask.astype(np.float32)
    alpha: np.ndarray = estimate_alpha_cf(picture / 255.0, trimap)
    return alpha.astype(np.float32)


def held_out_composites(data: Path, rendered: Path, size: int = 512) -> Composites:
    sources = read_manifest(data)
    subjects = read_cutouts(data, sources, held=True) + read_rendered(rendered, held=True)
    return Composites(subjects, read_backgrounds(data, sources, held=True), size, 0, WEIGHTS)


def composites(source: Composites, count: int) -> Iterator[Case]:
    for i in range(count):
        sample = source.sample(i)
        valid = sample["valid"][0] > 0
        h, w = int(valid.any(1).sum()), int(valid.any(0).sum())
        picture = np.ascontiguousarray(sample["picture"].transpose(1, 2, 0)[:h, :w])
        yield Case(f"{i:04d}", picture, np.ascontiguousarray(sample["alpha"][0][:h, :w]))


def pictures(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("*_alpha.png")):
        name = path.name.removesuffix("_alpha.png")
        source = next(p for p in (path.with_name(f"{name}.{e}") for e in ("png", "jpg")) if p.exists())
        bgr, alpha = cv2.imread(str(source)), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if bgr is not None and alpha is not None:
            yield Case(name, cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), alpha.astype(np.float32) / 255)


def evaluate_stills(args: argparse.Namespace, models: dict[str, Model], settings: Settings) -> dict[str, float]:
    if args.what == "pictures":
        cases = pictures(args.pictures)
    else:
        cases = composites(held_out_composites(args.data, args.rendered), args.count)
    rows: dict[str, list[float]] = {}
    parts: dict[str, list[float]] = {}
    for case in cases:
        where = unknown_band(case.alpha, BAND)
        found: dict[str, np.ndarray] = {}
        for name, model in models.items():
            alpha, mask = matted(model, settings, case)
            found[name], found[f"{name}, its mask"] = alpha, mask.astype(np.float32)
            if args.closed_form:
                found[f"closed form, {name}'s mask"] = closed_form(case.picture, mask)
        if args.closed_form:
            found["closed form, true mask"] = closed_form(case.picture, case.alpha > 0.5)
        for name, alpha in found.items():
            rows.setdefault(name, []).append(metrics.mad(alpha, case.alpha, where))
            for what, value in zip(("inside", "outside"), solidity(alpha, case.alpha), strict=True):
                parts.setdefault(f"{name}, {what}", []).append(value)
        if args.what == "pictures":
            print(f"{case.name:24} " + "  ".join(f"{n} {v[-1] * 1e3:.1f}" for n, v in rows.items()), flush=True)
        if args.sheet:
            args.sheet.mkdir(parents=True, exist_ok=True)
            maps = [case.alpha, *found.values()]
            shown = [case.picture[:, :, ::-1], *(np.repeat((m * 255).astype(np.uint8)[:, :, None], 3, 2) for m in maps)]
            cv2.imwrite(str(args.sheet / f"{case.name}.png"), np.hstack(shown))
    return {name: float(np.mean(values) * 1e3) for name, values in (rows | parts).items()}


def evaluate_masks(args: argparse.Namespace, models: dict[str, Model], settings: Settings) -> dict[str, float]:
    means: dict[str, list[float]] = {}
    for clip in sorted(p for p in args.clips.iterdir() if (p / "masks").is_dir()):
        frames, masks = sorted((clip / "frames").iterdir()), sorted((clip / "masks").iterdir())
        for name, model in models.items():
            overlaps = []
            for i in range(0, len(frames), 10):
                truth = grey(masks[i]) > 0.5
                if not truth.any():
                    continue
                picture = cv2.cvtColor(cv2.imread(str(frames[i])), cv2.COLOR_BGR2RGB)
                alpha, mask = matted(model, settings, Case(clip.name, picture, truth.astype(np.float32)))
                overlaps.append((metrics.region_j(mask, truth), metrics.region_j(alpha > 0.5, truth)))
            mask_iou, alpha_iou = np.mean(overlaps, 0)
            means.setdefault(name, []).append(float(mask_iou))
            means.setdefault(f"{name}, its alpha above a half", []).append(float(alpha_iou))
            print(f"{clip.name:20} {name}: mask {mask_iou:.3f}, alpha {alpha_iou:.3f}", flush=True)
    return {name: float(np.mean(values)) for name, values in means.items()}


def made_clips(args: argparse.Namespace, size: tuple[int, int] = (540, 960), length: int = 24) -> Iterator[list[Case]]:
    """Held-out subjects that move and turn over a panned held-out background, with their true alphas."""
    sources = read_manifest(args.data)
    subjects = [s for _, s in read_rendered(args.rendered, held=True) + read_cutouts(args.data, sources, held=True)]
    grounds = read_backgrounds(args.data, sources, held=True)
    h, w = size
    for number in range(args.count):
        rng = random.Random(f"clip/{number}")
        rgba, ground = rng.choice(subjects), rng.choice(grounds)
        reach = h * rng.uniform(0.5, 0.8) / max(rgba.shape[:2])
        zoom = 1.3 * max(h / ground.shape[0], w / ground.shape[1])
        turn, sway, pan, phase = rng.gauss(0, 10), rng.uniform(10, 70), rng.uniform(-60, 60), rng.uniform(0, 6)
        cases = []
        for t in range(length):
            u = t / length * 6.28
            middle = (rgba.shape[1] / 2, rgba.shape[0] / 2)
            a = cv2.getRotationMatrix2D(middle, turn * np.sin(u + phase), reach * (1 + 0.06 * np.sin(u)))
            a[:, 2] += [w / 2 - middle[0] + sway * np.sin(u + phase), h / 2 - middle[1] + 0.4 * sway * np.cos(u)]
            alpha = cv2.warpAffine(rgba[:, :, 3].astype(np.float32) / 255, a, (w, h))
            colour = cv2.warpAffine(rgba[:, :, :3], a, (w, h), borderMode=cv2.BORDER_REPLICATE)
            g = np.array([
                [zoom, 0, -0.1 * w + pan * t / length],
                [0, zoom, -0.1 * h],
            ])  # fmt: skip
            drawn = cv2.warpAffine(ground, g, (w, h), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
            noise = np.random.default_rng(1000 * number + t).normal(0, 2, (h, w, 3))
            picture = np.clip(composite(alpha, colour, drawn) + noise, 0, 255)
            cases.append(Case(f"{number:02d}", np.rint(picture).astype(np.uint8), np.clip(alpha, 0, 1)))
        yield cases


def evaluate_clips(args: argparse.Namespace, models: dict[str, Model], settings: Settings) -> dict[str, float]:
    settings_by_name = {
        "smooth": settings,
        "plain": settings.with_values({"smooth": {"strength": 0.0}}, "evaluate_alpha"),
    }
    rows: dict[str, list[float]] = {}
    clips = list(made_clips(args))
    hairball = DEV / "alpha" / "clip_hairball2"
    if hairball.is_dir():
        names = zip(sorted((hairball / "frames").iterdir()), sorted((hairball / "alpha").iterdir()), strict=True)
        clips.append([
            Case("hairball2", cv2.cvtColor(cv2.imread(str(f)), cv2.COLOR_BGR2RGB),
                 grey(a))
            for f, a in names
        ])  # fmt: skip
    for cases in clips:
        for name, model in models.items():
            for kind, used in settings_by_name.items():
                frames = (Frame(i, i, Fraction(1, 24), c.picture) for i, c in enumerate(cases))
                mattes = matte_frames(frames, Prompt(tight_box(cases[0].alpha > 0.5)), model, used)
                scores = metrics.clip_scores(
                    ((m.alpha, c.alpha) for m, c in zip(mattes, cases, strict=True)), slow=False
                ).mean()
                for metric in ("mad", "dtssd"):
                    rows.setdefault(f"{name}, {kind}, {metric}", []).append(scores[metric])
                print(
                    f"{cases[0].name:10} {name}, {kind}: mad {scores['mad']:.2f} dtssd {scores['dtssd']:.2f}",
                    flush=True,
                )
    return {name: float(np.mean(values)) for name, values in rows.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("what", choices=["masks", "composites", "pictures", "clips"])
    parser.add_argument("--model", action="append", metavar="NAME")
    parser.add_argument("--config", metavar="PRESET|FILE.toml")
    parser.add_argument("--data", type=Path, default=DEV.parent / "train")
    parser.add_argument("--rendered", type=Path, default=Path("runs/rendered"))
    parser.add_argument("--clips", type=Path, default=DEV / "davis")
    parser.add_argument("--pictures", type=Path, default=DEV / "alpha")
    parser.add_argument("--count", type=int, default=0, help="200 composites, 10 clips if not given")
    parser.add_argument("--closed-form", action="store_true")
    parser.add_argument("--sheet", type=Path, metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="OUT")
    args = parser.parse_args()
    args.count = args.count or (10 if args.what == "clips" else 200)
    try:
        settings = Settings().with_file(args.config) if args.config else Settings()
        names = args.model or ["lite", "classic"]
        models = {n: load_model(settings.with_values({"model": {"name": n}}, "--model").model) for n in names}
        if args.what == "masks":
            result = evaluate_masks(args, models, settings)
        elif args.what == "clips":
            result = evaluate_clips(args, models, settings)
        else:
            result = evaluate_stills(args, models, settings)
    except MamVideoError as error:
        print(f"evaluate_alpha: {error}", file=sys.stderr)
        return error.exit_code
    for name, value in result.items():
        print(f"mean {name}: {value:.3f}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

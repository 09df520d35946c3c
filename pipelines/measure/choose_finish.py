"""Where belongs what an artist does to a matte? Its error before and after smoothing, and whose alpha tells the colour.

    choose_finish.py [--model NAME] [--clip DIR] [--cutouts DIR --backgrounds DIR]

The clips of choose_smoothing.py are matted once; each setting is applied before and after the smoothing, and compared
with the same setting on the true alpha: MAD in thousandths, dtSSD in hundredths. Then cut-outs are laid over
backgrounds, so that their own colour is known: its mean error (times the finished alpha, in 1/255, where either alpha
is soft and the subject covers something) as shot, estimated from the alpha before the setting, and from the finished.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from choose_smoothing import DATA, KnownClip, composites, matted, read_clip

from mam_video import MamVideoError, Settings
from mam_video.core.settings import FinishSettings
from mam_video.matting.edge_ops import finish
from mam_video.matting.foreground import estimate_foreground
from mam_video.matting.temporal_filter import MovingMatte, smooth
from mam_video.metrics import dtssd, mad

SETTINGS = {
    "choke 1": FinishSettings(choke=1),
    "choke 2": FinishSettings(choke=2),
    "grow 1": FinishSettings(grow=1),
    "grow 2": FinishSettings(grow=2),
    "feather 3": FinishSettings(feather=3),
    "levels 0.2-0.8": FinishSettings(black=0.2, white=0.8),
}
COLOURED, HEIGHT = 8, 480


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=Settings().model.name)
    parser.add_argument("--clip", type=Path, action="append")
    parser.add_argument("--cutouts", type=Path, default=DATA / "train" / "cutouts")
    parser.add_argument("--backgrounds", type=Path, default=DATA / "train" / "backgrounds")
    options = parser.parse_args()
    base = Settings().with_values({"model": {"name": options.model}}, "--model")
    clips = [read_clip(c) for c in options.clip or [DATA / "dev" / "alpha" / "clip_hairball2"]]
    clips += composites(options.cutouts, options.backgrounds)
    runs = [(clip, matted(clip, base)) for clip in clips]
    for name, settings in SETTINGS.items():
        told = []
        for before in (True, False):
            each = [_figures(clip, mattes, base, settings, before) for clip, mattes in runs]
            error, steps = np.mean(each, axis=0)
            told.append(f"{'before' if before else 'after'} smoothing: MAD {error:.3f}, dtSSD {steps:.3f}")
        print(f"{name:15} {'; '.join(told)}  (mean of {len(runs)} clips)", flush=True)
    pictures = list(_pictures(options.cutouts, options.backgrounds))
    for name, settings in SETTINGS.items():
        shot, own, finished = np.mean([_colour_errors(*p, settings) for p in pictures], axis=0)
        print(f"{name:15} colour as shot {shot:.2f}, from the alpha before {own:.2f}, from the finished {finished:.2f}")
    return 0


def _figures(
    clip: KnownClip,
    mattes: list[MovingMatte],
    base: Settings,
    settings: FinishSettings,
    before: bool,
) -> tuple[float, float]:
    """MAD and dtSSD against the same setting on the truth."""
    if before:
        first = [MovingMatte(replace(m, alpha=finish(m.alpha, settings)), motion) for m, motion in mattes]
        alphas = [m.matted.alpha for m in smooth(first, base.smooth)]
    else:
        alphas = [finish(m.matted.alpha, settings) for m in smooth(mattes, base.smooth)]
    truths = [finish(t, settings) for t in clip.alphas]
    error = [mad(a, t) * 1000 for a, t in zip(alphas, truths, strict=True)]
    pairs = zip(alphas[1:], truths[1:], alphas[:-1], truths[:-1], strict=True)
    return float(np.mean(error)), float(np.mean([dtssd(*four) * 100 for four in pairs]))


def _pictures(cutouts: Path, backgrounds: Path) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Plate (H, W, 3) uint8, the subject's colour (H, W, 3) float32 and its alpha."""
    subjects, grounds = sorted(cutouts.rglob("*.webp")), sorted(backgrounds.rglob("*.jpg"))
    rng = np.random.default_rng(2026)
    for _ in range(COLOURED):
        cut = cv2.imread(str(subjects[rng.integers(len(subjects))]), cv2.IMREAD_UNCHANGED)
        ground = cv2.imread(str(grounds[rng.integers(len(grounds))]))
        assert cut is not None and ground is not None
        size = (round(cut.shape[1] * HEIGHT / cut.shape[0]), HEIGHT)
        cut = cv2.resize(cut, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        ground = cv2.resize(ground, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        alpha = cut[..., 3] / 255
        mixed = cut[..., :3] * alpha[..., None] + ground * (1 - alpha[..., None])
        yield np.rint(mixed).astype(np.uint8), cut[..., :3], alpha


def _colour_errors(
    plate: np.ndarray, colour: np.ndarray, alpha: np.ndarray, settings: FinishSettings
) -> tuple[float, ...]:
    done = finish(alpha, settings)
    known = (alpha > 0.02) & (done > 0) & ((alpha < 0.98) | (done < 0.98))
    found = (plate, estimate_foreground(plate, alpha), estimate_foreground(plate, done))
    return tuple(float((np.abs(f.astype(np.float32) - colour).mean(2) * done)[known].mean()) for f in found)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MamVideoError as error:
        sys.exit(f"choose_finish: {error}")

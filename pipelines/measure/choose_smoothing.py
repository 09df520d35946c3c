"""How strong should smoothing be? Error and flicker on clips of known alpha, for several strengths of one run.

    choose_smoothing.py [--model NAME] [--clip DIR] [--cutouts DIR --backgrounds DIR]

DIR of --clip holds frames/*.jpg and alpha/*.png. From cut-outs (RGBA) and backgrounds clips are composited here: the
subject moves, turns and grows over a panning background, with grain on every frame, so that its alpha is known. Each
clip is matted once from the box of its first true alpha; each strength then smooths the same mattes. MAD is in
thousandths, dtSSD in hundredths, as RobustVideoMatting states them; "soft" counts only pixels near the true soft edge.
A constant alpha has a low dtSSD: neither figure counts alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from mam_video import Frame, MamVideoError, Prompt, Settings, UsageError, load_model
from mam_video.core.geometry import tight_box
from mam_video.matting.opencv_backend import OpenCVBackend
from mam_video.matting.pipeline import batch_size, matte
from mam_video.matting.temporal_filter import MovingMatte, smooth
from mam_video.metrics import dtssd, mad
from mam_video.motion.flow import with_motion
from mam_video.tracking.tracker import track

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
COMPOSITES, LENGTH, SIZE = 6, 24, (360, 640)


class KnownClip:
    """Frames with their true alpha, (H, W) float32."""

    def __init__(self, name: str, frames: list[Frame], alphas: list[np.ndarray]) -> None:
        self.name, self.frames, self.alphas = name, frames, alphas


def _read(path: Path, flags: int) -> np.ndarray:
    picture = cv2.imread(str(path), flags)
    if picture is None:
        raise UsageError(f"{path}: cannot be read as a picture")
    return np.asarray(picture)


def read_clip(folder: Path) -> KnownClip:
    pictures, truths = sorted((folder / "frames").glob("*.jpg")), sorted((folder / "alpha").glob("*.png"))
    if not pictures or len(pictures) != len(truths):
        raise UsageError(f"{folder}: needs frames/*.jpg and alpha/*.png, as many of each")
    frames = [
        Frame(i, i, Fraction(1, 24), np.ascontiguousarray(_read(p, cv2.IMREAD_COLOR)[:, :, ::-1]))
        for i, p in enumerate(pictures)
    ]
    alphas = [_read(p, cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255 for p in truths]
    return KnownClip(folder.name, frames, alphas)


def composites(cutouts: Path, backgrounds: Path) -> Iterator[KnownClip]:
    """Clips of moving cut-outs; the same ones each time."""
    subjects, grounds = sorted(cutouts.rglob("*.webp")), sorted(backgrounds.rglob("*.jpg"))
    if not subjects or not grounds:
        raise UsageError(f"no cut-outs in {cutouts}, or no backgrounds in {backgrounds}")
    rng = np.random.default_rng(2026)
    for number in range(COMPOSITES):
        subject = _read(subjects[rng.integers(len(subjects))], cv2.IMREAD_UNCHANGED)
        ground = _read(grounds[rng.integers(len(grounds))], cv2.IMREAD_COLOR)
        yield composite(f"composite {number}", subject, ground, rng)


def composite(name: str, subject: np.ndarray, ground: np.ndarray, rng: np.random.Generator) -> KnownClip:
    h, w = SIZE
    ground = cv2.resize(ground, (w + 80, h + 40), interpolation=cv2.INTER_CUBIC)
    sh, sw = subject.shape[:2]
    start, turn, grow = rng.uniform(0.25, 0.75, 2) * (w, h), rng.uniform(-15, 15), rng.uniform(0.9, 1.15)
    speed = rng.uniform(-4, 4, 2)
    frames, alphas = [], []
    for i in range(LENGTH):
        way = i / (LENGTH - 1)
        scale = 0.6 * h / max(sh, sw) * grow**way
        matrix = cv2.getRotationMatrix2D((sw / 2, sh / 2), turn * way, scale)
        matrix[:, 2] += start + speed * i - (sw / 2, sh / 2)
        laid = cv2.warpAffine(subject, matrix, (w, h), flags=cv2.INTER_AREA).astype(np.float32)
        alpha = laid[..., 3:] / 255
        pan = ground[round(20 + 15 * way) :, round(40 + 30 * way) :][:h, :w].astype(np.float32)
        pixels = laid[..., :3] * alpha + pan * (1 - alpha) + rng.normal(0, 2.5, (h, w, 3))
        rgb = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)[:, :, ::-1]
        frames.append(Frame(i, i, Fraction(1, 24), np.ascontiguousarray(rgb)))
        alphas.append(np.ascontiguousarray(alpha[..., 0]))
    return KnownClip(name, frames, alphas)


def matted(clip: KnownClip, settings: Settings) -> list[MovingMatte]:
    model = load_model(settings.model)
    moved = with_motion(clip.frames, settings.motion)
    prompt, size = Prompt(tight_box(clip.alphas[0] > 0.5)), batch_size(model, settings)
    tracked = track(moved, model, prompt, settings=settings.track, view=settings.view, batch=size)
    backend = OpenCVBackend(settings)
    return [backend.refined(crop) for crop in matte(tracked, model, settings, backend)]


def figures(clip: KnownClip, settings: Settings, mattes: list[MovingMatte]) -> tuple[float, ...]:
    """MAD, MAD in the soft band, dtSSD."""
    alphas = [m.matted.alpha for m in smooth(mattes, settings.smooth)]
    band = [cv2.dilate(((t > 0.02) & (t < 0.98)).astype(np.uint8), np.ones((11, 11))) > 0 for t in clip.alphas]
    error = [mad(a, t) * 1000 for a, t in zip(alphas, clip.alphas, strict=True)]
    soft = [mad(a, t, b) * 1000 for a, t, b in zip(alphas, clip.alphas, band, strict=True) if b.any()]
    pairs = zip(alphas[1:], clip.alphas[1:], alphas[:-1], clip.alphas[:-1], strict=True)
    steps = [dtssd(*four) * 100 for four in pairs]
    return float(np.mean(error)), float(np.mean(soft)), float(np.mean(steps))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=Settings().model.name)
    parser.add_argument("--clip", type=Path, action="append")
    parser.add_argument("--cutouts", type=Path, default=DATA / "train" / "cutouts")
    parser.add_argument("--backgrounds", type=Path, default=DATA / "train" / "backgrounds")
    parser.add_argument("--radius", type=int, default=1)
    options = parser.parse_args()
    base = Settings().with_values({"model": {"name": options.model}}, "--model")
    clips = [read_clip(c) for c in options.clip or [DATA / "dev" / "alpha" / "clip_hairball2"]]
    clips += composites(options.cutouts, options.backgrounds)
    table = []
    for clip in clips:
        mattes = matted(clip, base)
        row = []
        for strength in STRENGTHS:
            values = {"smooth": {"strength": strength, "radius": options.radius}}
            row.append(figures(clip, base.with_values(values, "strength"), mattes))
        table.append(row)
        cells = "  ".join(f"{s:g}: {a:.2f} / {b:.1f} / {c:.3f}" for s, (a, b, c) in zip(STRENGTHS, row, strict=True))
        print(f"{clip.name:16} {cells}", flush=True)
    mean = np.mean(table, axis=0)
    print(f"\n{'strength':>10} {'MAD':>8} {'soft':>8} {'dtSSD':>8}   against off")
    for strength, (a, b, c) in zip(STRENGTHS, mean, strict=True):
        ratios = "  ".join(f"{v / o - 1:+.1%}" for v, o in zip((a, b, c), mean[0], strict=True))
        print(f"{strength:10g} {a:8.3f} {b:8.2f} {c:8.4f}   {ratios}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MamVideoError as error:
        sys.exit(f"choose_smoothing: {error}")

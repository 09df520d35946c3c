"""Render subjects with hair, fur and blur, with exact alpha, for the training of the embedded model's matte head.

    render_subjects.py OUT [--data DIR] [--count N] [--seed N]

Writes OUT/rendered_NNNNN.webp: RGBA, straight, alpha lossless. Each depends on the seed and its number alone; those
that are there already are left as they are. A tenth, chosen by a hash of the name, is held out of training. Bodies and
textures of those come from held-out pictures only.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

import cv2
import numpy as np

from mam_video.core.errors import MamVideoError
from mam_video.training.data.pictures import held_out, read_backgrounds, read_labelled, read_manifest
from mam_video.training.synth.hair import render_subject

# Sources with masks tight enough to grow hair from.
TIGHT = r"masks/(ecssd|human290|weizmann_horses|pascal_s|ccp|oxford_pets|pennfudan|animals63|pascal_coseg)"
SOURCE = "rendered"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/train"))
    parser.add_argument("--count", type=int, default=700)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    try:
        sources = read_manifest(arguments.data)
        tight = read_manifest(arguments.data, allow=TIGHT)
        splits = {
            held: (
                [m for m in read_labelled(arguments.data, tight, held=held) if m.clip is None],
                read_backgrounds(arguments.data, sources, held=held),
            )
            for held in (False, True)
        }
    except MamVideoError as e:
        print(f"render_subjects: {e}", file=sys.stderr)
        return 1
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.count):
        path = arguments.out / f"{SOURCE}_{number:05d}.webp"
        if path.exists():
            continue
        rng = random.Random(f"{arguments.seed}/{number}")
        pictures, textures = splits[held_out(SOURCE, path.stem)]
        chosen = rng.choice(pictures)
        picture, mask = chosen.picture, (chosen.mask == rng.choice(chosen.ids)).astype(np.uint8)
        made = rng.random() < 0.3
        subject = render_subject(rng, None if made else picture, None if made else mask, rng.choice(textures))
        _write(path, subject)
        if number % 50 == 0:
            print(f"{number} of {arguments.count}", flush=True)
    return 0


def _write(path: Path, rgba: np.ndarray) -> None:
    ok, coded = cv2.imencode(".webp", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA), [cv2.IMWRITE_WEBP_QUALITY, 92])
    assert ok
    part = path.with_name(path.name + ".part")
    part.write_bytes(coded.tobytes())
    part.replace(path)


if __name__ == "__main__":
    raise SystemExit(main())

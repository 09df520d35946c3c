"""How close is each subject's mask beside another one to its mask alone? Pairs in scripted clips, or in a clip.

    evaluate_subjects.py [--subjects auto shared own] [--clip FILE --frames N --box NAME=X0,Y0,X1,Y1 ...]

Printed of each way to choose the crop: J of the masks with the truth (scripted clips), J of the joint run's masks with
those of the subject's own run, and how many records are flagged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np

from mam_video import Frame, MamVideoError, Prompt, Settings, load_model
from mam_video.core.geometry import Box, tight_box
from mam_video.media import open_clip
from mam_video.metrics.masks import region_j
from mam_video.models.base import Model
from mam_video.motion.flow import Motion, with_motion
from mam_video.testing.judging import mask_of
from mam_video.testing.scripted_clips import Place, Stage, drawn_animal
from mam_video.tracking.multi_subject import track_subjects
from mam_video.tracking.tracker import track

WAYS: dict[str, Callable[[int], tuple[Place, Place]]] = {
    "apart": lambda i: (Place(0.25 + 0.004 * i, 0.5, 0.42), Place(0.75 - 0.002 * i, 0.5, 0.4)),
    "boxes overlap": lambda i: (Place(0.40 + 0.004 * i, 0.42, 0.42), Place(0.58 + 0.004 * i, 0.66, 0.42)),
    "big and small": lambda i: (Place(0.36 + 0.002 * i, 0.5, 0.7), Place(0.72 + 0.004 * i, 0.7, 0.25)),
}
Moved = Sequence[tuple[Frame, Motion | None]]


def compare(moved: Moved, prompts: dict[str, Prompt], model: Model, subjects: str) -> tuple[list[np.ndarray], ...]:
    """Return the masks of each subject beside the other, those alone, and how many records of each are flagged."""
    view = Settings().with_values({"view": {"subjects": subjects}}, "--subjects").view
    alone = [np.stack([mask_of(t) for t in track(iter(moved), model, prompt)]) for prompt in prompts.values()]
    rows = list(track_subjects(iter(moved), model, prompts, view=view))
    beside = [np.stack([mask_of(row[k]) for row in rows]) for k in range(len(prompts))]
    flagged = [np.array([row[k].record.state.flagged for row in rows]) for k in range(len(prompts))]
    return beside, alone, flagged


def told(name: str, beside: np.ndarray, alone: np.ndarray, flagged: np.ndarray, truth: np.ndarray | None = None) -> str:
    against = [region_j(one, other) for one, other in zip(beside, alone, strict=True)]
    line = (
        f"{name:28} alone {np.mean(against):.3f}, least {min(against):.3f}; {flagged.sum()} of {len(flagged)} flagged"
    )
    if truth is not None:
        both = [np.mean([region_j(m, t) for m, t in zip(masks, truth, strict=True)]) for masks in (beside, alone)]
        line += f"; with the truth {both[0]:.3f}, alone {both[1]:.3f}"
    return line


def scripted(model: Model, subjects: str, seeds: Sequence[int], count: int) -> None:
    for name, way in WAYS.items():
        parts: list[tuple[np.ndarray, ...]] = []
        for seed in seeds:
            stage = Stage((270, 480), seed, subjects=(drawn_animal(seed), drawn_animal(seed + 7)))
            shots = [stage.shot(one, other=other) for one, other in map(way, range(count))]
            frames = [Frame(i, 1001 * i, Fraction(1, 24000), shot.rgb) for i, shot in enumerate(shots)]
            moved = list(with_motion(frames, Settings().motion))
            prompts = {"a": Prompt(tight_box(shots[0].seen)), "b": Prompt(tight_box(shots[0].other))}
            truths = [np.stack([shot.seen for shot in shots]), np.stack([shot.other for shot in shots])]
            parts += zip(*compare(moved, prompts, model, subjects), truths, strict=True)
        print(told(f"{subjects} {name}", *(np.concatenate(part) for part in zip(*parts, strict=True))), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--subjects", nargs="+", default=["shared", "own"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--clip")
    parser.add_argument("--box", action="append", default=[], metavar="NAME=X0,Y0,X1,Y1")
    options = parser.parse_args()
    model = load_model(Settings().with_values({"model": {"name": options.model}}, "--model").model)
    for subjects in options.subjects:
        if options.clip is None:
            scripted(model, subjects, options.seeds, options.frames)
            continue
        given = (text.partition("=") for text in options.box)
        prompts = {name: Prompt(Box(*map(float, box.split(",")))) for name, _, box in given}
        with open_clip(options.clip) as reader:
            moved = list(with_motion(reader.frames(0, options.frames), Settings().motion))
        for name, *masks in zip(prompts, *compare(moved, prompts, model, subjects), strict=True):
            print(told(f"{subjects} {name}", *masks), flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MamVideoError as error:
        sys.exit(str(error))

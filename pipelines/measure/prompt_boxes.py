"""Measure which boxes are flagged on the prompted frame: boxes around subjects, and over bare ground.

    python pipelines/measure/prompt_boxes.py DAVIS [--model NAME] [--set chosen|held_out] [--each]

DAVIS is a folder of clips with frames/*.jpg and masks/*.png. The boxes are in prompt_boxes.json, as clip/frame and
x0, y0, x1, y1: those around subjects are the tight boxes of the true masks, made looser at random, by up to 12 % of the
side (`chosen`) or 35 % (`held_out`); those over bare ground were drawn at random beside the masks, and kept where a
person saw nothing but floor, wall, grass, leaves or sky. The bounds were chosen on the first set.

A subject whose mask has an IoU below 0.5 with the truth should be flagged, and counts as neither.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from mam_video.core.frames import Frame
from mam_video.core.geometry import Box
from mam_video.core.settings import ModelSettings
from mam_video.jobs.prompt_check import judged
from mam_video.models.base import Model
from mam_video.models.registry import load_model
from mam_video.prompts.prompt import Prompt
from mam_video.report.sentences import sentences
from mam_video.tracking.mask_ops import mask_iou, sample_logits
from mam_video.tracking.tracker import track
from mam_video.tracking.types import TrackedFrame


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DAVIS")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--set", dest="sets", action="append", choices=("chosen", "held_out"), help="one set alone")
    parser.add_argument("--each", action="store_true", help="print a line for every box")
    options = parser.parse_args(arguments)
    boxes = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    model = load_model(ModelSettings(name=options.model))
    for name in options.sets or boxes:
        for kind, rows in boxes[name].items():
            print(
                f"{name}, {kind}: {_flagged(options.folder, rows, model, kind == 'subject', options.each)}", flush=True
            )


def _flagged(folder: Path, rows: Sequence[Sequence[str | float]], model: Model, subjects: bool, each: bool) -> str:
    """Say how many of the boxes are flagged."""
    count = flagged = 0
    for place, *corners in rows:
        clip, number = str(place).split("/")
        prompt = Prompt(Box(*map(float, corners)), placed=True)
        rgb = cv2.imread(str(folder / clip / "frames" / f"{number}.jpg"), cv2.IMREAD_COLOR)
        if rgb is None:
            raise SystemExit(f"{folder / clip}: has no frame {number}.jpg")
        (found,) = track([(Frame(0, 0, Fraction(1, 24), np.ascontiguousarray(rgb[..., ::-1])), None)], model, prompt)
        if subjects and _iou(found, folder / clip / "masks" / f"{number}.png") < 0.5:
            continue
        record = judged(found.record, prompt)
        count, flagged = count + 1, flagged + record.flagged
        if each:
            print(f"  {place} {prompt}: score {record.score:.2f}; {'; '.join(sentences(record.findings)) or 'fine'}")
    return f"{flagged} of {count} flagged"


def _iou(found: TrackedFrame, truth: Path) -> float:
    """Return the IoU of the mask with a picture of the true one."""
    h, w = found.frame.size
    x, y = np.meshgrid(np.arange(w, dtype=np.float32) + 0.5, np.arange(h, dtype=np.float32) + 0.5)
    mask = sample_logits(found.logits.astype(np.float32), found.crop, x, y) > 0
    return mask_iou(mask, np.asarray(cv2.imread(str(truth), cv2.IMREAD_GRAYSCALE)) > 127)


if __name__ == "__main__":
    main()

"""How well the embedded model segments scenes that it was not trained on: pictures drawn as for training, held out.

    evaluate_scenes.py [--count N] [--side S] [--weights FILE] [--rendered DIR]

Each scene has three frames. IoU of the mask with the truth, the mean over scenes of held-out pictures and over scenes
of held-out cut-outs:

one view      the first frame, from its true box
as prompted   the same as `mam-video` looks at a prompted frame: several views (`models/lite_views.py`)
second frame  from the first frame's mask, moved as the scene says, and the first frame as a reference
third frame   from the second frame's mask, with both as references

The last two follow once from one view, as the trainer's check does, and once from what is found as prompted.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from mam_video.core.errors import MamVideoError
from mam_video.core.geometry import Box
from mam_video.models.base import Embedding, Reference, ViewPrompt
from mam_video.models.lite import LiteModel
from mam_video.training.data.pictures import (
    labelled_cutouts,
    read_backgrounds,
    read_cutouts,
    read_labelled,
    read_manifest,
    read_rendered,
)
from mam_video.training.roll_out import moved_mask
from mam_video.training.synth.scene import SceneGenerator

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "train"
NAMES = ("one view", "as prompted", "second frame", "third frame", "second, prompted", "third, prompted")


def generators(data: Path, rendered: Path, side: int) -> dict[str, SceneGenerator]:
    """The same scenes as the trainer's check draws, of pictures and of cut-outs."""
    sources = read_manifest(data)
    pictures, backgrounds = read_labelled(data, sources, held=True), read_backgrounds(data, sources, held=True)
    cutouts = read_cutouts(data, sources, held=True) + read_rendered(rendered, held=True)
    stills = [picture for picture in pictures if picture.clip is None]
    return {
        "pictures": SceneGenerator(pictures, backgrounds, side, 0),
        "cut-outs": SceneGenerator(stills, backgrounds, side, 0, labelled_cutouts(cutouts), 1.0),
    }


def evaluate(model: LiteModel, scene: dict[str, np.ndarray]) -> list[float]:
    """The IoU of each of `NAMES` in one scene."""
    embedded = [_embedded(model, scene, t) for t in range(len(scene["picture"]))]
    box = ViewPrompt(Box(*(float(v) * model.view_size for v in scene["box"][0])))
    first = [model.segment(embedded[0], 0, replace(box, prompted=way)).logits[0] for way in (False, True)]
    found = [_iou(scene, 0, mask) for mask in first]
    for start in first:
        references = [Reference(embedded[0], 0, start, prompted=True)]
        mask = start
        for t in range(1, len(embedded)):
            prompt = ViewPrompt(logits=_moved(mask, scene["move"][t - 1]), references=tuple(references))
            mask = model.segment(embedded[t], 0, prompt).logits[0]
            references = [references[0], Reference(embedded[t], 0, mask)]
            found.append(_iou(scene, t, mask))
    return found


def _embedded(model: LiteModel, scene: dict[str, np.ndarray], t: int) -> Embedding:
    """A frame at the size of the model's view; the segmenter sees half of it, which is the scene's own pixels."""
    valid = scene["valid"][t, 0]
    scale = model.view_size / scene["picture"].shape[-1]
    h, w = (round(float(valid.max(axis).sum()) * model.view_size / len(valid)) for axis in (1, 0))
    picture = scene["picture"][t].transpose(1, 2, 0)[: round(h / scale), : round(w / scale)]
    return model.embed([cv2.resize(np.ascontiguousarray(picture), (w, h), interpolation=cv2.INTER_NEAREST)])


def _moved(mask: np.ndarray, move: np.ndarray) -> np.ndarray:
    share = torch.from_numpy(mask)[None, None].sigmoid()
    moved = moved_mask(share, torch.from_numpy(move)[None])
    return np.asarray(torch.logit(moved.clamp(1e-4, 1 - 1e-4))[0, 0].numpy())


def _iou(scene: dict[str, np.ndarray], t: int, logits: np.ndarray) -> float:
    """As the trainer computes it; 1 where truth and mask are empty."""
    counts = scene["weight"][t, 0] > 0
    mask, truth = (logits > 0) & counts, (scene["truth"][t, 0] > 0.5) & counts
    union = int((mask | truth).sum())
    return int((mask & truth).sum()) / union if union else 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=80, help="scenes of each kind")
    parser.add_argument("--side", type=int, default=320, help="of the scenes: what the segmenter sees")
    parser.add_argument("--weights", type=Path, help="those of the package if not given")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rendered", type=Path, default=Path("runs/rendered"))
    arguments = parser.parse_args()
    try:
        model = LiteModel.load(arguments.weights)
        kinds = generators(arguments.data, arguments.rendered, arguments.side)
    except MamVideoError as error:
        print(f"evaluate_scenes: {error}", file=sys.stderr)
        return error.exit_code
    for kind, scenes in kinds.items():
        with torch.inference_mode():
            rows = [evaluate(model, scenes.scene(i)) for i in range(arguments.count)]
        means = np.mean(rows, 0)
        told = "  ".join(f"{name} {value:.3f}" for name, value in zip(NAMES, means, strict=True))
        print(f"{kind}, {len(rows)}: {told}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

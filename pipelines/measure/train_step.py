"""Where does the time of a training step go? The part of `benchmark.py` that measures it.

The trainers of the recipes run as they do in `mam-video train`, and their first steps are measured: plain, then by part
(each waited for), then by operator under PyTorch's profiler.
"""

from __future__ import annotations

import argparse
import os
import time

import torch

from mam_video.training.recipes import parse_changes, trainer_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipes", nargs="*", default=["lite-segmenter", "lite-matte"], metavar="RECIPE")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as in `mam-video train`")
    parser.add_argument("--steps", type=int, default=3, help="of each of the three measurements")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    for recipe in options.recipes:
        trainer = trainer_of(recipe, parse_changes(options.set))
        c = trainer.config
        print(
            f"\n## {recipe}: batches of {c.batch} at {' and '.join(map(str, trainer.sides()))} pixels, "
            f"{torch.get_num_threads()} threads, {time.strftime('%Y-%m-%d')}, load {os.getloadavg()[0]:.0f}",
            flush=True,
        )
        batches = trainer.prepare()
        print(trainer.profile(batches, options.steps).table(), flush=True)
    return 0

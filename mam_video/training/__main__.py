"""`python -m mam_video.training CONFIG.toml [--resume] [--set key=value ...]`: runs a training recipe."""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mam_video.errors import MamVideoError
from mam_video.training.common import read_config


def train(config: Path, *, resume: bool = False, changes: dict[str, Any] | None = None) -> None:
    """Runs the recipe that the config names."""
    try:
        recipe = tomllib.loads(config.read_text(encoding="utf-8")).get("recipe")
    except (OSError, tomllib.TOMLDecodeError) as e:
        raise MamVideoError(f"{config}: cannot read this training config ({e})") from e
    if recipe == "lite-segmenter":
        from mam_video.training.segmenter import SegmenterConfig, SegmenterTrainer

        SegmenterTrainer(read_config(SegmenterConfig, config, changes)).run(resume=resume)
    elif recipe == "lite-matte":
        from mam_video.training.mattes import MatteConfig, MatteTrainer

        MatteTrainer(read_config(MatteConfig, config, changes)).run(resume=resume)
    elif recipe == "mam":
        from mam_video.training.mam import MamConfig, MamTrainer

        MamTrainer(read_config(MamConfig, config, changes)).run(resume=resume)
    else:
        raise MamVideoError(f"{config}: unknown recipe {recipe!r}; known: lite-segmenter, lite-matte, mam")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="mam_video.training", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--resume", action="store_true", help="go on from the run in the config's `out`")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a key of the config")
    args = parser.parse_args(arguments)
    changes: dict[str, Any] = {}
    for text in args.set:
        key, _, value = text.partition("=")
        try:
            changes[key] = tomllib.loads(f"v = {value}")["v"]
        except tomllib.TOMLDecodeError:
            changes[key] = value
    try:
        train(args.config, resume=args.resume, changes=changes)
    except MamVideoError as e:
        print(f"mam-video: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The main job from Python: a box on the first frame, ProRes 4444 and a run report out.

    python pipelines/matte_clip.py plate.mov 412,96,890,1010 matte.mov [--model NAME] [--report run.json]

To work on the frames yourself, iterate `matte_frames`: each `Matted` carries its frame (pixels, index, pts), its
float32 alpha and its record.

    with open_clip("plate.mov") as clip:
        for matted in matte_frames(clip.frames(), prompt, load_model(settings.model), settings):
            matted.alpha  # (H, W) float32 in [0, 1]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mam_video import MamVideoError, Prompt, Settings, matte_clip, open_clip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plate", type=Path)
    parser.add_argument("box", help="x0,y0,x1,y1 on the first frame")
    parser.add_argument("output", help="as matte.mov, or alpha.mov:alpha")
    parser.add_argument("--model", default=Settings().model.name)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()

    settings = Settings().with_values({"model": {"name": options.model}}, "--model")
    with open_clip(options.plate) as clip:
        prompt = Prompt.parse(options.box, [], clip.info.size)
    report = matte_clip(options.plate, options.output, prompt, settings)
    if options.report:
        report.save(options.report)
    print(report.summary())
    for found in report.flagged:
        print(f"look at {found}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MamVideoError as error:
        sys.exit(f"matte_clip: {error}")

"""A shot over a new background: matte, then composite, in one pass over the frames.

python pipelines/new_background.py plate.mov 412,96,890,1010 beach.jpg comp.mp4
"""

from __future__ import annotations

import argparse
import sys

from mam_video import MamVideoError, Prompt, Settings, matte_clip, open_clip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plate")
    parser.add_argument("box", help="x0,y0,x1,y1 on the first frame")
    parser.add_argument("background", help="a picture, a clip, checker, or a colour as #rrggbb")
    parser.add_argument("output", help="an .mp4")
    options = parser.parse_args()

    settings = Settings().with_values({"output": {"background": options.background}}, "background")
    with open_clip(options.plate) as clip:
        prompt = Prompt.parse(options.box, [], clip.info.size)
    report = matte_clip(options.plate, f"{options.output}:preview", prompt, settings)
    print(report.summary())
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MamVideoError as error:
        sys.exit(f"new_background: {error}")

"""`mam-video frame`: write one frame as a picture, with a ruler and a grid, or with what can be found in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mam_video.cli.inspect import add_reading, write_picture
from mam_video.cli.options import reading_from
from mam_video.cli.say import say
from mam_video.cli.which_frame import add_frame, frame_of, output_of, requested_frame
from mam_video.core.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from mam_video.core.geometry import Box
    from mam_video.jobs.candidates import Candidate
    from mam_video.media import ClipInfo

_DESCRIPTION = """\
Write one frame as a picture, to point at the subject: with a grid to read coordinates from, or with numbered boxes.

examples:
  mam-video frame plate.mov --grid
  mam-video frame plate.mov --candidates
  mam-video frame plate.mov --frame 120 --box 412,96,890,1010 -o frame.png
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mam-video frame`."""
    parser.description = _DESCRIPTION
    parser.set_defaults(run=_run)
    parser.add_argument("input", metavar="INPUT", help="the clip: a movie, or a sequence by its pattern or folder")
    add_frame(parser)
    parser.add_argument("-o", "--output", metavar="NAME", help="a .png or .jpg (default: CLIP.frameN.png)")
    parser.add_argument("--grid", action="store_true", help="draw a grid, with pixels at two edges and percent at two")
    parser.add_argument("--candidates", action="store_true", help="find what can be matted; number it and print boxes")
    parser.add_argument("--box", metavar="X0,Y0,X1,Y1", help="a box to draw on it")
    parser.add_argument("--model", metavar="NAME", help="the model that looks for candidates (default: lite)")
    parser.add_argument("--overwrite", action="store_true", help="replace a picture that exists")
    add_reading(parser)


def _run(options: argparse.Namespace) -> int:
    from mam_video.media import open_for_viewing
    from mam_video.media.name_guard import NameGuard
    from mam_video.prompts.prompt import Prompt

    requested = requested_frame(options)
    if options.model is not None and not options.candidates:
        raise UsageError("--model NAME is for --candidates; give both, or leave it out")
    with open_for_viewing(options.input, reading_from(options)) as reader:
        info = reader.info
        box = Prompt.parse(options.box, [], info.size).box if options.box else None
        if options.output is not None:
            output_of(options.output, info, "", "a frame")  # refused before anything is decoded
        frame = frame_of(requested, reader)
        number = info.frame_number(frame.index)
        output = output_of(options.output, info, f"frame{number}.png", "a frame")
    guard = NameGuard()
    guard.reads("the clip", options.input)
    guard.writes("the frame", output)
    if output.exists() and not options.overwrite:
        raise UsageError(f"{output}: exists already; give another name with -o, or --overwrite")
    picture, found = frame.rgb8, []
    if options.candidates:
        found = _found(picture, options.model)
    write_picture(output, info.path, _drawn(picture, found, box, options.grid), options.overwrite)
    label = f", {info.timecode + frame.index}" if info.timecode else ""
    say(f"wrote {output}: frame {number}{label}, {info.width}x{info.height}")
    if options.candidates:
        _print(found, info, number, output)
    return 0


def _found(picture: np.ndarray, model: str | None) -> list[Candidate]:
    from mam_video.core.settings import ModelSettings
    from mam_video.jobs.candidates import find_candidates
    from mam_video.models.registry import load_model

    return find_candidates(load_model(ModelSettings() if model is None else ModelSettings(name=model)), picture)


def _drawn(picture: np.ndarray, found: list[Candidate], box: Box | None, grid: bool) -> np.ndarray:
    """Draw the requested overlays: candidates, the grid above them, the user's box above all."""
    from mam_video.report.ruler import with_boxes, with_grid

    if found:
        picture = with_boxes(picture, [each.box for each in found], [each.mask for each in found])
    if grid:
        picture = with_grid(picture)
    return picture if box is None else with_boxes(picture, [box])


def _print(found: list[Candidate], info: ClipInfo, number: int, output: Path) -> None:
    """Print each candidate with its box, and a command to try the first."""
    if not found:
        say("nothing was found that stands out; read a box off the picture that --grid draws")
        return
    for k, each in enumerate(found, start=1):
        say(f"{k}  --box {each.box}  {each.area:.1%} of the picture, sure to {each.score:.0%}")
    at = "" if number == (info.numbers[0] if info.numbers else 0) else f" --frame {number}"
    say(f"the numbers are those in {output}; to try one: mam-video preview {info.path}{at} --box {found[0].box}")

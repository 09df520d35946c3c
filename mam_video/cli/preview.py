"""`mam-video preview`: one frame's matte, and what the whole clip will take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mam_video.cli.inspect import frame_index, write_picture
from mam_video.cli.matte import check_subject, guard_of, readable
from mam_video.cli.options import add_shared, settings_from
from mam_video.cli.prompts import prompt_of
from mam_video.cli.say import say
from mam_video.core.errors import UsageError
from mam_video.core.settings import presets
from mam_video.report.sentences import sentences

if TYPE_CHECKING:
    from mam_video.core.settings import Settings
    from mam_video.jobs.preview import Preview
    from mam_video.media import ClipInfo


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    parser = commands.add_parser(
        "preview",
        help="one frame's matte over a checker, and what the whole clip will take",
        description="Matte one frame and a few after it: see the one over a checker, and what time and disk the whole "
        "clip will take. A box, points or a mask are of that frame.",
    )
    parser.set_defaults(run=run, audio=None, verify=None)
    parser.add_argument("input", help="the clip, as for `matte`")
    parser.add_argument("--frame", default=None, metavar="N", help="its number or timecode; the first where left out")
    parser.add_argument("-o", "--output", metavar="NAME", help="a .png or .jpg; CLIP.preview.png where left out")
    parser.add_argument(
        "--for", dest="planned", action="append", metavar="NAME[:KIND]", help="what will be written; matte.mov at first"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a picture that exists")
    add_shared(parser)
    parser.set_defaults(on_cut="continue")  # a few frames around one tell nothing of shots
    parser.set_defaults(prompt=None, prompts=None)
    job = parser.add_argument_group("job")
    job.add_argument("--track", metavar="FILE", help="follow a saved track")
    job.add_argument("--config", action="append", metavar="NAME|FILE", help=f"settings: {', '.join(presets())} or TOML")
    job.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", help="one setting, as in the TOML files")
    job.add_argument("--debug", action="store_true", help="show tracebacks")


def run(options: argparse.Namespace) -> int:
    settings = settings_from(options)
    check_subject(options)
    planned = options.planned or ["matte.mov"]

    from mam_video.media import open_clip, parse_output

    for output in planned:
        parse_output(output)
    with open_clip(options.input, settings.input) as reader:
        info = reader.info
        index = 0 if options.frame is None else frame_index(options.frame, info)
        prompt = prompt_of(options, reader, index, settings)
        output = _output_of(options, settings, info)

        from mam_video.jobs.preview import preview

        seen = preview(
            reader,
            planned,
            prompt,
            settings,
            index=index,
            track_from=options.track,
            masks=options.masks,
            trimaps=options.trimaps,
            include=options.include,
            exclude=options.exclude,
        )
    write_picture(output, info.path, seen.over_checker, options.overwrite)
    for line in _lines(seen, info, index, output, planned):
        say(line)
    return 0


def _output_of(options: argparse.Namespace, settings: Settings, info: ClipInfo) -> Path:
    """Return the picture's name. Raises: UsageError, it cannot be written under that name."""
    name = info.path.name
    stem = name.rpartition("%")[0].rstrip("._") if info.numbers is not None and "%" in name else info.path.stem
    output = Path(options.output or f"{stem or 'clip'}.preview.png")
    if output.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{output}: a preview is written as .png or .jpg")
    if not output.absolute().parent.is_dir():
        raise UsageError(f"{output}: the folder {output.absolute().parent} does not exist")
    guard_of(options, settings).writes("the preview", output)
    if output.exists() and not options.overwrite:
        raise UsageError(f"{output}: exists already; give another name with -o, or --overwrite")
    return output


def _lines(seen: Preview, info: ClipInfo, index: int, output: Path, planned: list[str]) -> list[str]:
    record = seen.matted.record
    number = info.frame_number(index)
    reasons = f" ({'; '.join(sentences(record.findings))})" if record.findings else ""
    lines = [f"wrote {output}: frame {number}, {record.state}{reasons}, {record.area:.1%} of the picture"]
    count = info.frames_in_header
    whole = f"all {count} frames" if count is not None else "the whole clip, whose length it does not say"
    if seen.pace is None:
        lines.append("the clip has one frame: no pace could be measured")
    else:
        pace = f"{seen.pace:.3g} s a frame by {seen.measured} frames, file to file"
        seconds = seen.seconds(count) if count is not None else None
        lines.append(f"time for {whole}: " + (f"about {_time(seconds)} ({pace})" if seconds is not None else pace))
    for name, size in zip(planned, seen.sizes, strict=True):
        how = f"by {seen.measured} frames" if size.measured else "from a table of real plates; grain can double it"
        each = f"{readable(round(size.bytes_a_frame))} a frame {how}"
        total = "" if count is None else f"about {readable(round(size.bytes_a_frame * count))}, "
        lines.append(f"disk for {name}: {total}{each}")
    return lines


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{max(whole, 1)} s"
    minutes, left = divmod(whole, 60)
    return f"{minutes} min {left} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

"""`mam-video matte`: a clip and a prompt in, mattes out."""

from __future__ import annotations

import argparse
import json
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mam_video.cli.prompts import prompts_of
from mam_video.errors import MediaError, UsageError
from mam_video.settings import Settings, parse_value, presets
from mam_video.timecode import frame_range

if TYPE_CHECKING:
    from mam_video.frames import Matted
    from mam_video.media import ClipInfo
    from mam_video.report.looks import Looks
    from mam_video.report.run import RunReport

    OnFrame = Callable[[Matted, RunReport], None]

_SHOWN_RANGES = 8
_LINE_SECONDS = 1.0  # between two lines of --progress json

_EPILOG = """\
output kinds:
{kinds}
examples:
  mam-video matte plate.mov --box 412,96,890,1010 -o matte.mov
  mam-video matte plate.mov --box 20%,10%,60%,95% -o matte.mov -o alpha.mov:alpha -o look.mp4
  mam-video matte plate.mov --box 20%,10%,60%,95% -o comp.mp4 --bg street.mov
  mam-video matte plate.mov --point 640,400 --point 100,80,0 -o frames/matte.####.png
  mam-video matte plate.mov --prompt 0:box=412,96,890,1010 --prompt "120:box=380,90,850,1000" -o matte.mov
  mam-video matte plate.mov --prompt dancer@0:box=412,96,890,1010 --prompt drummer@0:box=20,96,300,800 \
      -o {{subject}}.mov -o both.mp4 -o layers/:exr-layers
"""


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    from mam_video.media import kinds

    lines = "".join(f"  {kind.name:15}{kind.says}\n" for kind in kinds())
    parser = commands.add_parser(
        "matte",
        help="matte a clip",
        description="Matte the subject that a box or points on the first frame show.",
        epilog=_EPILOG.format(kinds=lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "input", help="the clip: anything FFmpeg decodes; or a sequence: name.%%04d.exr, name.####.png, a folder"
    )
    parser.add_argument(
        "-o", "--output", action="append", metavar="NAME[:KIND]", help="where to write; may be repeated"
    )
    parser.add_argument("--no-audio", dest="audio", action="store_false", default=None, help="leave the sound out")
    parser.add_argument(
        "--no-verify", dest="verify", action="store_false", default=None, help="do not read back what was written"
    )
    parser.add_argument("--overwrite", action="store_true", default=None, help="replace outputs that exist")

    add_shared(parser)
    _add_job(parser)


def add_shared(parser: argparse.ArgumentParser) -> None:
    """What `preview` takes too: how the clip is read, where the subject is, the model and the matte."""
    reading = parser.add_argument_group("input")
    reading.add_argument("--deinterlace", action="store_true", default=None, help="make whole pictures of fields")
    reading.add_argument("--on-error", metavar="WHAT", help="where a frame is damaged: stop, or repeat the one before")
    reading.add_argument("--fps", metavar="RATE", help="of a sequence: 24, 24000/1001, 23.976 (which means it)")
    reading.add_argument("--on-gap", metavar="WHAT", help="where frames of a sequence are missing: stop or repeat")
    reading.add_argument("--layer", metavar="NAME", help="of an EXR: the layer or part that is the picture")
    reading.add_argument(
        "--input-transform", metavar="NAME", help="what values mean: auto, none, srgb, linear, log, or an OCIO space"
    )

    prompt = parser.add_argument_group(
        "prompt, on the first frame", "in pixels of the upright picture, or with % of it"
    )
    prompt.add_argument("--box", metavar="X0,Y0,X1,Y1", help="a box around the subject")
    prompt.add_argument(
        "--point", action="append", metavar="X,Y[,0]", help="a point on it, or with ,0 on the background"
    )
    prompt.add_argument(
        "--text", metavar="WORDS", help="what it is, in place of a box: 'the dancer in red' (extra: text)"
    )
    prompt.add_argument(
        "--text-model",
        metavar="FOLDER|NAME",
        help="the detector that --text asks: a folder, or a name on the Hugging Face hub, fetched once "
        "(IDEA-Research/grounding-dino-tiny)",
    )

    by_hand = parser.add_argument_group(
        "masks by hand", "pictures or movies of the clip's size: their alpha where they have one, else their grey"
    )
    by_hand.add_argument("--mask", metavar="FILE", help="the subject in the first frame, in place of a box")
    by_hand.add_argument(
        "--masks",
        metavar="NAME",
        help="the subject in every frame (name.%%04d.png, a folder, a movie): nothing is tracked",
    )
    by_hand.add_argument(
        "--trimaps", metavar="NAME", help="likewise, black and white final: the model works in the grey"
    )
    by_hand.add_argument("--include", metavar="NAME", help="garbage matte, a still or of every frame: alpha is 1 in it")
    by_hand.add_argument("--exclude", metavar="NAME", help="garbage matte, a still or of every frame: alpha is 0 in it")
    model = parser.add_argument_group("model")
    model.add_argument("--model", metavar="NAME", help="lite (the default), classic, mam-vit-b, mam-vit-l or mam-vit-h")
    model.add_argument("--sam-weights", metavar="FILE", help="a SAM checkpoint, or a name of `mam-video weights list`")
    model.add_argument("--mam-weights", metavar="FILE", help="a MAM checkpoint, or a name of `mam-video weights list`")
    model.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or mps")
    model.add_argument("--precision", metavar="NAME", help="auto, float32, bfloat16 or float16")

    look = parser.add_argument_group("matte")
    look.add_argument("--guidance", metavar="NAME", help="what the merge starts from: mask or alpha")
    look.add_argument("--roi", metavar="NAME", help="auto: look around the subject; frame: at the whole picture")
    look.add_argument("--smooth", type=float, metavar="S", help="flow-guided smoothing, 0 (off) to 1")
    look.add_argument("--black", type=float, metavar="A", help="alpha up to here becomes 0")
    look.add_argument("--white", type=float, metavar="A", help="alpha from here on becomes 1")
    look.add_argument("--choke", type=float, metavar="PX", help="move the edge inwards, in pixels of the plate")
    look.add_argument("--grow", type=float, metavar="PX", help="move the edge outwards (after --choke)")
    look.add_argument("--feather", type=float, metavar="PX", help="soften the edge to a ramp of so many pixels")
    look.add_argument("--invert", action="store_true", default=None, help="the matte of the background")
    look.add_argument(
        "--look",
        action="append",
        metavar="SUBJECT:KEY=VALUE;...",
        help="the same of one of several subjects: dancer:grow=2;feather=1.5; may be repeated",
    )
    look.add_argument(
        "--foreground", metavar="NAME", help="colour at soft edges: estimate (the subject's own) or plate"
    )
    look.add_argument("--premultiply", action="store_true", default=None, help="write colour times alpha")
    look.add_argument("--rate", metavar="RATE", help="of movies: make it constant, as 24 or 24000/1001, by exact times")
    look.add_argument("--start-number", type=int, metavar="N", help="of a sequence's first frame; a movie's is 1001")
    look.add_argument(
        "--bg",
        "--background",
        dest="background",
        metavar="WHAT",
        help="what a preview (.mp4) lies over: #rrggbb, checker, a picture, or a clip, frame by frame",
    )


def _add_job(parser: argparse.ArgumentParser) -> None:
    more = parser.add_argument_group("more prompts", "on any frame: what is between two is tracked from both sides")
    more.add_argument(
        "--prompt",
        action="append",
        metavar="[SUBJECT@]FRAME:WHAT",
        help="on any frame, by its number or timecode: 120:box=X0,Y0,X1,Y1;point=X,Y;point=X,Y,0; may be repeated, and "
        "of several subjects names each: dancer@0:box=X0,Y0,X1,Y1",
    )
    more.add_argument("--prompts", metavar="FILE", help="the same from a file; see `mam-video prompts --help`")
    more.add_argument(
        "--backward",
        action="store_true",
        help="track back to the first frame from the first prompt, where that is on a later frame",
    )

    job = parser.add_argument_group("job")
    job.add_argument(
        "--range",
        metavar="FIRST-LAST",
        help="only these frames, both inclusive: 20-39, 20- (counted from 0; of a sequence, by its files' numbers: "
        "1001-1050), or timecodes: 00:00:04:12-",
    )
    job.add_argument(
        "--handles",
        type=int,
        default=0,
        metavar="N",
        help="frames more before and after the range; the prompt is of the first frame written",
    )
    job.add_argument(
        "--on-cut",
        metavar="WHAT",
        help="at a hard cut: reprompt (the new shot needs a prompt of its own, empty without one), stop, or continue",
    )
    job.add_argument(
        "--resume", action="store_true", help="keep what is done; where the same run was cut off, go on there"
    )
    job.add_argument("--save-track", metavar="FILE", help="keep where the subject was found")
    job.add_argument("--track", metavar="FILE", help="follow a saved track: nothing is tracked again")
    job.add_argument("--report", metavar="DIR", help="write run.json, one record a frame, and report.html")
    job.add_argument("--config", action="append", metavar="NAME|FILE", help=f"settings: {', '.join(presets())} or TOML")
    job.add_argument("--set", action="append", metavar="SECTION.KEY=VALUE", help="one setting, as in the TOML files")
    job.add_argument("--strict", action="store_true", help="exit code 3 where frames were flagged")
    job.add_argument(
        "--progress", choices=("bar", "json"), default="bar", help="json: a line of JSON a second, and no other output"
    )
    job.add_argument("--quiet", action="store_true", help="print nothing but errors")
    job.add_argument("--debug", action="store_true", help="show tracebacks")


def run(options: argparse.Namespace) -> int:
    settings = settings_from(options)
    outputs = options.output or []
    if not outputs:
        raise UsageError("no output: give -o NAME, as in -o matte.mov")
    if options.handles < 0 or (options.handles and not options.range):
        raise UsageError("--handles N widens a --range by N frames on both sides; give both")
    check_subject(options)

    from mam_video.media import expected_bytes, notes, open_clip, parse_output
    from mam_video.media.kinds import must_be_kept
    from mam_video.media.outputs import SUBJECT
    from mam_video.report.looks import Looks
    from mam_video.report.page import check_folder, save_report

    if options.report:
        check_folder(options.report)
    for output in outputs:
        parse_output(output)
        if options.resume:
            must_be_kept(output)
    with open_clip(options.input, settings.input) as reader:
        info = reader.info
        frames = _frames_of(options, info)
        prompts = prompts_of(options, reader, frames[0] if frames else 0, settings)
    count = _count_of(frames, info.frames_in_header)

    from mam_video.clip import matte_clip  # brings torch: only once all that can be checked without it is right

    looks = Looks()
    spoken = not options.quiet and options.progress == "bar"
    with _progress(options, count) as (shown, tracked):
        if spoken:
            for note in notes(outputs, info):
                print(f"note: {note}")
            sizes = [
                size and size * (len(prompts) or 1 if SUBJECT in output else 1)
                for output in outputs
                for size in [expected_bytes(output, info, count)]
            ]
            print(_announcement(info, frames[0] if frames else 0, count, sizes))
        report = matte_clip(
            options.input,
            outputs,
            prompts or None,
            settings,
            backward=options.backward,
            track_from=options.track,
            track_to=options.save_track,
            masks=options.masks,
            trimaps=options.trimaps,
            include=options.include,
            exclude=options.exclude,
            frames=frames,
            resume=options.resume,
            on_frame=_each(shown, looks if options.report else None),
            on_tracked=tracked,
        )
    report.command = ["mam-video", *options.given]
    if options.report:
        save_report(report, looks, Path(options.report))
    if spoken:
        _print_end(report, options)
    elif options.progress == "json":
        _print_line(end_line(report))
    if report.unkept:
        raise MediaError(f"written, but not as promised: {'; '.join(report.unkept)}")
    return 3 if options.strict and report.flagged else 0


def check_subject(options: argparse.Namespace) -> None:
    """Raises: UsageError, where it is not said where the subject is, or twice."""
    if options.mask and (options.box or options.point):
        raise UsageError("--mask stands in place of --box and --point; give one of them")
    for name in ("box", "mask", "prompt", "prompts", "track", "masks", "trimaps"):
        if options.text is not None and getattr(options, name):
            raise UsageError(f"--text finds the subject by itself; leave out --{name}, or --text")
    prompting = (
        options.text is not None or options.box or options.point or options.mask or options.prompt or options.prompts
    )
    if options.track and prompting:
        raise UsageError("--track follows what was found before; give it, or prompts")
    if not (prompting or options.track or options.masks or options.trimaps):
        raise UsageError("no prompt: give --box x0,y0,x1,y1 or --point x,y on the subject in the first frame")


def settings_from(options: argparse.Namespace) -> Settings:
    """Defaults < files < flags."""
    settings = Settings()
    for name in options.config or []:
        settings = settings.with_file(name)
    for text in options.set or []:
        settings = settings.with_values(_parse_set(text), "--set")
    flags = {
        "input": {
            "deinterlace": options.deinterlace,
            "on_error": options.on_error,
            "fps": options.fps,
            "on_gap": options.on_gap,
            "layer": options.layer,
            "transform": options.input_transform,
        },
        "model": {
            "name": options.model,
            "device": options.device,
            "precision": options.precision,
            "sam_weights": options.sam_weights,
            "mam_weights": options.mam_weights,
        },
        "text": {"model": options.text_model},
        "view": {"roi": options.roi},
        "cuts": {"on_cut": options.on_cut},
        "matte": {"guidance": options.guidance},
        "smooth": {"strength": options.smooth},
        "finish": {
            "black": options.black,
            "white": options.white,
            "choke": options.choke,
            "grow": options.grow,
            "feather": options.feather,
            "invert": options.invert,
        },
        "looks": _looks(options.look or []),
        "output": {
            "foreground": options.foreground,
            "premultiply": options.premultiply,
            "audio": options.audio,
            "verify": options.verify,
            "background": options.background,
            "rate": options.rate,
            "overwrite": options.overwrite,
            "start_number": options.start_number,
        },
    }
    given = {s: {k: v for k, v in keys.items() if v is not None} for s, keys in flags.items()}
    return settings.with_values(given, "command line")


def _looks(given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Keys of the matte's look by subject, of `--look dancer:grow=2;feather=1.5`."""
    looks: dict[str, dict[str, Any]] = {}
    for text in given:
        subject, colon, keys = text.partition(":")
        for pair in keys.split(";"):
            key, equals, value = (part.strip() for part in pair.partition("="))
            if not (subject.strip() and colon and key and equals and value):
                raise UsageError(f"--look '{text}' is not of the form SUBJECT:KEY=VALUE;KEY=VALUE, as dancer:grow=2")
            looks.setdefault(subject.strip(), {})[key] = parse_value(value)
    return looks


def _parse_set(text: str) -> dict[str, dict[str, Any]]:
    match = re.fullmatch(r"(\w+)\.(\w+)=(.+)", text.strip())
    if match is None:
        raise UsageError(f"--set '{text}' is not of the form SECTION.KEY=VALUE, as in smooth.radius=2")
    section, key, value = match.groups()
    return {section: {key: parse_value(value)}}


def _frames_of(options: argparse.Namespace, info: ClipInfo) -> tuple[int, int | None] | None:
    """First and last index of the range with its handles; None for the whole clip."""
    if options.range is None:
        return None
    first, last = frame_range(options.range, info.timecode, info.rate, info.numbers)
    return max(first - options.handles, 0), None if last is None else last + options.handles


def _count_of(frames: tuple[int, int | None] | None, header: int | None) -> int | None:
    """How many frames lie ahead, as far as is known."""
    if frames is None:
        return header
    first, last = frames
    if header is None:
        return None if last is None else last - first + 1
    return max((header if last is None else min(last + 1, header)) - first, 0)


def _each(shown: OnFrame | None, looks: Looks | None) -> OnFrame:
    """What is done for each frame that is written."""

    def each(matted: Matted, report: RunReport) -> None:
        if looks is not None:
            looks.add(matted)
        if shown is not None:
            shown(matted, report)

    return each


@contextmanager
def _progress(
    options: argparse.Namespace, count: int | None
) -> Iterator[tuple[OnFrame | None, Callable[[], None] | None]]:
    """A bar with frames, speed, time left and flagged frames; or lines of JSON.

    What to call after each matted frame, and after each frame that is tracked ahead; None where quiet.
    """
    if options.progress == "json":
        yield _lines(count), None
        return
    if options.quiet:
        yield None, None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("matting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[flagged]}"),
    )
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("matting", total=count, fps="", flagged="")
        flagged = seen = found = 0

        def shown(matted: Matted, report: RunReport) -> None:
            nonlocal flagged, seen
            flagged += sum(record.state.flagged for record in report.records[seen:])
            seen = len(report.records)
            recent = report.frame_seconds[-20:]
            speed = len(recent) / max(sum(recent), 1e-9)
            note = f"{flagged} flagged" if flagged else ""
            bar.update(task, completed=seen, fps=f"{speed:.2f} fps", flagged=note)

        def tracked() -> None:
            nonlocal found
            found += 1
            bar.update(task, fps=f"tracked ahead: {found}")

        yield shown, tracked


def _lines(count: int | None) -> OnFrame:
    """Prints a line of JSON at the first frame and then about once a second."""
    states: Counter[str] = Counter()
    seen = 0
    printed = -math.inf

    def shown(matted: Matted, report: RunReport) -> None:
        nonlocal seen, printed
        states.update(str(record.state) for record in report.records[seen:])
        seen = len(report.records)
        now = time.monotonic()
        if now - printed >= _LINE_SECONDS:
            printed = now
            _print_line(progress_line(report, matted.frame.index, count, states))

    return shown


def progress_line(report: RunReport, frame: int, count: int | None, states: Mapping[str, int]) -> dict[str, Any]:
    """How far a run is; docs/report.md names the fields. `frame` is the index of the last one written."""
    recent = report.frame_seconds[-20:]
    fps = len(recent) / max(sum(recent), 1e-9)
    done = len(report.records)
    left = None if count is None else max(count - done, 0)
    return {
        "event": "progress",
        "frame": frame,
        "done": done,
        "total": count,
        "fps": round(fps, 3),
        "eta": None if left is None else round(left / fps, 1),
        "states": dict(states),
    }


def end_line(report: RunReport) -> dict[str, Any]:
    """What came of a run."""
    return {
        "event": "end",
        "done": len(report.records),
        "seconds": round(report.wall, 3),
        "fps": round(report.fps, 3),
        "states": report.states(),
        "outputs": [str(path) for path in report.outputs],
        "flagged": [found.as_dict() for found in report.flagged],
    }


def _print_line(content: dict[str, Any]) -> None:
    print(json.dumps(content), flush=True)


def _announcement(info: ClipInfo, first: int, count: int | None, sizes: list[int | None]) -> str:
    """What lies ahead from frame `first` on, in a line, before a long run."""
    frames = f"{count} frames" if count is not None else "an unknown number of frames"
    known = [size for size in sizes if size is not None]
    disk = f"; expect about {readable(sum(known))} on disk" if known else ""
    start = f", from {info.timecode + first}" if info.timecode else ""
    return f"{info.path.name}: {info.width}x{info.height}, {float(info.rate):.6g} fps, {frames}{start}{disk}"


def _print_end(report: RunReport, options: argparse.Namespace) -> None:
    print(report.summary())
    for path in report.outputs:
        kept = report.checks.get(path)
        print(f"wrote {path}" + (f" (read back: {'; '.join(map(str, kept))})" if kept else ""))
    for note in report.notes:
        if note not in report.clip.notes:  # those were said before the run
            print(f"note: {note}")
    flagged = report.flagged
    if not flagged:
        print("no frame was flagged")
        return
    print(f"look at {'this range' if len(flagged) == 1 else f'these {len(flagged)} ranges'}:")
    for found in flagged[:_SHOWN_RANGES]:
        print(f"  {found.told(report.clip.numbers, report.clip.timecode)}")
    if len(flagged) > _SHOWN_RANGES:
        hint = f"; all of them are in {options.report}" if options.report else "; --report DIR lists them all"
        print(f"  and {len(flagged) - _SHOWN_RANGES} more{hint}")


def readable(size: int) -> str:
    """Bytes in three digits."""
    value = float(size)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"

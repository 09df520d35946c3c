"""The options that `matte` and `preview` share, and the settings they make."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from mam_video.cli.inspect import add_plate_alpha
from mam_video.core.errors import UsageError
from mam_video.core.settings import Settings, parse_value


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
    add_plate_alpha(reading)

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
            "alpha": options.alpha,
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

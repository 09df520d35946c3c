"""What the README's figures of memory and speed come from.

    python pipelines/measure/benchmark.py memory [--frames 60 300]
    python pipelines/measure/benchmark.py speed [--variant vit-b] [--device cuda]
    python pipelines/measure/benchmark.py subjects [--variant vit-b]
    python pipelines/measure/benchmark.py rate [--model lite]
    python pipelines/measure/benchmark.py gpu [--device cuda] [--size 1280x720]
    python pipelines/measure/benchmark.py stages [--frames 12]
    python pipelines/measure/benchmark.py timeline [-o overlap.svg]
    python pipelines/measure/benchmark.py media [--frames 48]
    python pipelines/measure/benchmark.py exr [--size 3840x2160]
    python pipelines/measure/benchmark.py train [lite-segmenter lite-matte] [--set batch=4]

Each figure is printed with what it was taken on. Machines differ and are noisy: read ratios, not absolute times.
"""

from __future__ import annotations

import argparse
import sys

import exr_speed
import gpu
import media_speed
import memory
import rate
import speed
import stages
import subjects
import timeline
import train_step

from mam_video import MamVideoError
from mam_video.models.devices import cpu_has_bfloat16, cpu_name


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    memory.add_arguments(commands.add_parser("memory", help="peak memory and seconds a frame by length of the clip"))
    speed.add_arguments(commands.add_parser("speed", help="against segment-anything's predictor and plain M2M"))
    subjects.add_arguments(commands.add_parser("subjects", help="the time of several subjects against that of one"))
    rate.add_arguments(commands.add_parser("rate", help="frames a second file to file, and where the time goes"))
    gpu.add_arguments(commands.add_parser("gpu", help="the whole way on a device, by stage, and the obvious loop"))
    stages.add_arguments(commands.add_parser("stages", help="processor time of each stage of the embedded model"))
    timeline.add_arguments(commands.add_parser("timeline", help="draw how the stages of a run overlap"))
    media_speed.add_arguments(
        commands.add_parser("media", help="reading and writing alone, against ffmpeg's command line")
    )
    exr_speed.add_arguments(commands.add_parser("exr", help="a frame as an EXR: conversion, compression, writing"))
    train_step.add_arguments(commands.add_parser("train", help="a training step by part and by operator"))
    options = parser.parse_args()
    if not getattr(options, "child", None):
        print(f"{cpu_name()}, native bfloat16: {'yes' if cpu_has_bfloat16() else 'no'}")
    return int(options.run(options))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MamVideoError as error:
        sys.exit(f"benchmark: {error}")

"""The command line: parse, call, print. Heavy imports wait until the arguments are known to be right."""

from mam_video.cli.main import main

__all__ = ["main"]

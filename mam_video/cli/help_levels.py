"""Which options `--help` shows of the commands that have many; `--help-all` shows every one."""

from __future__ import annotations

from typing import Final

_EDGES: Final = ("--smooth", "--choke", "--grow", "--feather")

# By command. Commands that are not here show all of their options.
COMMON: Final[dict[str, tuple[str, ...]]] = {
    "matte": (
        "-h", "-o", "--overwrite", "--box", "--point", "--text", "--prompt", "--model", "--choke", "--feather", "--bg",
        "--range", "--track", "--save-track", "--report", "--resume", "--config", "--dry-run", "--help-all",
    ),
    "job": (
        "-h", "--for", "-o", "--overwrite", "--box", "--point", "--text", "--prompt", "--model", "--device", "--range",
        "--track", "--save-track", "--report", "--chunk", "--threads", "--strict", "--config", "--help-all",
    ),
    "preview": (
        "-h", "--frame", "-o", "--for", "--overwrite", "--box", "--point", "--text", "--prompt", "--range", "--model",
        *_EDGES, "--config", "--help-all",
    ),
    "still": (
        "-h", "-o", "--overwrite", "--box", "--point", "--text", "--model", "--device", "--choke", "--grow",
        "--feather", "--foreground", "--config", "--set", "--help-all",
    ),
    "config show": ("-h", "--config", "--set", "--model", "--device", *_EDGES, "--help-all"),
}  # fmt: skip

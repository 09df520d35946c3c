"""Matte a whole clip from one box on its first frame.

from mam_video import matte_clip
matte_clip("plate.mov", "matte.mov", (412, 96, 890, 1010))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mam_video.core.errors import DeviceError, MamVideoError, MediaError, UsageError, WeightsError
    from mam_video.core.frames import Frame, Matted, Record, State
    from mam_video.core.geometry import Box, Point
    from mam_video.core.settings import Settings
    from mam_video.jobs.matte_clip import matte_clip
    from mam_video.jobs.stills import matte_image
    from mam_video.matting.pipeline import matte_frames
    from mam_video.media import open_clip, open_writers
    from mam_video.models.registry import load_model
    from mam_video.prompts.prompt import Prompt, Prompts
    from mam_video.report.run import RunReport
    from mam_video.tracking.track_file import Track

__all__ = [
    "Box",
    "DeviceError",
    "Frame",
    "MamVideoError",
    "Matted",
    "MediaError",
    "Point",
    "Prompt",
    "Prompts",
    "Record",
    "RunReport",
    "Settings",
    "State",
    "Track",
    "UsageError",
    "WeightsError",
    "load_model",
    "matte_clip",
    "matte_frames",
    "matte_image",
    "open_clip",
    "open_writers",
]

# Imported on first use, so that `mam-video --help` and a wrong argument need not wait for torch.
_ROOMS = {
    "jobs.matte_clip": ("matte_clip",),
    "jobs.stills": ("matte_image",),
    "core.errors": ("DeviceError", "MamVideoError", "MediaError", "UsageError", "WeightsError"),
    "core.frames": ("Frame", "Matted", "Record", "State"),
    "matting.pipeline": ("matte_frames",),
    "media": ("open_clip", "open_writers"),
    "models.registry": ("load_model",),
    "core.geometry": ("Box", "Point"),
    "prompts.prompt": ("Prompt", "Prompts"),
    "report.run": ("RunReport",),
    "core.settings": ("Settings",),
    "tracking.track_file": ("Track",),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("mam-video")
    if name not in _ROOM_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)

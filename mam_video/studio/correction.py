"""Make a version of an older one: tracks are corrected around new prompts, and all other frames are taken over."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

from mam_video.core.settings import Settings, SmoothSettings
from mam_video.media import Reader
from mam_video.models.base import Model
from mam_video.prompts.prompt import Prompts
from mam_video.studio.state import State
from mam_video.studio.versions import Version, matte_file
from mam_video.tracking.retrack import find_stretches, retrack
from mam_video.tracking.track_file import Track, TrackWriter


def correct_tracks(
    old: Version,
    folder: Path,
    state: State,
    again: Iterable[Sequence[int]],
    masks: Path,
    reader: Reader,
    model: Model,
    settings: Settings,
    on_tracked: Callable[[], None],
) -> list[range]:
    """Write the tracks of a version into `folder`, corrected by the prompts `again` (subject id and frame).

    `masks` is the folder of masks. Returns: the frames that were tracked again, as ranges that do not meet, in order.
    """
    new = {(int(subject), int(frame)) for subject, frame in again}
    spans: list[range] = []
    for key, name in old.subjects.items():
        mine = {
            p.frame: p.prompt(masks) for p in state.prompts if p.subject == int(key) and (p.subject, p.frame) in new
        }
        target = folder / f"{name}.track"
        source = old.folder / f"{name}.track"
        if not mine:
            link(source, target)
            continue
        with Track.load(source, reader.info.size) as track, tempfile.TemporaryDirectory(prefix="mam-video-") as own:
            spans += [range(each.start, each.stop) for each in find_stretches(track, sorted(mine))]
            with TrackWriter(target, reader.info.size, model, settings.as_dict()) as writer:
                found = retrack(
                    reader.frames, track, Prompts.of(mine, name), model, settings, Path(own), on_frame=on_tracked
                )
                with closing(found):
                    for observation in found:
                        writer.write_observation(observation)
    return joined(spans)


def joined(spans: Iterable[range]) -> list[range]:
    """Join ranges that overlap or meet; in order."""
    found: list[range] = []
    for span in sorted(spans, key=lambda each: each.start):
        if found and span.start <= found[-1].stop:
            found[-1] = range(found[-1].start, max(found[-1].stop, span.stop))
        else:
            found.append(span)
    return found


def widened(span: range, whole: tuple[int, int], smooth: SmoothSettings) -> range:
    """Return the frames whose mattes change with the masks of `span`: smoothing sees beyond it."""
    reach = smooth.radius if smooth.strength > 0 else 0
    return range(max(span.start - reach, whole[0]), min(span.stop + reach, whole[1] + 1))


def link_frames(old: Version, folder: Path, frames: Iterable[int]) -> None:
    """Take over the mattes and records of these frames."""
    kept = set(frames)
    for frame in kept:
        for key in old.subjects:
            source = matte_file(old.folder, frame, int(key))
            if source.exists():
                link(source, matte_file(folder, frame, int(key)))
    lines = [entry for entry in old.lines() if entry[0] in kept]
    with (folder / "records.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(text for _, text in lines)


def moved_track(old: Version, folder: Path) -> str:
    """Return the name of the tracks in `folder` as `matte --track` takes it."""
    return str(folder / Path(old.track).name)


def link(source: Path, target: Path) -> None:
    """Give a file a second name; where the file system has no hard links, copy it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)

"""Mask sources of track files: a saved track as it is, and one that new prompts correct."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mam_video.core.errors import UsageError
from mam_video.core.ranges import FrameRange
from mam_video.jobs.mask_source import MaskSource, TrackedAhead, TrackedClip, TrackingJob, followed, hash_of_masks
from mam_video.media import ClipInfo
from mam_video.media.atomic_output import SUBJECT
from mam_video.models.base import video_model_of
from mam_video.prompts.prompt import DEFAULT_SUBJECT, Prompt, Prompts
from mam_video.runtime.append_log import identity
from mam_video.tracking.retrack import Stretch, find_stretches, retrack
from mam_video.tracking.track_file import Track, TrackWriter


class SavedTrack(MaskSource):
    """A track file of one subject, opened; or with `{subject}` in its name those of several, as they were saved.

    Raises: as `Track.load`, and UsageError, a track does not cover the frames of the run.
    """

    def __init__(self, path: str | Path, info: ClipInfo, frames: FrameRange | None) -> None:
        paths = tracks_by_subject(path)
        self.subjects = tuple(paths)
        self.tracks: list[Track] = []
        try:
            for each in paths.values():
                self.tracks.append(Track.load(each, info.size))
                _check_covered(self.tracks[-1], info, frames)
        except BaseException:
            self.close()
            raise

    @contextmanager
    def tracked(self, job: TrackingJob) -> Iterator[TrackedClip]:
        yield followed(dict(zip(self.record_names, self.tracks, strict=True)), ends=False)

    def fingerprint(self) -> dict[str, Any]:
        return {"track": identity([track.path for track in self.tracks])}

    def close(self) -> None:
        for track in self.tracks:
            track.close()


class CorrectedTracks(TrackedAhead):
    """Saved tracks with new prompts: only the frames around these are tracked again, see `tracking/retrack.py`.

    Raises: as `SavedTrack`, and UsageError, a prompt is of no subject of the tracks, or outside frame, range or track.
    """

    def __init__(self, path: str | Path, several: Sequence[Prompts], info: ClipInfo, frames: FrameRange | None) -> None:
        self.saved = SavedTrack(path, info, frames)
        try:
            alone = len(self.saved.tracks) == len(several) == 1 and SUBJECT not in str(path)
            self.subjects = (several[0].subject,) if alone else self.saved.subjects
            self.prompts = {prompts.subject: prompts.in_pixels(info.size) for prompts in several}
            for subject, prompts in self.prompts.items():
                if subject not in self.subjects:
                    raise UsageError(
                        f"{path} has no track of subject '{subject}', only of {', '.join(self.subjects)}: name one of "
                        f"them, as in --prompt {self.subjects[0]}@{prompts.frames[0]}:box=..."
                    )
                for index in prompts.frames:
                    if index not in (frames or FrameRange()):
                        raise UsageError(f"prompt on frame {index}: lies outside the range {frames} (by index)")
            self.stretches = {
                subject: find_stretches(track, self.prompts[subject].frames)
                for subject, track in zip(self.subjects, self.saved.tracks, strict=True)
                if subject in self.prompts
            }
        except BaseException:
            self.close()
            raise
        self._info = info

    def prompts_at(self, index: int) -> tuple[Prompt | None, ...]:
        each = {subject: dict(prompts.entries) for subject, prompts in self.prompts.items()}
        found = tuple(each.get(subject, {}).get(index) for subject in self.subjects)
        return found if any(found) else ()

    @property
    def prompted(self) -> tuple[int, ...]:
        frames = sorted({index for prompts in self.prompts.values() for index in prompts.frames})
        return tuple(frames) if len(frames) > 1 else ()

    @property
    def notes(self) -> list[str]:
        lines = []
        for subject, stretches in self.stretches.items():
            track = self.saved.tracks[self.subjects.index(subject)]
            parts = ", ".join(map(self._called, stretches))
            lines.append(f"{track.path}: frames {parts} were tracked again; the others are as they were")
        return lines

    def track_of(self, k: int, folder: Path, job: TrackingJob) -> Track:
        if self.subjects[k] in self.prompts:
            return super().track_of(k, folder, job)
        return Track.load(self.saved.tracks[k].path, job.reader.info.size)

    def track_ahead(self, k: int, path: Path, folder: Path, job: TrackingJob) -> None:
        subject, track = self.subjects[k], self.saved.tracks[k]
        if path.exists():
            return
        if video_model_of(job.model) is not None:
            raise UsageError(
                f"{track.path}: {job.model.name} keeps the clip in a memory of its own, so its track cannot be "
                "corrected in parts; leave out --track and give every prompt"
            )
        job.reader.index_for_random_access()
        with TrackWriter(path, job.reader.info.size, job.model, job.settings.as_dict()) as writer:
            found = retrack(
                job.reader.frames, track, self.prompts[subject], job.model, job.settings, folder, stop=job.stop,
                batch=job.batch, clock=job.clock, on_frame=job.on_tracked,
            )  # fmt: skip
            with closing(found):
                for observation in found:
                    writer.write_observation(observation)

    def fingerprint(self) -> dict[str, Any]:
        entries = [
            f"{subject}@{index}: {prompt}"
            for subject, prompts in self.prompts.items()
            for index, prompt in prompts.entries
        ]
        masks = (prompt for prompts in self.prompts.values() for _, prompt in prompts.entries)
        return {**self.saved.fingerprint(), "prompt": "; ".join(entries), "mask": hash_of_masks(masks)}

    def close(self) -> None:
        self.saved.close()

    def _called(self, stretch: Stretch) -> str:
        first, last = (self._info.frame_number(index) for index in (stretch.start, stretch.stop - 1))
        return f"{first}-{last}"


def tracks_by_subject(path: str | Path) -> dict[str, Path]:
    """Return the track files that a name stands for, by subject: each file that fits where it holds `{subject}`.

    Raises: UsageError, no file fits.
    """
    name = Path(path)
    if SUBJECT not in str(name):
        return {DEFAULT_SUBJECT: name}
    placed = next(k for k, part in enumerate(name.parts) if SUBJECT in part)
    folder, part = Path(*name.parts[:placed]), name.parts[placed]
    form = re.compile("(?P<subject>.+)".join(map(re.escape, part.split(SUBJECT, 1))).replace(re.escape(SUBJECT), ".+"))
    found = {}
    for entry in sorted(folder.iterdir()) if folder.is_dir() else []:
        fits = form.fullmatch(entry.name)
        if fits is not None and not entry.name.startswith("."):
            file = Path(str(name).replace(SUBJECT, fits["subject"]))
            if file.is_file():
                found[fits["subject"]] = file
    if not found:
        raise UsageError(f"{path}: no such track file; {SUBJECT} stands for the subjects' names")
    return found


def _check_covered(track: Track, info: ClipInfo, frames: FrameRange | None) -> None:
    """Raises: UsageError, the run has frames that the track lacks."""
    wanted = frames or FrameRange()
    count = wanted.count(info.frames_in_header)
    if count == 0:  # refused when the clip is read
        return
    last = None if count is None else wanted.start + count - 1
    end = track.first + track.count - 1
    if track.first <= wanted.start <= end and (last is None or last <= end):
        return
    first, stop = info.frame_number(track.first), info.frame_number(end)
    start = info.frame_number(wanted.start)
    if frames is None:
        more = f"the clip has frames {start}-{info.frame_number(last if last is not None else end)}: give --range "
        raise UsageError(f"{track.path} covers frames {first}-{stop}; {more}{first}-{stop}")
    until = "" if last is None else info.frame_number(last)
    raise UsageError(f"{track.path} covers frames {first}-{stop}; you asked for {start}-{until}")

"""The three steps of a job, each with the functions that a run on one machine calls too."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.frames import Matted
from mam_video.core.ranges import FrameRange
from mam_video.farm.chunk_file import ChunkFrame, ChunkReader, ChunkWriter
from mam_video.farm.chunk_tracks import ChunkTracks, track_span
from mam_video.farm.folder import JobFolder
from mam_video.jobs.matte_clip import Callbacks, FileStages, MatteJob, frames_to_read, track_writers
from mam_video.jobs.saved_tracks import SavedTrack
from mam_video.jobs.tracked_before import TrackedBefore
from mam_video.matting.backend import Delivered
from mam_video.matting.pipeline import batch_size, device_of, track_stages
from mam_video.media import WriterGroup, open_writers, parse_output
from mam_video.models.base import Model
from mam_video.report.pictures import Picture, Snapshot
from mam_video.report.run import RunReport
from mam_video.report.thumbnails import Thumbnails
from mam_video.runtime.append_log import flushed
from mam_video.runtime.os_errors import writing
from mam_video.tracking.stage import SaveTracks
from mam_video.tracking.track_file import TrackWriter

_PICTURE: Final = struct.Struct("<III")  # bytes of the plate's JPEG; height and width

OnFrame = Callable[[int | None], None]  # called after each frame with the number of frames to do


def track(job: MatteJob, folder: JobFolder, model: Model, on_frame: OnFrame) -> None:
    """Find the subjects in every frame, and write a track file of each. Nothing is done where that is done already."""
    if folder.tracked is not None:
        return
    start, total = time.perf_counter(), job.frames.count(job.reader.info.frames_in_header)
    job.calls = Callbacks(on_tracked=lambda: on_frame(None))
    names = job.plan.subjects or (None,)
    with folder.scratch(0) as scratch, ExitStack() as stack:
        paths = {name: scratch / path.name for name, path in zip(names, folder.track_paths, strict=True)}
        job.plan = replace(job.plan, tracks={name: str(path) for name, path in paths.items()})
        tracks = stack.enter_context(job.source.tracked(job.tracking_job(model)))
        with track_writers(job.plan, job.reader.info, model, job.settings, None) as writers:
            run = job.recipe(SaveTracks(tracks.stage, writers), model, job.open_overrides(stack), job.frames.start)
            frames = job.reader.frames(*frames_to_read(job, tracks, job.frames.start, model))
            count = 0
            with closing(track_stages(frames, run)) as rows, _chunk_tracks(job, folder, model, scratch) as chunks:
                for row in rows:
                    chunks.add(row)
                    on_frame(total)
                    count += 1
            if not count:
                raise UsageError(f"{job.reader.info.path}: holds no frame of the range {job.frames}")
        with writing(folder.main):
            for path, final in zip(paths.values(), folder.track_paths, strict=True):
                flushed(path)
                path.replace(final)
    folder.note_tracked(
        {
            "cuts": job.cuts.found, "notes": job.source.notes, "seconds": time.perf_counter() - start,
            "device": device_of(model), "host": socket.gethostname(),
        }
    )  # fmt: skip


def _chunk_tracks(job: MatteJob, folder: JobFolder, model: Model, scratch: Path) -> ChunkTracks:
    """Return what writes the track of each chunk that is missing."""
    size, values, batch = job.reader.info.size, job.settings.as_dict(), batch_size(model, job.settings)

    def open_writer(chunk: FrameRange, k: int) -> TrackWriter:
        return TrackWriter(scratch / folder.chunk_track(chunk, k).name, size, model, values)

    return ChunkTracks(
        [(chunk, track_span(chunk, job.settings.smooth, batch)) for chunk in folder.missing], open_writer,
        folder.chunk_track, len(job.source.subjects),
    )  # fmt: skip


def matte(job: MatteJob, folder: JobFolder, model: Model, chunk: FrameRange, on_frame: OnFrame) -> int:
    """Matte the frames of a chunk: files of sequences get their names, the rest lies in the chunk's file.

    Frames beyond the end of the track, where the clip has ended, are left out.
    Returns: frames matted.
    """
    with ExitStack() as stack:
        overrides = job.open_overrides(stack)
        tracks = stack.enter_context(job.source.tracked(job.tracking_job(model)))
        assert tracks.covers is not None and tracks.covers.stop is not None and chunk.stop is not None
        stop = min(chunk.stop, tracks.covers.start + tracks.known)
        facts = {
            "job": folder.plan.id, "frames": [chunk.start, chunk.stop], "device": device_of(model),
            "host": socket.gethostname(),
        }  # fmt: skip
        with ChunkWriter(folder.chunk_path(chunk), facts) as writer:
            if stop > chunk.start:
                outputs = stack.enter_context(_ScratchOutputs(job, folder))
                stages = _ChunkStages(outputs.writers, job)

                def add(matted: Matted, report: RunReport) -> None:
                    picture = _packed(Snapshot.of(matted).encoded()) if folder.plan.report else b""
                    writer.add(matted, job.alphas.last, report.frame_seconds[-1], stages.packed, picture)
                    on_frame(stop - chunk.start)

                job.calls = Callbacks(on_frame=add)
                job.writers, job.frames = outputs.writers, FrameRange(job.frames.start, stop)
                job.report = job.begin_report(model)
                job.write_frames(job.recipe(tracks.stage, model, overrides, chunk.start), tracks, stages)
                outputs.place_frames()
            writer.end({"broken": list(job.reader.broken), "seconds": job.clock.seconds})
        return writer.count


def _packed(picture: Picture) -> bytes:
    return _PICTURE.pack(len(picture.plate), *picture.size) + picture.plate + picture.matte


def _unpacked(data: bytes) -> Picture:
    length, h, w = _PICTURE.unpack_from(data)
    body = data[_PICTURE.size :]
    return Picture(body[:length], body[length:], (h, w))


class _ChunkStages(FileStages):
    """The last stages of the recipe in a chunk: frames are converted, packed and not encoded.

    packed  the last frame, as the chunk's file takes it
    """

    def __init__(self, writers: WriterGroup, job: MatteJob) -> None:
        super().__init__(writers, job.plan.coloured, job.settings)
        self._group, self.packed = writers, list[bytes]()

    def convert(self, delivered: Delivered) -> Any:
        converted = super().convert(delivered)
        return converted, self._group.packed(converted)

    def encode(self, converted: Any) -> None:
        frames, self.packed = converted
        for writer, output, frame in zip(self._group, self._group.paths, frames, strict=True):
            if _is_sequence(str(output)):
                writer.encode(frame)


class _ScratchOutputs:
    """The writers of a chunk: each beside its output, under the names of its files in a folder of its own.

    Writers of movies only convert. Files of sequences are moved to their final names by `place_frames`, each whole. One
    that stands there is of the same job, or may be replaced: the plan saw to that.
    """

    def __init__(self, job: MatteJob, folder: JobFolder) -> None:
        self._job, self._folder, self._stack = job, folder, ExitStack()
        self._bare = [parse_output(name) for name in job.plan.names]

    def __enter__(self) -> _ScratchOutputs:
        job, names = self._job, []
        with ExitStack() as stack:
            for k, (name, kind) in enumerate(self._bare):
                scratch = stack.enter_context(self._folder.scratch(k))
                ending = "/" if name.endswith(("/", "\\")) else ""
                names.append(f"{scratch / Path(name).name}{ending}:{kind.name}")
            self.writers = open_writers(
                names, job.info, replace(job.settings.output, audio="none", overwrite=True), part=job.part is not None,
                frames=job.part, subjects=job.plan.subjects, whose=job.plan.whose,
            )  # fmt: skip
            stack.callback(self.writers.abort)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def place_frames(self) -> None:
        """Give the files of sequences their final names."""
        for writer, (name, kind) in zip(self.writers, self._bare, strict=True):
            if kind.writer != "sequence":
                continue
            writer.close()
            folder = Path(name) if name.endswith(("/", "\\")) else Path(name).parent
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                for file in writer.files:
                    flushed(file)
                    file.replace(folder / file.name)


@dataclass
class Joined:
    """What came of a job.

    report      as that of a run on one machine; its seconds are those that the tasks took together
    thumbnails  of the flagged frames, where the plan wants a report
    hosts       machines that matted
    """

    report: RunReport
    thumbnails: Thumbnails
    hosts: list[str]


def join(job: MatteJob, folder: JobFolder, on_frame: OnFrame) -> Joined:
    """Encode the movies from the chunks, read every output back, and give movies and saved tracks their names.

    Raises: MediaError, chunks are missing: it names their frames.
    """
    plan, start = folder.plan, time.perf_counter()
    if missing := folder.missing:
        raise MediaError(f"{folder.main}: {missing_frames(plan.called(each) for each in missing)}; run these chunks")
    facts = folder.tracked or {}
    job.cuts.found[:] = [int(index) for index in facts.get("cuts", [])]
    chunks, thumbnails = list(folder.chunks), Thumbnails(stand=job.settings.track.stand)
    with ExitStack() as stack:
        job.plan.make_folders(stack)
        job.writers = stack.enter_context(_final_writers(job, folder))
        hosts = _Hosts()
        _begin_report(job, folder)
        for path in chunks:
            with closing(ChunkReader(path)) as chunk:
                hosts.add(chunk, plan.id)
                for frame in chunk:
                    if frame.index == job.frames.start + len(job.report.records):  # else an earlier chunk had it
                        _add(job, frame)
                        if plan.report:
                            thumbnails.add_row(frame.records, partial(_unpacked, frame.picture))
                        on_frame(plan.frames.count(None))
                for name, seconds in chunk.facts.get("seconds", {}).items():
                    job.clock.seconds[name] = job.clock.seconds.get(name, 0.0) + float(seconds)
                job.reader.broken[:] = sorted({*job.reader.broken, *chunk.facts.get("broken", [])})
        _check_count(job, folder)
    report = job.report
    report.flag_back(job.settings.track.stand)
    report.files, report.device = job.writers.files, hosts.devices
    report.notes = [*job.notes(0), *hosts.notes]
    if job.settings.output.verify:
        job.verify()
    report.command = list(plan.command)
    report.repeated_by(plan.rerun)
    report.wall = sum(report.frame_seconds) + float(facts.get("seconds", 0)) + time.perf_counter() - start
    report.seconds = job.clock.seconds
    return Joined(report, thumbnails, sorted(hosts.names))


def _check_count(job: MatteJob, folder: JobFolder) -> None:
    """Raises: UsageError, there is no frame; MediaError, chunks hold fewer frames than were tracked."""
    count = len(job.report.records)
    if not count:
        raise UsageError(f"{job.reader.info.path}: holds no frame of the range {job.frames}")
    assert isinstance(job.source, SavedTrack | TrackedBefore)
    ends = [folder.plan.frames.stop or 0, *(track.first + track.count for track in job.source.tracks)]
    tracked = min(ends) - job.frames.start
    if count != tracked:
        raise MediaError(f"{folder.main}: the chunks hold {count} of {tracked} frames; remove them and run them again")


class _Hosts:
    """Machines and devices that matted the chunks."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._frames: dict[str, int] = {}

    def add(self, chunk: ChunkReader, job: str) -> None:
        """Take note of a chunk. Raises: MediaError, it is of another job."""
        if chunk.facts.get("job") != job:
            raise MediaError(f"{chunk.path}: is of another job; remove it and run its chunk again")
        self.names.add(str(chunk.facts.get("host")))
        device = str(chunk.facts.get("device")).partition(":")[0]
        self._frames[device] = self._frames.get(device, 0) + len(chunk)

    @property
    def devices(self) -> str:
        """The kinds of devices that matted, one or several."""
        return ", ".join(self._frames)

    @property
    def notes(self) -> list[str]:
        """A line where frames were matted on several kinds of devices."""
        if len(self._frames) < 2:
            return []
        each = ", ".join(f"{count} on {device}" for device, count in self._frames.items())
        return [f"frames were matted on several kinds of devices ({each}): the last bits of their alphas may differ"]


def missing_frames(ranges: Iterator[str] | Sequence[str]) -> str:
    """Return a line that names the frames of chunks that are missing."""
    names = list(ranges)
    shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more chunks" if len(names) > 6 else "")
    return f"frames {shown} are missing"


def _add(job: MatteJob, frame: ChunkFrame) -> None:
    job.report.add_known(frame.records, frame.done[0].seconds)
    job.alphas.add_known([(entry.low, entry.high) for entry in frame.done])
    job.writers.encode(job.writers.unpacked(frame.converted))


def _final_writers(job: MatteJob, folder: JobFolder) -> WriterGroup:
    """Open the writers of the outputs. Files of sequences stand already; a movie may be there of a join cut off."""
    movies_standing = job.settings.output.overwrite or (folder.main / "publishing").exists()
    names = [name for name in job.plan.names if not _is_sequence(parse_output(name)[0])]
    for name in names:
        path = Path(parse_output(name)[0])
        if path.exists() and not movies_standing:
            raise UsageError(f"{path}: exists; give --overwrite to replace it, or choose another name")
    writers = open_writers(
        job.plan.names, job.info, replace(job.settings.output, overwrite=True), part=job.part is not None,
        frames=job.part, subjects=job.plan.subjects, whose=job.plan.whose,
    )  # fmt: skip

    def publishing() -> None:
        with writing(folder.main):
            (folder.main / "publishing").touch()
        _save_tracks(job, folder)

    writers.before_commit = publishing
    return writers


def _save_tracks(job: MatteJob, folder: JobFolder) -> None:
    """Copy the tracks to the names that the user asked for, each whole."""
    for path, final in zip(folder.track_paths, job.plan.tracks.values(), strict=False):
        target = Path(final)
        beside = target.with_name(f".{target.name}.part-{folder.plan.id}")
        with writing(target):
            try:
                beside.write_bytes(path.read_bytes())
                beside.replace(target)
            finally:
                with suppress(OSError):
                    beside.unlink(missing_ok=True)


def _begin_report(job: MatteJob, folder: JobFolder) -> None:
    key = folder.plan.fingerprint
    weights = {str(name): str(digest) for name, digest in dict(key.get("weights", {})).items()}
    job.report = RunReport(job.reader.info, str(key.get("model")), weights, "", job.settings, list(job.writers.paths))


def _is_sequence(name: str) -> bool:
    return parse_output(name)[1].writer == "sequence"

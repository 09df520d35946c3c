"""The plan of a job: one checked value that says all that its tasks need, and the JSON that carries it to them.

A job has three steps:

    track   one task: finds the subjects in every frame, in order, and writes a track file of each
    matte   a task for each chunk of frames, in any order, on any machine that sees the files
    join    one task: encodes movies, reads all outputs back, writes the report

The plan holds versions, the hashes of the weights and every setting. A task whose own differ refuses to run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from mam_video.core.errors import UsageError
from mam_video.core.geometry import Box, Point
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import Settings
from mam_video.core.untrusted import parse_json
from mam_video.prompts.prompt import Prompt, Prompts
from mam_video.report.rerun import Rerun
from mam_video.runtime.os_errors import reason

VERSION: Final = 1  # of the plan's form
_KIND: Final = "mam-video job"
_FILES: Final = ("track", "masks", "trimaps", "include", "exclude")
ALIGNED: Final = 8  # frames: chunks begin at multiples of it, where batches begin on every device


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What a job reads, makes and depends on. Paths are absolute.

    source       the clip, as `open_clip` takes it
    outputs      as typed, NAME or NAME:kind
    frames       that come out, both ends known
    part         the range that the user gave; None: the whole clip
    chunk        frames of a matte task
    threads      of a task's model, on every machine: sums by another number of threads may round in another way
    prompts      of each subject, in pixels; empty where a file says where the subjects are
    files        track, masks, trimaps, include, exclude: by name, where given
    save_track   where the track is written too; None: nowhere
    report       folder of the report; None: none
    first_number what users call the first frame of `frames`, where they count on from there; None: its index
    fingerprint  what the result depends on, see `jobs.checkpoint.run_fingerprint`
    command      the command line that made the plan
    rerun        how to repeat it with corrections, for the report; None: it was made from Python
    """

    source: str
    outputs: tuple[str, ...]
    frames: FrameRange
    part: FrameRange | None
    chunk: int
    threads: int
    prompts: tuple[Prompts, ...]
    backward: bool
    files: Mapping[str, str]
    save_track: str | None
    report: str | None
    settings: Settings
    fingerprint: Mapping[str, Any]
    command: tuple[str, ...] = ()
    first_number: int | None = None
    rerun: Rerun | None = None

    def __post_init__(self) -> None:
        if self.frames.stop is None:
            raise UsageError(
                f"{self.source}: does not say how many frames it has; give --range FIRST-LAST, so that they can be "
                "shared out"
            )
        if self.chunk < 1 or self.threads < 1:
            raise UsageError(f"--chunk and --threads must be 1 at least, are {self.chunk} and {self.threads}")

    @cached_property
    def id(self) -> str:
        """Twelve letters that tell this job from every other."""
        content = self.depends_on
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def depends_on(self) -> dict[str, Any]:
        """What makes it another job. Other chunks give the same frames, and each machine has its own device."""
        content = self.as_dict()
        for free in (
            "command",
            "rerun",
            "chunk",
            "report",
            "settings",
        ):  # the fingerprint has those settings that matter
            del content[free]
        content["fingerprint"].pop("device", None)
        return content

    @property
    def chunks(self) -> list[FrameRange]:
        """The frames of each matte task, in order. While one worker tracks, small chunks at first let others begin."""
        return chunks_of(self.frames, self.chunk, first=2 * ALIGNED if self.tracks else self.chunk)

    @property
    def tracks(self) -> bool:
        """Whether there is a track step: not where a track file is given."""
        return "track" not in self.files

    @property
    def number_of_first(self) -> int:
        """What users call the first frame."""
        return self.frames.start if self.first_number is None else self.first_number

    def called(self, frames: FrameRange) -> str:
        """Return a range as users call it: FIRST-LAST, both inclusive."""
        shift = self.number_of_first - self.frames.start
        assert frames.stop is not None
        return f"{frames.start + shift}-{frames.stop - 1 + shift}"

    def chunk_of(self, text: str) -> FrameRange:
        """Return the frames that users call FIRST-LAST, or one number.

        Raises: UsageError, it has another form, or lies outside the job's frames.
        """
        shift = self.number_of_first - self.frames.start
        first, dash, last = text.strip().partition("-") if not text.startswith("-") else (text, "", "")
        try:
            begin, end = int(first) - shift, int(last or first) - shift
        except ValueError:
            raise UsageError(
                f"chunk '{text}' is not of the form FIRST-LAST, as in {self.called(self.frames)}"
            ) from None
        if begin > end or begin not in self.frames or end not in self.frames or (dash and not last):
            raise UsageError(f"chunk {text} lies outside the job, which has the frames {self.called(self.frames)}")
        return FrameRange(begin, end + 1)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values; `from_dict` reads them."""
        return {
            "kind": _KIND,
            "version": VERSION,
            "source": self.source,
            "outputs": list(self.outputs),
            "frames": _ends(self.frames),
            "part": None if self.part is None else _ends(self.part),
            "chunk": self.chunk,
            "threads": self.threads,
            "prompts": [_prompts_as_dict(each) for each in self.prompts],
            "backward": self.backward,
            "files": dict(self.files),
            "save_track": self.save_track,
            "report": self.report,
            "settings": self.settings.as_dict(),
            "fingerprint": json.loads(json.dumps(self.fingerprint)),
            "command": list(self.command),
            "first_number": self.first_number,
            "rerun": None if self.rerun is None else self.rerun.as_plain(),
        }

    def text(self) -> str:
        """Return the plan as JSON on one line."""
        return json.dumps(self.as_dict())

    @classmethod
    def from_text(cls, text: str, where: str) -> JobPlan:
        """Read what `text` gave; `where` names it in errors.

        Raises: UsageError, it is no plan, it is one of another version, or a value is missing or wrong.
        """
        try:
            content = parse_json(text)
        except ValueError as error:
            raise UsageError(f"{where}: is no job file of mam-video ({error}); `mam-video job` makes one") from None
        if not isinstance(content, dict) or content.get("kind") != _KIND:
            raise UsageError(f"{where}: is no job file of mam-video; `mam-video job` makes one")
        if content.get("version") != VERSION:
            raise UsageError(
                f"{where}: is a job file of version {content.get('version')}, this program reads version {VERSION}; "
                "make it again with `mam-video job`"
            )
        try:
            return cls._of(content, where)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"{where}: the job file is damaged ({error}); make it again with `mam-video job`"
            ) from None

    @classmethod
    def _of(cls, content: Mapping[str, Any], where: str) -> JobPlan:
        part, saved, report = content["part"], content["save_track"], content["report"]
        number = content["first_number"]
        files = {str(name): str(path) for name, path in content["files"].items() if name in _FILES}
        given = {name: _without_none(values) for name, values in content["settings"].items()}
        return cls(
            source=str(content["source"]),
            outputs=tuple(str(name) for name in content["outputs"]),
            frames=FrameRange(*content["frames"]),
            part=None if part is None else FrameRange(*part),
            chunk=int(content["chunk"]),
            threads=int(content["threads"]),
            prompts=tuple(_prompts_of_dict(each) for each in content["prompts"]),
            backward=bool(content["backward"]),
            files=files,
            save_track=None if saved is None else str(saved),
            report=None if report is None else str(report),
            settings=Settings().with_values(given, where),
            fingerprint=dict(content["fingerprint"]),
            command=tuple(str(word) for word in content["command"]),
            first_number=None if number is None else int(number),
            rerun=None if content.get("rerun") is None else Rerun.of_plain(content["rerun"]),
        )

    @classmethod
    def load(cls, path: str | Path) -> JobPlan:
        """Read a plan from a file. Raises: UsageError, as `from_text`, or it cannot be read."""
        try:
            return cls.from_text(Path(path).read_text(encoding="utf-8"), str(path))
        except FileNotFoundError:
            raise UsageError(f"{path}: no such job file; `mam-video job` makes one") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: cannot read this job file ({reason(error)})") from None


def chunks_of(frames: FrameRange, size: int, first: int | None = None) -> list[FrameRange]:
    """Cut a range into chunks of `size` frames that begin at multiples of it, but for the first.

    `first`: frames of the first chunk, where fewer. Each next one then has twice as many until they have `size`, and
    they begin at multiples of 8.
    """
    assert frames.stop is not None
    starts = [frames.start]
    if first is not None and ALIGNED <= first < size:
        while first < size and starts[-1] + first < frames.stop:
            starts.append((starts[-1] + first) // ALIGNED * ALIGNED)
            first *= 2
        starts += range(starts[-1] + size, frames.stop, size)
    else:
        starts += range((frames.start // size + 1) * size, frames.stop, size)
    return [FrameRange(a, b) for a, b in zip(starts, [*starts[1:], frames.stop], strict=True)]


def aligned(size: int) -> int:
    """Return the frames of a chunk: `size`, rounded up to a multiple of 8 where it is more than that."""
    return size if size < ALIGNED else -(-size // ALIGNED) * ALIGNED


def default_chunk(count: int, workers: int) -> int:
    """Return frames a chunk: some four chunks a worker, of 8 frames at least and 240 at most."""
    return min(max(-(-count // (4 * max(workers, 1))), ALIGNED), 240)


def _ends(frames: FrameRange) -> list[int | None]:
    return [frames.start, frames.stop]


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _prompts_as_dict(prompts: Prompts) -> dict[str, Any]:
    return {
        "subject": prompts.subject,
        "frames": [
            {
                "frame": index,
                "box": None if prompt.box is None else [float(value) for value in prompt.box.xyxy],
                "points": [[float(point.x), float(point.y), int(point.subject)] for point in prompt.points],
                "mask": None if prompt.mask is None else _packed_mask(prompt.mask),
            }
            for index, prompt in prompts.entries
        ],
    }


def _prompts_of_dict(content: Mapping[str, Any]) -> Prompts:
    entries = {}
    for entry in content["frames"]:
        box = entry["box"]
        entries[int(entry["frame"])] = Prompt(
            None if box is None else Box(*(float(value) for value in box)),
            tuple(Point(float(x), float(y), bool(on)) for x, y, on in entry["points"]),
            None if entry["mask"] is None else _unpacked_mask(entry["mask"]),
            placed=True,
        )
    return Prompts.of(entries, str(content["subject"]))


def _packed_mask(mask: np.ndarray) -> dict[str, Any]:
    data = base64.b64encode(zlib.compress(mask.astype("<f4").tobytes(), 9)).decode("ascii")
    return {"size": list(mask.shape), "data": data}


def _unpacked_mask(content: Mapping[str, Any]) -> np.ndarray:
    h, w = (int(value) for value in content["size"])
    data = zlib.decompressobj().decompress(base64.b64decode(content["data"]), 4 * h * w)
    return np.frombuffer(data, "<f4", h * w).reshape(h, w).astype(np.float32)

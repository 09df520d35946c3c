"""Open clips for reading and outputs for writing: open_clip, open_writer, open_writers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.frames import Frame, Matted, ViewTransform
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import InputSettings, OutputSettings
from mam_video.media.background import load_background
from mam_video.media.base import ClipInfo, Colour, Reader, Writer
from mam_video.media.ffmpeg_compat import writing
from mam_video.media.formats import (
    LAYER,
    LAYERS,
    PICTURES,
    SEQUENCES,
    SHOWN,
    TAGGED,
    OutputFormat,
    gamut,
    kept_by,
    look_told,
    parse_output,
    pattern_of,
)
from mam_video.media.movie.audio import Audio, sound_notes
from mam_video.media.movie.codecs import MovieCodec, PreviewCodec
from mam_video.media.movie.decord_reader import DecordReader
from mam_video.media.movie.reader import MovieReader
from mam_video.media.movie.verify import Check, ExpectedMedia, promise_of_writer, verify_movie, with_alpha
from mam_video.media.movie.webp import WebpWriter
from mam_video.media.movie.writer import MovieWriter
from mam_video.media.name_guard import NameGuard
from mam_video.media.sequence.encoders import DpxEncoder, Encoder, ExrEncoder, IntegerEncoder
from mam_video.media.sequence.pattern import find_sequence, is_sequence
from mam_video.media.sequence.reader import SUFFIXES, SequenceReader, numbers_of
from mam_video.media.sequence.verify import SequencePromise, files_of_output, promise_of_sequence, verify_sequence
from mam_video.media.sequence.writer import SequenceWriter
from mam_video.media.transfers import USUAL_PEAK
from mam_video.media.view_transforms import NONE, VideoLook, look_of_movie, make_view_transform
from mam_video.runtime.append_log import checkpoint_beside, identity
from mam_video.runtime.commit import folders_locked
from mam_video.runtime.lifecycle import Closeable, Transactional
from mam_video.runtime.os_errors import reason


def open_clip(path: str | Path, settings: InputSettings | None = None) -> Reader:
    """A reader of a clip: a movie, or a sequence of pictures by its pattern, its folder or one file.

    Raises: MediaError or UsageError, in one line.
    """
    settings = settings or InputSettings()
    try:
        sequence = is_sequence(str(path), SUFFIXES)
    except (OSError, ValueError) as error:  # a name too long, or with a null in it
        raise MediaError(f"{str(path)[:200]}: cannot be read ({reason(error)})") from error
    if sequence:
        return SequenceReader(str(path), settings)
    if settings.fps:
        raise UsageError(f"{path}: --fps is for sequences; a movie has its own times")
    if settings.layer:
        raise UsageError(f"{path}: --layer is for EXR sequences")
    if settings.transform != "auto":
        make_view_transform(
            settings.transform, "srgb"
        )  # a name that is not known is refused before the movie is looked at
    movie = MovieReader(Path(path), settings)
    look = look_of_movie(settings.transform, movie.info.colour, movie.info.light.peak(USUAL_PEAK))
    return movie if look is None else DisplayReferredReader(movie, look)


def open_for_viewing(path: str | Path, settings: InputSettings | None = None) -> Reader:
    """Open a clip whose frames are fetched here and there for people to look at: as `open_clip`, or through decord.

    decord's pixels are those of FFmpeg's scaler: not for models, nor for mattes.
    """
    settings = settings or InputSettings()
    reader = open_clip(path, settings)
    if isinstance(reader, MovieReader) and settings.on_error == "stop" and not settings.deinterlace:
        return DecordReader(reader)
    return reader


def opaque_clip(path: str) -> Reader:
    """A background: its own alpha is left out, since something has to stand behind the subject everywhere."""
    return open_clip(path, InputSettings(alpha="ignore"))


def identity_of(source: str | Path) -> dict[str, Any]:
    """What tells a clip from others without reading it: names, sizes and times of change of its files."""
    if not is_sequence(str(source), SUFFIXES):
        return identity([Path(source)])
    files = find_sequence(str(source), SUFFIXES)
    return identity([files.file(number) for number in files.present])


def is_resumable(output: str | Path) -> bool:
    """Whether an output's frames stand alone, so that a run can go on after any of them."""
    family = parse_output(output)[1].family
    return family in SEQUENCES or (family in PICTURES and PICTURES[family].stands_alone)


def check_resumable(output: str | Path) -> None:
    """Raises: UsageError, where a run of this output cannot be resumed."""
    if not is_resumable(output):
        name, kind = parse_output(output)
        raise UsageError(
            f"{name}: --resume needs frames that stand alone, and those of {kind.name} do not; make it of the finished "
            "matte, or leave --resume out"
        )


def checkpoint_place(output: str | Path, info: ClipInfo, frames: FrameRange | None = None) -> Path:
    """The hidden folder for what is kept of an output while it is made, so that the run can be resumed.

    `frames` are the first and last index of the range that is written; None: the whole clip. Of a sequence each range
    has a folder of its own, so that its parts can be made side by side.

    Raises: UsageError, for a kind whose frames need each other.
    """
    check_resumable(output)
    name, kind = parse_output(output)
    if kind.family not in SEQUENCES:
        return checkpoint_beside(Path(name))
    pattern = pattern_of(name, kind, info)
    part = "" if frames is None else f".{frames}"
    if not pattern.makes_folder:
        return checkpoint_beside(pattern.path, part)
    inside, beside = pattern.folder / f".{pattern.folder.name}{part}.resume", checkpoint_beside(pattern.folder, part)
    return inside if inside.exists() or (pattern.folder.is_dir() and not beside.exists()) else beside


def check_names(
    guard: NameGuard,
    outputs: Iterable[str | Path],
    info: ClipInfo,
    settings: OutputSettings,
    frames: FrameRange | None = None,
    *,
    tracks: Iterable[str | Path] = (),
) -> None:
    """Enter what a run writes into a guard that has its inputs: outputs with their hidden folders, and saved tracks.

    `frames` as for `open_writer`. Raises: UsageError, one would overwrite an input, or has the name of another.
    """
    if settings.background != "checker":
        guard.reads("--bg", settings.background)
    for output in outputs:
        name, kind = parse_output(output)
        if kind.family in SEQUENCES:
            guard.writes_sequence("-o", pattern_of(name, kind, info), numbers_of(info, settings, frames))
        else:
            guard.writes("-o", name)
        if is_resumable(output):
            guard.empties("-o", checkpoint_place(output, info, frames))
    for track in tracks:
        guard.writes("--save-track", track)


class DisplayReferredReader(Closeable):
    """A movie whose pixels are not display-referred Rec. 709: every frame carries the look they are seen through."""

    def __init__(self, reader: Reader, look: ViewTransform) -> None:
        self._reader, self._look = reader, look
        info, own = reader.info, isinstance(look, VideoLook)
        self.info = replace(
            info,
            look=look.name,
            shown=None if look is NONE else Colour("tv", "bt709", "bt709", "iec61966-2-1", True),
            coded=own,
            chromaticities=look.chromaticities if isinstance(look, VideoLook) else kept_by(look, info),
            notes=(*info.notes, *(look_told(info.colour, look.name) if own else ())),
        )
        self.broken = reader.broken  # the very list, which the reader fills

    def frames(self, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        frames = self._reader.frames(start, stop)
        try:
            for frame in frames:
                yield replace(frame, look=self._look)
        finally:
            close = getattr(frames, "close", None)
            if close is not None:
                close()

    def index_for_random_access(self) -> None:
        self._reader.index_for_random_access()

    def close(self) -> None:
        self._reader.close()


def notes(outputs: Sequence[str | Path], info: ClipInfo, audio: Audio = "none") -> list[str]:
    """What a user should be told once before a run: what was assumed of the clip, and what its outputs cannot hold.

    `audio`: what is to be done with the clip's sound.
    """
    told = list(info.notes)
    named = [parse_output(output) for output in outputs]
    chosen = [kind for _, kind in named]
    for name, kind in named:
        if kind.family in (*PICTURES, "preview") and info.sound:
            told += sound_notes(info.path, Path(name), audio)
    cut = [kind.name for kind in chosen if kind.content == "rgba" and kind.family != "exr"]
    if info.coded:
        coloured = dict.fromkeys(kind.name for kind in chosen if kind.content != "alpha" and kind.family != "exr")
        source = f"{'' if info.look == 'srgb' else f'{info.look} '}codes and {gamut(info)} primaries"
        for says, there in (("written as a display shows it, in Rec. 709", False), ("kept with their tags", True)):
            if those := [name for name in coloured if (name in TAGGED) is there]:
                told.append(f"{', '.join(those)}: the plate's {source} are {says if there else f'not carried: {says}'}")
    elif info.floating and cut:
        told.append(
            f"{', '.join(dict.fromkeys(cut))} cannot hold float pixels: colour is written there as a display shows it, "
            "cut at white; EXR keeps it"
        )
    elif info.look not in ("srgb", "none") and (whole := [n for n in cut if n not in SHOWN]):
        told.append(f"{', '.join(dict.fromkeys(whole))} keeps the plate's own {info.look} codes")
    return told


class WholeWriter(Writer, Protocol):
    """What this room's writers are beyond the contract: two steps to write, two to close.

    `write(m)` is `put(prepare(m))`; prepare is pure and may run ahead in threads. `close()` is `finish()` and
    `publish()`.
    """

    def prepare(self, matted: Matted) -> Any: ...

    def put(self, frame: Any) -> None: ...

    def finish(self) -> None: ...

    def check(self) -> None: ...

    def publish(self) -> None: ...


def open_writer(
    output: str | Path,
    info: ClipInfo,
    settings: OutputSettings,
    *,
    part: bool = False,
    frames: FrameRange | None = None,
    keep: Path | None = None,
    subjects: Sequence[str] = (),
) -> WholeWriter:
    """A writer for NAME or NAME:kind, for a clip as `info` says. Everything is checked here, before long work.

    `part` says that a range of the clip is written: a movie of it starts at time 0 and has the sound of these frames
    alone; `info.timecode` is then the label of the range's first frame. `frames` are the range's first and last index
    (None: to the end): of a sequence frames outside it stay as they are. `keep` is the output's `checkpoint_place`
    where the run is to be resumable. `subjects` names them where there are several.

    Raises: UsageError for an unknown kind, a name that is taken (unless settings.overwrite) or the input's own;
        MediaError where nothing can be written there.
    """
    name, kind = parse_output(output)
    guard = NameGuard()
    guard.reads("the clip", info.path)
    check_names(guard, [output], info, settings, frames)
    if kind.name == LAYERS:
        _check_layers(name, subjects)
    if settings.rate and kind.family in (*SEQUENCES, "webp"):
        raise UsageError(f"{name}: --rate is for movies; a sequence has one picture for each frame of its clip")
    if kind.family in SEQUENCES:
        encoder = _encoder(kind, info, settings, subjects)
        return SequenceWriter(pattern_of(name, kind, info), encoder, info, settings, keep=keep, frames=frames)
    if kind.family == "webp":
        return WebpWriter(Path(name), info, settings)
    height, width = info.size
    tags = info.colour
    if info.shown is not None and (kind.family in SHOWN or (info.coded and kind.content == "alpha")):
        tags = info.shown  # a matte is no picture in the plate's codes
    picture: MovieCodec
    if kind.family == "preview":
        alone = kind.content == "alpha"
        backdrop = None if alone else load_background(settings.background, height, width, opaque_clip)
        picture = PreviewCodec(kind.content, tags, height, width, backdrop)
    else:
        picture = PICTURES[kind.family](kind.content, tags, height, width)
    return MovieWriter(Path(name), picture, info, settings, part=part, keep=keep)


def _check_layers(name: str, subjects: Sequence[str]) -> None:
    if not subjects:
        raise UsageError(f"{name}: {LAYERS} is for several subjects; of one write {name}:exr-alpha")
    for subject in subjects:
        if not LAYER.fullmatch(subject):
            raise UsageError(
                f"{name}: '{subject}' cannot be a layer's name; name the subject with letters, digits and _, and no "
                "digit first"
            )


def _encoder(kind: OutputFormat, info: ClipInfo, settings: OutputSettings, subjects: Sequence[str]) -> Encoder:
    alone = kind.content == "alpha"
    if kind.family == "exr":
        return ExrEncoder(info, alone, settings, tuple(subjects) if kind.name == LAYERS else ())
    if kind.family == "dpx":
        return DpxEncoder(info.rate)
    return IntegerEncoder(kind.family == "tiff", alone, settings.premultiply, shown=info.coded)


class WriterGroup(Transactional):
    """Several outputs of one run, which get their final names together: all of them, or none.

    Has the same methods as one writer, so that a loop needs not know how many there are.

    before_publish  called when every file is whole and none has its final name yet
    whose           of each output: the subject that it is of, where there are several; None: of all
    """

    before_publish: Callable[[], None] | None = None

    def __init__(
        self,
        outputs: Sequence[str | Path],
        info: ClipInfo,
        settings: OutputSettings,
        part: bool = False,
        keep: Sequence[Path] = (),
        subjects: Sequence[str] = (),
        whose: Sequence[str | None] = (),
        frames: FrameRange | None = None,
    ) -> None:
        self.whose = tuple(whose) or (None,) * len(outputs)
        if not outputs:
            raise UsageError("no output is named; give one, as -o matte.mov")
        self._writers: list[WholeWriter] = []
        guard = NameGuard()
        check_names(guard, outputs, info, settings, frames)
        try:
            for place, output in enumerate(outputs):
                writer = open_writer(
                    output, info, settings, part=part, frames=frames, keep=keep[place] if keep else None,
                    subjects=subjects,
                )  # fmt: skip
                self._writers.append(writer)
        except BaseException:
            self.abort()
            raise
        self.path = self._writers[0].path

    @property
    def paths(self) -> tuple[Path, ...]:
        """Final names, in the order given."""
        return tuple(writer.path for writer in self._writers)

    def __iter__(self) -> Iterator[WholeWriter]:
        return iter(self._writers)

    def promises(self) -> list[tuple[Path, ExpectedMedia | SequencePromise]]:
        """What each movie and sequence of the group should hold, of the frames written so far."""
        promised: list[tuple[Path, ExpectedMedia | SequencePromise]] = []
        for writer in self._writers:
            if isinstance(writer, MovieWriter):
                promised.append((writer.path, promise_of_writer(writer)))
            elif isinstance(writer, SequenceWriter):
                promised.append((writer.path, promise_of_sequence(writer)))
        return promised

    def files(self) -> dict[Path, list[Path]]:
        """The files of each output, by its path, of the frames written so far."""
        return {
            writer.path: [writer.pattern.folder / writer.pattern.name(number) for number in writer.numbers]
            if isinstance(writer, SequenceWriter)
            else [writer.path]
            for writer in self._writers
        }

    @property
    def notes(self) -> list[str]:
        """What an output could not take over from the source, a line each."""
        return [note for writer in self._writers for note in getattr(writer, "notes", ())]

    def resume_from(self, first: int, most: int, *, named: bool = False) -> int:
        """Take over the frames that an earlier run left in every output; how many, `most` at most.

        first: index of the first of them; named: the run was cut off while outputs got their final names.
        """
        kept = [writer for writer in self._writers if isinstance(writer, MovieWriter | SequenceWriter)]
        count = min(writer.kept(first, most, named=named) for writer in kept)
        for writer in kept:
            writer.resume_from(first, count)
        return count

    def prepare(self, matted: Matted) -> list[Any]:
        """What each writer makes of the frame. Pure: any thread, any order."""
        return [writer.prepare(matted.of(subject)) for writer, subject in zip(self._writers, self.whose, strict=True)]

    def put(self, prepared: list[Any]) -> None:
        """Write a prepared frame to every output; in display order."""
        for writer, frame in zip(self._writers, prepared, strict=True):
            writer.put(frame)

    def write(self, matted: Matted) -> None:
        self.put(self.prepare(matted))

    def close(self) -> None:
        """Finish every file, and only then rename them all. Raises: MediaError, another run took one of the names."""
        try:
            for writer in self._writers:
                writer.finish()
            for path in self.paths:
                with writing(path):
                    path.parent.mkdir(exist_ok=True)
            with folders_locked(path.parent for path in self.paths):
                for writer in self._writers:
                    writer.check()
                if self.before_publish is not None:
                    self.before_publish()
                for writer in self._writers:
                    writer.publish()
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        for writer in self._writers:
            writer.abort()


def open_writers(
    outputs: Sequence[str | Path],
    info: ClipInfo,
    settings: OutputSettings,
    *,
    part: bool = False,
    keep: Sequence[Path] = (),
    subjects: Sequence[str] = (),
    whose: Sequence[str | None] = (),
    frames: FrameRange | None = None,
) -> WriterGroup:
    """One writer over all outputs of a run. Raises: as `open_writer`, and UsageError for a name given twice.

    `part` and `frames` are as for `open_writer`. `keep` has the `checkpoint_place` of each output, where the run is to
    be resumable. Of several `subjects` `whose` says for each output which one it is of; None: of all together.
    """
    return WriterGroup(outputs, info, settings, part, keep, subjects, whose, frames)


def verify_output(
    path: Path, promise: ExpectedMedia | SequencePromise, alpha: Sequence[tuple[float, float]]
) -> list[Check]:
    """Compare a written movie or sequence with what it should hold, the quick way.

    Args:
        alpha: least and largest alpha of each frame, as given to the writer.
    Raises: MediaError, where it cannot be read at all.
    """
    if isinstance(promise, SequencePromise):
        return verify_sequence(files_of_output(promise), replace(promise, alpha=alpha))
    return verify_movie(path, with_alpha(promise, alpha))

"""Open clips for reading and outputs for writing: open_clip, open_writer, open_writers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mam_video.core.errors import MediaError, UsageError
from mam_video.core.ranges import FrameRange
from mam_video.core.settings import InputSettings, OutputSettings
from mam_video.media.background import load_background
from mam_video.media.base import ClipInfo, Reader, WholeWriter
from mam_video.media.expected import AlphaRanges, Check, ExpectedMedia, ExpectedSequence
from mam_video.media.formats import LAYER, OutputRequest, parse_output, pattern_of
from mam_video.media.movie.decord_reader import DecordReader
from mam_video.media.movie.reader import MovieReader
from mam_video.media.movie.verify import verify_movie
from mam_video.media.movie.view_reader import ViewTransformReader
from mam_video.media.movie.webp import WebpWriter
from mam_video.media.movie.writer import MovieWriter
from mam_video.media.name_guard import NameGuard
from mam_video.media.sequence.image_formats import SUFFIXES
from mam_video.media.sequence.numbers import numbers_of
from mam_video.media.sequence.pattern import find_sequence, is_sequence
from mam_video.media.sequence.reader import SequenceReader
from mam_video.media.sequence.verify import files_of_output, verify_sequence
from mam_video.media.sequence.writer import SequenceWriter
from mam_video.media.transfers import USUAL_PEAK
from mam_video.media.view_transforms import make_view_transform, movie_transform
from mam_video.media.writer_group import WriterGroup
from mam_video.runtime.append_log import checkpoint_beside, identity
from mam_video.runtime.os_errors import reason

_WRITERS: Final[dict[str, Callable[[OutputRequest], WholeWriter[Any]]]] = {
    "movie": MovieWriter,
    "sequence": SequenceWriter,
    "webp": WebpWriter,
}


def open_clip(path: str | Path, settings: InputSettings | None = None) -> Reader:
    """Open a clip: a movie, or a sequence of pictures by its pattern, its folder or one file.

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
        make_view_transform(settings.transform, "srgb")  # refuses an unknown name before the movie is opened
    movie = MovieReader(Path(path), settings)
    transform = movie_transform(settings.transform, movie.info.colour, movie.info.light.peak(USUAL_PEAK))
    return movie if transform is None else ViewTransformReader(movie, transform)


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
    """Open a background. Its own alpha is left out, since it must cover the whole frame."""
    return open_clip(path, InputSettings(alpha="ignore"))


def identity_of(source: str | Path) -> dict[str, Any]:
    """Identify a clip without reading it: by names, sizes and modification times of its files."""
    if not is_sequence(str(source), SUFFIXES):
        return identity([Path(source)])
    files = find_sequence(str(source), SUFFIXES)
    return identity([files.file(number) for number in files.present])


def is_resumable(output: str | Path) -> bool:
    """Return whether an output's frames stand alone, so that a run can be resumed after any of them."""
    return parse_output(output)[1].resumable


def keeps_by_itself(output: str | Path) -> bool:
    """Return whether an output's finished frames are kept without being asked: they are files of their own anyway."""
    _, kind = parse_output(output)
    return kind.resumable and kind.writer == "sequence"


def check_resumable(output: str | Path) -> None:
    """Raise UsageError if a run of this output cannot be resumed."""
    if not is_resumable(output):
        name, kind = parse_output(output)
        raise UsageError(
            f"{name}: --resume needs frames that stand alone, and those of {kind.name} do not; make it of the finished "
            "matte, or leave --resume out"
        )


def checkpoint_place(output: str | Path, info: ClipInfo, frames: FrameRange | None = None) -> Path:
    """Return the hidden folder that holds an output's frames while it is made, so that the run can be resumed.

    `frames`: the range that is written; None: the whole clip. Each range of a sequence has a folder of its own, so that
    parts can be made side by side.

    Raises: UsageError, for a kind whose frames need each other.
    """
    check_resumable(output)
    name, kind = parse_output(output)
    if kind.writer != "sequence":
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
    """Enter a run's outputs, their hidden folders and saved tracks into a guard that has the run's inputs.

    `frames` as for `open_writer`. Raises: UsageError, one would overwrite an input, or has the name of another.
    """
    if settings.background != "checker":
        guard.reads("--bg", settings.background)
    for output in outputs:
        name, kind = parse_output(output)
        if kind.writer == "sequence":
            guard.writes_sequence("-o", pattern_of(name, kind, info), numbers_of(info, settings, frames))
        else:
            guard.writes("-o", name)
        if is_resumable(output):
            guard.empties("-o", checkpoint_place(output, info, frames))
    for track in tracks:
        guard.writes("--save-track", track)


def open_writer(
    output: str | Path,
    info: ClipInfo,
    settings: OutputSettings,
    *,
    part: bool = False,
    frames: FrameRange | None = None,
    keep: Path | None = None,
    subjects: Sequence[str] = (),
) -> WholeWriter[Any]:
    """Open a writer for NAME or NAME:kind. Everything is checked here, before long work.

    The arguments are those of `OutputRequest`; `keep` is the output's `checkpoint_place` where the run can be resumed.

    Raises: UsageError for an unknown kind, a name that is taken (unless settings.overwrite) or the input's own;
        MediaError where nothing can be written there.
    """
    guard = NameGuard()
    guard.reads("the clip", info.path)
    check_names(guard, [output], info, settings, frames)
    name, kind = parse_output(output)
    return _open(OutputRequest(name, kind, info, settings, part, frames, keep, subjects))


def _open(request: OutputRequest) -> WholeWriter[Any]:
    name, kind, settings = request.name, request.format, request.settings
    if kind.layers:
        _check_layers(name, kind.name, request.subjects)
    if settings.rate and kind.writer != "movie":
        raise UsageError(f"{name}: --rate is for movies; a sequence has one picture for each frame of its clip")
    if kind.content == "preview":
        backdrop = load_background(settings.background, request.info.height, request.info.width, opaque_clip)
        request = replace(request, backdrop=backdrop)
    return _WRITERS[kind.writer](request)


def _check_layers(name: str, kind: str, subjects: Sequence[str]) -> None:
    if not subjects:
        raise UsageError(f"{name}: {kind} is for several subjects; of one write {name}:exr-alpha")
    for subject in subjects:
        if not LAYER.fullmatch(subject):
            raise UsageError(
                f"{name}: '{subject}' cannot be a layer's name; name the subject with letters, digits and _, and no "
                "digit first"
            )


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
    """Open one writer over all outputs of a run.

    Args:
        part, frames, subjects: as in `OutputRequest`.
        keep: the `checkpoint_place` of each output, where the run can be resumed.
        whose: of several `subjects` the one that each output is of; None: all together.
    Raises: as `open_writer`, and UsageError for no output, or for a name given twice.
    """
    if not outputs:
        raise UsageError("no output is named; give one, as -o matte.mov")
    check_names(NameGuard(), outputs, info, settings, frames)
    places = keep or (None,) * len(outputs)

    def opened() -> Iterator[WholeWriter[Any]]:
        for output, place in zip(outputs, places, strict=True):
            yield open_writer(output, info, settings, part=part, frames=frames, keep=place, subjects=subjects)

    return WriterGroup(opened(), whose)


def verify_output(path: Path, expected: ExpectedMedia | ExpectedSequence, alpha: AlphaRanges) -> list[Check]:
    """Compare a written movie or sequence with what it should hold, the quick way.

    Args:
        alpha: least and largest alpha of each frame, as given to the writer.
    Raises: MediaError, where it cannot be read at all.
    """
    if isinstance(expected, ExpectedSequence):
        return verify_sequence(files_of_output(expected), expected.with_alpha(alpha))
    return verify_movie(path, expected.with_alpha(alpha))

"""What can be written, in one table, and the doors of this room: open_clip, open_writer, open_writers.

An output is asked for as NAME or NAME:kind. The kind is read from the name's ending where it is not given; `:alpha`
is the alpha alone in the name's own family.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol

from mam_video.closing import Closes, WholeOrNothing
from mam_video.errors import MediaError, UsageError
from mam_video.frames import Frame, Look, Matted
from mam_video.media.backdrop import load_backdrop
from mam_video.media.base import ClipInfo, Reader, Writer
from mam_video.media.edge import reason
from mam_video.media.kept import identity, kept_beside
from mam_video.media.looks import make_look
from mam_video.media.movies import (
    Content,
    Ffv1Picture,
    MovieReader,
    MovieWriter,
    Picture,
    PreviewPicture,
    ProResPicture,
    ProResXqPicture,
    Vp9Picture,
)
from mam_video.media.outputs import Pattern
from mam_video.media.patterns import find_sequence, is_sequence
from mam_video.media.sequences import (
    SUFFIXES,
    DpxEncoder,
    Encoder,
    ExrEncoder,
    IntegerEncoder,
    SequenceReader,
    SequenceWriter,
)
from mam_video.media.verify import Check, Promise, promise_of_writer, verify_movie, with_alpha
from mam_video.media.verify_sequences import SequencePromise, files_of_output, promise_of_sequence, verify_sequence
from mam_video.media.webp import WebpWriter
from mam_video.settings import InputSettings, OutputSettings


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to write.

    name            as typed after the colon
    family          codec family: prores, prores-xq, ffv1, exr, dpx, tiff, png, webp, vp9, preview
    content         rgba, alpha (alone), or preview (over a background)
    suffixes        names that it can have; the first ones also choose it (see `_BY_SUFFIX`)
    bytes_a_pixel   measured on real plates; a plan for the disk, not a promise
    says            one line for the help
    """

    name: str
    family: str
    content: Content
    suffixes: tuple[str, ...]
    bytes_a_pixel: float
    says: str


_KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind("prores", "prores", "rgba", (".mov", ".mkv"), 1.4, "ProRes 4444 with alpha (.mov)"),
        Kind("prores-alpha", "prores", "alpha", (".mov", ".mkv"), 0.11, "ProRes 4444, the alpha alone in gray"),
        Kind("prores-xq", "prores-xq", "rgba", (".mov", ".mkv"), 1.4, "ProRes 4444 XQ with alpha (name.mov:prores-xq)"),
        Kind("ffv1", "ffv1", "rgba", (".mkv",), 3.3, "FFV1, lossless RGBA of 16 bits (.mkv)"),
        Kind("ffv1-alpha", "ffv1", "alpha", (".mkv",), 0.15, "FFV1, the alpha alone, lossless gray of 16 bits"),
        Kind("png", "png", "rgba", (".png", "/"), 4.7, "PNG sequence, RGBA of 16 bits (name.%04d.png, or a folder/)"),
        Kind("png-alpha", "png", "alpha", (".png", "/"), 0.15, "PNG sequence, the alpha alone, gray of 16 bits"),
        Kind(
            "exr", "exr", "rgba", (".exr", "/"), 4.5, "EXR sequence, scene-linear RGBA, premultiplied (name.%04d.exr)"
        ),
        Kind("exr-alpha", "exr", "alpha", (".exr", "/"), 0.12, "EXR sequence, the alpha alone, channel A or LAYER.A"),
        Kind("exr-layers", "exr", "alpha", (".exr", "/"), 0.2, "EXR sequence, a layer for each subject: dancer.A"),
        Kind("tiff", "tiff", "rgba", (".tif", ".tiff", "/"), 5.6, "TIFF sequence, RGBA of 16 bits (name.%04d.tif)"),
        Kind("tiff-alpha", "tiff", "alpha", (".tif", ".tiff", "/"), 0.2, "TIFF sequence, the alpha alone, 16 bits"),
        Kind("dpx-alpha", "dpx", "alpha", (".dpx", "/"), 4.0, "DPX sequence, the alpha alone, 10 bits (name.%04d.dpx)"),
        Kind("webp", "webp", "rgba", (".webp",), 0.04, "animated WebP of 8 bits for a quick look (.webp)"),
        Kind("vp9", "vp9", "rgba", (".webm", ".mkv"), 0.05, "WebM VP9 with alpha, 8 bits, for the web (.webm)"),
        Kind("vp9-alpha", "vp9", "alpha", (".webm", ".mkv"), 0.004, "WebM VP9, the alpha alone in gray"),
        Kind("preview", "preview", "preview", (".mp4", ".m4v", ".mov", ".mkv"), 0.015, "H.264 over a backdrop (.mp4)"),
        Kind("preview-alpha", "preview", "alpha", (".mp4", ".m4v", ".mov", ".mkv"), 0.003, "H.264, the alpha in gray"),
    )
}
_BY_SUFFIX: Final = {
    ".mov": "prores",
    ".mkv": "ffv1",
    ".png": "png",
    "/": "png",
    ".exr": "exr",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".dpx": "dpx-alpha",
    ".webp": "webp",
    ".webm": "vp9",
    ".mp4": "preview",
    ".m4v": "preview",
}
_SEQUENCES: Final = ("exr", "dpx", "tiff", "png")
LAYERS: Final = "exr-layers"
_LAYER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHOWN: Final = ("vp9", "preview", "webp")  # for eyes: always as a display shows it
_PICTURES: Final[dict[str, Any]] = {
    "prores": ProResPicture,
    "prores-xq": ProResXqPicture,
    "ffv1": Ffv1Picture,
    "vp9": Vp9Picture,
}
_AFTER_COLON = re.compile(r"(?P<name>.+):(?P<kind>[A-Za-z][A-Za-z0-9_-]*)", re.DOTALL)


def kinds() -> tuple[Kind, ...]:
    """All that can be written, for the help."""
    return tuple(_KINDS.values())


def parse_output(output: str | Path) -> tuple[str, Kind]:
    """NAME or NAME:kind, as the name and what will be written there.

    Raises: UsageError, naming the kinds.
    """
    text = str(output)
    if not text.strip():
        raise UsageError("an output needs a name, as matte.mov")
    name, asked = text, None
    found = _AFTER_COLON.fullmatch(text)
    if found and len(found["name"]) > 1:  # one letter before the colon is a drive: C:matte
        name, asked = found["name"], found["kind"].lower()
    suffix = "/" if name.endswith(("/", "\\")) else Path(name).suffix.lower()
    by_name = _BY_SUFFIX.get(suffix)
    if asked is None or asked == "alpha":
        if by_name is None:
            raise UsageError(f"{text}: no kind is known for '{suffix or name}'; {_choices()}")
        wanted = by_name if asked is None or by_name.endswith("-alpha") else f"{by_name}-alpha"
        if wanted not in _KINDS:
            raise UsageError(f"{text}: {by_name} is not written as alpha alone; {_choices()}")
        return name, _KINDS[wanted]
    if asked not in _KINDS:
        raise UsageError(f"{text}: unknown kind '{asked}'; {_choices()}")
    kind = _KINDS[asked]
    if suffix not in kind.suffixes:
        raise UsageError(f"{text}: {asked} is written to {' or '.join(kind.suffixes)}, not to '{suffix or name}'")
    return name, kind


def _choices() -> str:
    return f"names end in {', '.join(_BY_SUFFIX)}; kinds are alpha, {', '.join(_KINDS)}"


def expected_bytes(kind: Kind | str | Path, info: ClipInfo, frames: int | None = None) -> int | None:
    """About how many bytes an output will take, for a look at the disk before a long run; None where it is not known.

    `kind` is a Kind or an output as typed; `frames` defaults to what the header claims. From rates measured on real
    plates at 720p: heavy grain can double them.
    """
    chosen = kind if isinstance(kind, Kind) else parse_output(kind)[1]
    count = info.frames_in_header if frames is None else frames
    if count is None:
        return None
    return round(chosen.bytes_a_pixel * info.width * info.height * count)


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
    look = make_look(settings.transform, "srgb")
    movie = MovieReader(Path(path), settings)
    return movie if look is None else LookedAt(movie, look)


def identity_of(source: str | Path) -> dict[str, Any]:
    """What tells a clip from others without reading it: names, sizes and times of change of its files."""
    if not is_sequence(str(source), SUFFIXES):
        return identity([Path(source)])
    files = find_sequence(str(source), SUFFIXES)
    return identity([files.file(number) for number in files.present])


def can_be_kept(output: str | Path) -> bool:
    """Whether an output's frames stand alone, so that a run can go on after any of them."""
    family = parse_output(output)[1].family
    return family in _SEQUENCES or (family in _PICTURES and _PICTURES[family].stands_alone)


def must_be_kept(output: str | Path) -> None:
    """Raises: UsageError, where a run of this output cannot be resumed."""
    if not can_be_kept(output):
        name, kind = parse_output(output)
        raise UsageError(
            f"{name}: --resume needs frames that stand alone, and those of {kind.name} do not; make it of the finished "
            "matte, or leave --resume out"
        )


def kept_place(output: str | Path, info: ClipInfo) -> Path:
    """The hidden folder for what is kept of an output while it is made, so that the run can be resumed.

    Raises: UsageError, for a kind whose frames need each other.
    """
    must_be_kept(output)
    name, kind = parse_output(output)
    if kind.family not in _SEQUENCES:
        return kept_beside(Path(name))
    pattern = _pattern(name, kind, info)
    if not pattern.makes_folder:
        return kept_beside(pattern.path)
    inside, beside = pattern.folder / f".{pattern.folder.name}.resume", kept_beside(pattern.folder)
    return inside if inside.exists() or (pattern.folder.is_dir() and not beside.exists()) else beside


def _pattern(name: str, kind: Kind, info: ClipInfo) -> Pattern:
    return Pattern(name, kind.suffixes[0], info.padding or 4)


class LookedAt(Closes):
    """A reader whose pixels are not display-referred: every frame carries the look they are seen through."""

    def __init__(self, reader: Reader, look: Look) -> None:
        self._reader, self._look = reader, look
        self.info = replace(reader.info, look=look.name)
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

    def go_back_later(self) -> None:
        self._reader.go_back_later()

    def close(self) -> None:
        self._reader.close()


def notes(outputs: Sequence[str | Path], info: ClipInfo) -> list[str]:
    """What a user should be told once before a run: what was assumed of the clip, and what its outputs cannot hold."""
    told = list(info.notes)
    chosen = [parse_output(output)[1] for output in outputs]
    cut = [kind.name for kind in chosen if kind.content == "rgba" and kind.family != "exr"]
    if info.floating and cut:
        told.append(
            f"{', '.join(dict.fromkeys(cut))} cannot hold float pixels: colour is written there as a display shows it, "
            "cut at white; EXR keeps it"
        )
    elif info.look not in ("srgb", "none") and (whole := [n for n in cut if n not in _SHOWN]):
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

    def publish(self) -> None: ...


def open_writer(
    output: str | Path,
    info: ClipInfo,
    settings: OutputSettings,
    *,
    part: bool = False,
    keep: Path | None = None,
    subjects: Sequence[str] = (),
) -> WholeWriter:
    """A writer for NAME or NAME:kind, for a clip as `info` says. Everything is checked here, before long work.

    `part` says that a range of the clip is written: a movie of it starts at time 0 and has the sound of these frames
    alone; `info.timecode` is then the label of the range's first frame. `keep` is the output's `kept_place` where the
    run is to be resumable. `subjects` names them where there are several.

    Raises: UsageError for an unknown kind, a name that is taken (unless settings.overwrite) or the input's own;
        MediaError where nothing can be written there.
    """
    name, kind = parse_output(output)
    if kind.name == LAYERS:
        _check_layers(name, subjects)
    if settings.rate and kind.family in (*_SEQUENCES, "webp"):
        raise UsageError(f"{name}: --rate is for movies; a sequence has one picture for each frame of its clip")
    if kind.family in _SEQUENCES:
        encoder = _encoder(kind, info, settings, subjects)
        return SequenceWriter(_pattern(name, kind, info), encoder, info, settings, keep=keep)
    if kind.family == "webp":
        return WebpWriter(Path(name), info, settings)
    height, width = info.size
    picture: Picture
    if kind.family == "preview":
        alone = kind.content == "alpha"
        backdrop = None if alone else load_backdrop(settings.background, height, width, open_clip)
        picture = PreviewPicture(kind.content, info.colour, height, width, backdrop)
    else:
        picture = _PICTURES[kind.family](kind.content, info.colour, height, width)
    return MovieWriter(Path(name), picture, info, settings, part=part, keep=keep)


def _check_layers(name: str, subjects: Sequence[str]) -> None:
    if not subjects:
        raise UsageError(f"{name}: {LAYERS} is for several subjects; of one write {name}:exr-alpha")
    for subject in subjects:
        if not _LAYER.fullmatch(subject):
            raise UsageError(
                f"{name}: '{subject}' cannot be a layer's name; name the subject with letters, digits and _, and no "
                "digit first"
            )


def _encoder(kind: Kind, info: ClipInfo, settings: OutputSettings, subjects: Sequence[str]) -> Encoder:
    alone = kind.content == "alpha"
    if kind.family == "exr":
        return ExrEncoder(info, alone, settings, tuple(subjects) if kind.name == LAYERS else ())
    if kind.family == "dpx":
        return DpxEncoder(info.rate)
    return IntegerEncoder(kind.family == "tiff", alone, settings.premultiply)


class WriterGroup(WholeOrNothing):
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
    ) -> None:
        self.whose = tuple(whose) or (None,) * len(outputs)
        if not outputs:
            raise UsageError("no output is named; give one, as -o matte.mov")
        self._writers: list[WholeWriter] = []
        try:
            for place, output in enumerate(outputs):
                writer = open_writer(
                    output, info, settings, part=part, keep=keep[place] if keep else None, subjects=subjects
                )
                self._writers.append(writer)
                if any(writer.path.absolute() == other.path.absolute() for other in self._writers[:-1]):
                    raise UsageError(f"{writer.path}: named twice as an output; give each its own name")
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

    def promises(self) -> list[tuple[Path, Promise | SequencePromise]]:
        """What each movie and sequence of the group should hold, of the frames written so far."""
        promised: list[tuple[Path, Promise | SequencePromise]] = []
        for writer in self._writers:
            if isinstance(writer, MovieWriter):
                promised.append((writer.path, promise_of_writer(writer)))
            elif isinstance(writer, SequenceWriter):
                promised.append((writer.path, promise_of_sequence(writer)))
        return promised

    @property
    def notes(self) -> list[str]:
        """What an output could not take over from the source, a line each."""
        return [note for writer in self._writers for note in getattr(writer, "notes", ())]

    def go_on(self, first: int, most: int, *, named: bool = False) -> int:
        """Take over the frames that an earlier run left in every output; how many, `most` at most.

        first: index of the first of them; named: the run was cut off while outputs got their final names.
        """
        kept = [writer for writer in self._writers if isinstance(writer, MovieWriter | SequenceWriter)]
        count = min(writer.kept(first, most, named=named) for writer in kept)
        for writer in kept:
            writer.go_on(first, count)
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
        """Finish every file, and only then rename them all."""
        try:
            for writer in self._writers:
                writer.finish()
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
) -> WriterGroup:
    """One writer over all outputs of a run. Raises: as `open_writer`, and UsageError for a name given twice.

    `keep` has the `kept_place` of each output, where the run is to be resumable. Of several `subjects` `whose` says for
    each output which one it is of; None: of all together.
    """
    return WriterGroup(outputs, info, settings, part, keep, subjects, whose)


def read_back(path: Path, promise: Promise | SequencePromise, alpha: Sequence[tuple[float, float]]) -> list[Check]:
    """Compare a written movie or sequence with what it should hold, the quick way.

    Args:
        alpha: least and largest alpha of each frame, as given to the writer.
    Raises: MediaError, where it cannot be read at all.
    """
    if isinstance(promise, SequencePromise):
        return verify_sequence(files_of_output(path), replace(promise, alpha=alpha))
    return verify_movie(path, with_alpha(promise, alpha))

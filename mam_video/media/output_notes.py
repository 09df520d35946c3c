"""Notes for the user on a clip and its outputs, before a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from mam_video.media.base import ClipInfo
from mam_video.media.formats import OutputFormat, parse_output
from mam_video.media.movie.audio_plan import Audio, sound_notes
from mam_video.media.view_transforms import assumed_primaries


def notes(outputs: Sequence[str | Path], info: ClipInfo, audio: Audio = "none") -> list[str]:
    """List what was assumed of the clip, and what its outputs cannot hold, a line each.

    `audio`: what is to be done with the clip's sound.
    """
    named = [parse_output(output) for output in outputs]
    lines = list(info.notes)
    for name, row in named:
        if row.writer == "movie" and info.sound:
            lines += sound_notes(info.path, Path(name), audio)
    rows = [row for _, row in named]
    integer = [row for row in rows if row.content == "rgba" and not row.scene_linear]
    if info.coded:
        lines += _about_codes([row for row in rows if row.content != "alpha" and not row.scene_linear], info)
    elif info.floating and integer:
        lines.append(
            f"{', '.join(_names(integer))} cannot hold float pixels: colour is written there as a display shows it, "
            "cut at white; EXR keeps it"
        )
    elif info.look not in ("srgb", "none") and (own := _names(row for row in integer if not row.display_referred)):
        lines.append(f"{', '.join(own)} keeps the plate's own {info.look} codes")
    return lines


def _about_codes(rows: Sequence[OutputFormat], info: ClipInfo) -> list[str]:
    """Explain what becomes of codes that the movie's tags alone explain."""
    primaries = assumed_primaries(info.look, info.colour.primaries)
    source = f"the plate's {'' if info.look == 'srgb' else f'{info.look} '}codes and {primaries} primaries are"
    lines = []
    if shown := _names(row for row in rows if not row.carries_tags):
        lines.append(f"{', '.join(shown)}: {source} not carried: written as a display shows it, in Rec. 709")
    if kept := _names(row for row in rows if row.carries_tags):
        lines.append(f"{', '.join(kept)}: {source} kept with their tags")
    return lines


def _names(rows: Iterable[OutputFormat]) -> list[str]:
    """Return the names of formats, each once."""
    return list(dict.fromkeys(row.name for row in rows))

"""Mastering-display and light-level metadata of HDR movies: read from frames, written into MOV and MP4.

PyAV cannot hand them to a muxer, so the atoms `mdcv` and `clli` are set into the finished file's sample description.
Sources: SMPTE ST 2086; CTA-861.3; ISO/IEC 14496-12, 12.1.5; libavutil/mastering_display_metadata.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from av.video.frame import VideoFrame

if TYPE_CHECKING:
    from mam_video.media.base import ClipInfo, Colour

_CHROMATICITY_UNIT: Final = Fraction(1, 50_000)
_LUMINANCE_UNIT: Final = Fraction(1, 10_000)  # cd/m2
_DYNAMIC: Final = {
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "DOVI_METADATA": "Dolby Vision",
    "DOVI_RPU_BUFFER": "Dolby Vision",
}


@dataclass(frozen=True, slots=True)
class Mastering:
    """The display that a movie was graded on; what the file does not say is None.

    primaries  x, y of red, green, blue and white
    luminance  least and most, in cd/m2
    """

    primaries: tuple[Fraction, ...] | None
    luminance: tuple[Fraction, Fraction] | None

    def __str__(self) -> str:
        parts = []
        if self.luminance is not None:
            parts.append(f"{float(self.luminance[0]):g} to {float(self.luminance[1]):g} cd/m2")
        if self.primaries is not None:
            pairs = zip(("red", "green", "blue", "white"), self.primaries[::2], self.primaries[1::2], strict=True)
            parts += [f"{name} {float(x):.4f} {float(y):.4f}" for name, x, y in pairs]
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Light:
    """What a movie says of its light, beside its colour tags.

    levels   MaxCLL and MaxFALL, in cd/m2
    dynamic  metadata that change by frame, by name; they are not read
    """

    mastering: Mastering | None = None
    levels: tuple[int, int] | None = None
    dynamic: tuple[str, ...] = ()

    @property
    def static(self) -> bool:
        """Whether there is anything that `write_atoms` could write."""
        return self.mastering is not None or self.levels is not None

    def peak(self, usual: float) -> float:
        """cd/m2 of the brightest light: MaxCLL, else the mastering display's most, else `usual`."""
        if self.levels is not None and self.levels[0]:
            return float(self.levels[0])
        if self.mastering is not None and self.mastering.luminance is not None:
            return float(self.mastering.luminance[1])
        return usual


def light_of(frame: VideoFrame) -> Light:
    """Return the metadata of a decoded frame (a movie's own come with its first)."""
    found = dict(_side_data(frame))
    mastering, levels = None, None
    data = found.get("MASTERING_DISPLAY_METADATA", b"")
    if len(data) >= 88:
        numbers = struct.unpack_from("=22i", data)
        shares = [_fraction(*numbers[k : k + 2]) for k in range(0, 20, 2)]
        has_primaries, has_luminance = (bool(flag) for flag in numbers[20:])
        mastering = Mastering(
            tuple(shares[:8]) if has_primaries else None, (shares[8], shares[9]) if has_luminance else None
        )
        if not has_primaries and not has_luminance:
            mastering = None
    data = found.get("CONTENT_LIGHT_LEVEL", b"")
    if len(data) >= 8:
        brightest, average = struct.unpack_from("=2I", data)
        levels = (brightest, average) if brightest or average else None
    return Light(mastering, levels, tuple(dict.fromkeys(_DYNAMIC[name] for name in found if name in _DYNAMIC)))


def _side_data(frame: VideoFrame) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each; what PyAV has no name for is passed over."""
    sides: Any = frame.side_data  # PyAV's own type has no indices
    for index in range(len(sides)):
        try:
            each = sides[index]
            yield each.type.name, bytes(each)
        except (ValueError, KeyError):
            continue


def _fraction(over: int, under: int) -> Fraction:
    return Fraction(over, under) if under else Fraction(0)


def write_atoms(path: Path, light: Light) -> bool:
    """Set `mdcv` and `clli` into the first picture track of a finished MOV or MP4, in place.

    Returns: False, and the file is as it was, where its index is not the last atom or has no picture track.
    Raises: OSError, where the file cannot be written.
    """
    with path.open("r+b") as file:
        index = _last_atom(file)
        if index is None:
            return False
        file.seek(index)
        movie = bytearray(file.read())
        parents = _sample_entry(movie)
        if not parents:
            return False
        atoms = _atoms(light)
        movie[(end := _end_of_children(movie, parents[-1])) : end] = atoms
        for place in parents:
            struct.pack_into(">I", movie, place, struct.unpack_from(">I", movie, place)[0] + len(atoms))
        file.seek(index)
        file.write(movie)
    return True


def write_light(path: Path, partial: Path, info: ClipInfo, tags: Colour) -> list[str]:
    """Write mastering display and light levels into a finished movie, beside the tags that they belong to.

    Returns: notes of what has no place there; none where the file has other primaries or another transfer function.
    Raises: OSError, where the file cannot be written.
    """
    light, own = info.light, info.colour
    if (tags.primaries, tags.transfer) != (own.primaries, own.transfer):
        return []
    missing = list(light.dynamic)
    if light.static:
        in_mov = path.suffix.lower() in (".mov", ".mp4", ".m4v")
        if not in_mov or not write_atoms(partial, light):
            missing.insert(0, "mastering display and light levels")
    return [f"{path.name}: {', '.join(missing)} of the clip are not kept in it"] if missing else []


def _atoms(light: Light) -> bytes:
    """Return an atom that says half of ST 2086 does not exist: what is not known is 0 there."""
    atoms = b""
    if light.mastering is not None:
        red, green, blue, white = ((0, 0),) * 4
        if light.mastering.primaries is not None:
            units = [round(value / _CHROMATICITY_UNIT) for value in light.mastering.primaries]
            red, green, blue, white = (_two(units[k], units[k + 1]) for k in range(0, 8, 2))
        least, most = light.mastering.luminance or (Fraction(0), Fraction(0))
        body = struct.pack(">8H", *green, *blue, *red, *white)
        body += struct.pack(">2I", *(min(round(each / _LUMINANCE_UNIT), 0xFFFFFFFF) for each in (most, least)))
        atoms += struct.pack(">I4s", 8 + len(body), b"mdcv") + body
    if light.levels is not None:
        atoms += struct.pack(">I4s2H", 12, b"clli", *(min(each, 0xFFFF) for each in light.levels))
    return atoms


def _two(x: int, y: int) -> tuple[int, int]:
    return max(0, min(x, 0xFFFF)), max(0, min(y, 0xFFFF))


def _last_atom(file: BinaryIO) -> int | None:
    """Return where the atom `moov` begins, if it is the file's last one."""
    size, at = file.seek(0, 2), 0
    while at + 8 <= size:
        file.seek(at)
        length, name = struct.unpack(">I4s", file.read(8))
        if length == 1:
            (length,) = struct.unpack(">Q", file.read(8))
        if length < 8 or at + length > size:
            return None
        if name == b"moov":
            return at if at + length == size else None
        at += length
    return None


def _children(movie: bytes | bytearray, at: int, head: int) -> Iterator[tuple[bytes, int]]:
    """Yield name and place of each atom in the one at `at`, whose own head takes `head` bytes."""
    place, end = at + head, at + int(struct.unpack_from(">I", movie, at)[0])
    while place + 8 <= end:
        length, name = struct.unpack_from(">I4s", movie, place)
        if length < 8 or place + length > end:
            return
        yield name, place
        place += length


def _sample_entry(movie: bytes | bytearray) -> list[int]:
    """Places of `moov` and all that leads to the first picture track's sample entry, and of that; else nothing."""
    for name, track in _children(movie, 0, 8):
        path = [0, track]
        for wanted in (b"mdia", b"minf", b"stbl", b"stsd"):
            if name != b"trak":
                break
            path += [place for found, place in _children(movie, path[-1], 8) if found == wanted][:1]
        if len(path) != 6:
            continue
        pictures = any(found == b"vmhd" for found, _ in _children(movie, path[3], 8))
        entries = [place for _, place in _children(movie, path[-1], 16)]
        if pictures and entries:
            return [*path, entries[0]]
    return []


def _end_of_children(movie: bytes | bytearray, entry: int) -> int:
    """Return where the last atom of a picture's sample entry ends; four zeros may stand behind it (QuickTime)."""
    end = entry + 86
    for _, place in _children(movie, entry, 86):
        end = place + int(struct.unpack_from(">I", movie, place)[0])
    return end

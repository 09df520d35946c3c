"""What files hold is printed as text and read within bounds."""

import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mam_video.cli.main import main
from mam_video.core.crop import Crop
from mam_video.core.errors import MamVideoError, UsageError
from mam_video.core.frames import Record, State
from mam_video.core.geometry import Box
from mam_video.core.settings import Settings, parse_value
from mam_video.core.untrusted import line_of, parse_json, parse_toml, printable
from mam_video.jobs.checkpoint import Checkpoint, refuse_checkpoint
from mam_video.prompts.parse import PromptClip, read_entries
from mam_video.report.markup import escape
from mam_video.tracking.track_file import Track, TrackWriter, unpacked
from mam_video.tracking.types import MaskObservation

HOSTILE = {
    "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
    "\x9b2J": r"\x9b2J",
    "a\rb\nc\td\x07\x7f": r"a\rb\nc\td\x07\x7f",
    "gpj.\u202eexe": r"gpj.\u202eexe",
    "\u2066x\u2069\u200f\u061c": r"\u2066x\u2069\u200f\u061c",
    "caf\udce9": r"caf\xe9",
    "\ufeffa\u2028b": r"\ufeffa\u2028b",
}
HARMLESS = ("dancer 1", "Zoë 日本語 עברית", "👩\u200d🎨", "naïve — 5 × 3")


@pytest.mark.parametrize("text", HOSTILE)
def test_control_characters_are_shown(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(text) == HOSTILE[text] and escape(text) == HOSTILE[text]
    assert main(["info", text]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and all(c.isprintable() for c in told[:-1])


@pytest.mark.parametrize("text", HARMLESS)
def test_other_texts_stay(text: str) -> None:
    assert printable(text) == text == escape(text)


def test_a_line_has_a_bound() -> None:
    assert len(line_of("x" * 10**6)) < 3000 and line_of(" a\n b ") == "a b"


DEEP = "[" * 50000 + "]" * 50000
BAD_JSON = {"deep": DEEP, "tables": '{"a":' * 50000 + "1" + "}" * 50000, "digits": "1" * 5000, "large": str(2**64)}
BAD_TOML = {
    "deep": f"a = {DEEP}",
    "tables": "a = " + "{a = " * 50000 + "1" + "}" * 50000,
    "dots": ".".join("a" * 3000) + " = 1",
    "digits": "a = " + "1" * 5000,
    "hex": "a = 0x" + "f" * 6000,
    "shallow": "a = " + "[" * 200 + "]" * 200,
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_json_has_bounds(name: str) -> None:
    with pytest.raises(ValueError, match=r"deep|digits|64 bits"):
        parse_json(BAD_JSON[name])


@pytest.mark.parametrize("name", BAD_TOML)
def test_toml_has_bounds_and_the_file_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"deep|digits|64 bits"):
        parse_toml(BAD_TOML[name])
    path = tmp_path / "x.toml"
    path.write_text("version = 1\n" + BAD_TOML[name])
    for read in (
        lambda: read_entries(path, PromptClip((48, 64), 10)),
        lambda: Settings().with_file(str(path)),
    ):
        with pytest.raises(UsageError, match=r"x\.toml") as caught:
            read()
        assert len(line_of(str(caught.value))) < 3000


def test_a_recipe_too(tmp_path: Path) -> None:
    from mam_video.training.recipes import train

    path = tmp_path / "x.toml"
    path.write_text(BAD_TOML["deep"])
    with pytest.raises(MamVideoError, match=r"x\.toml"):
        train(str(path))


def test_within_bounds_all_is_as_it_was() -> None:
    assert parse_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]} and parse_toml("a = -9_000") == {"a": -9000}
    assert parse_value("[1, 2]") == [1, 2] and parse_value(DEEP) == DEEP


class _Finder:
    name, mask_size = "made by hand", 16


def _track(path: Path, change: Callable[[str, bytes], bytes] = lambda _, c: c) -> Path:
    record = Record(0, 0, State.TRACKED, Box(1, 1, 9, 9), 1.0, 0.5)
    with TrackWriter(path, (48, 64), _Finder()) as writer:
        writer.write_observation(MaskObservation(record, Crop(0, 0, 64, 48, 64), np.zeros((16, 16), np.float16)))
    with zipfile.ZipFile(path) as source:
        members = {name: change(name, source.read(name)) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path


def _read(path: Path) -> Any:
    with Track.load(path) as track:
        return track.frame(0)


def test_a_track_that_would_unpack_to_much_is_refused(tmp_path: Path) -> None:
    assert _read(_track(tmp_path / "good.track")).record.state is State.TRACKED
    large = _track(tmp_path / "large.track", lambda n, c: bytes(64 << 20) if n.endswith("f16") else c)
    with pytest.raises(MamVideoError, match=r"large\.track: .*would unpack to 67108864 bytes"):
        _read(large)


@pytest.mark.parametrize("member", ["track.json", "frames/00000000.json", "frames/00000000.f16", "end.json"])
def test_a_directory_that_lies_is_found_within_bounds(member: str, tmp_path: Path) -> None:
    """It says 100 bytes; there are 64 MB. No more than the member may have is unpacked."""
    import tracemalloc

    path = _track(tmp_path / "x.track", lambda n, c: b" " * (64 << 20) if n == member else c)
    raw = path.read_bytes().replace((64 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(raw)
    tracemalloc.start()
    with pytest.raises(MamVideoError, match=r"x\.track"):
        _read(path)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("content", [DEEP, "9" * 5000, '{"kind": "mam-video track", "version": 1e999}'])
def test_a_track_with_such_json_is_one_line(content: str, tmp_path: Path) -> None:
    for member in ("track.json", "end.json", "frames/00000000.json"):
        path = _track(tmp_path / "x.track", lambda n, c, m=member: content.encode() if n == m else c)  # type: ignore[misc]
        with pytest.raises(MamVideoError, match=r"x\.track"):
            _read(path)
        path.unlink()


def test_a_header_of_huge_numbers_is_one_line(tmp_path: Path) -> None:
    for key, value in (("mask_size", 10**6), ("mask_size", 1e999), ("size", [1e999, 1])):

        def change(name: str, content: bytes, key: str = key, value: Any = value) -> bytes:
            return json.dumps({**json.loads(content), key: value}).encode() if name == "track.json" else content

        path = _track(tmp_path / "x.track", change)
        with pytest.raises(MamVideoError, match=r"x\.track.*header"):
            _read(path)
        path.unlink()


def test_what_a_run_kept_is_read_within_bounds(tmp_path: Path) -> None:
    place = tmp_path / ".m.mov.resume"
    place.mkdir()
    (place / "run.json").write_text(DEEP)
    with pytest.raises(UsageError, match=r"run\.json: is damaged"):
        Checkpoint([place], {"a": 1})
    with pytest.raises(UsageError, match="was cut off here"):
        refuse_checkpoint([place], overwrite=False)
    refuse_checkpoint([place], overwrite=True)
    assert not place.exists()
    entry = {
        "index": 0,
        "m": 16,
        "standing": 0,
        "pts": 0,
        "state": "tracked",
        "box": [1, 1, 9, 9],
        "score": 1,
        "area": 1,
    }
    entry |= {"reasons": [], "view": [0, 0, 64, 48, 64]}
    with pytest.raises(ValueError, match=r"buffer|smaller|deep"):
        unpacked(json.dumps({**entry, "m": 4096}).encode() + b"\n" + zlib.compress(b"1"))
    with pytest.raises(ValueError, match="sizes"):
        unpacked(json.dumps({**entry, "m": 10**9}).encode() + b"\n" + zlib.compress(b"1"))
    with pytest.raises(ValueError, match="deep"):
        unpacked(DEEP.encode() + b"\n")

"""The signs for the frame number: one grammar for the names of inputs and outputs."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.core.errors import UsageError
from mam_video.media import open_clip
from mam_video.media.atomic_output import Pattern
from mam_video.media.sequence.frame_signs import frame_signs


@pytest.mark.parametrize(
    ("name", "digits", "explicit"),
    [("m.%04d.png", 4, True), ("m.%d.png", 1, False), ("m.%4d.png", 4, False), ("m.####.png", 4, True),
     ("m.#.png", 1, False), ("m.@@@.png", 3, True), ("m@2x.png", 1, False), ("m.$F4.png", 4, True),
     ("m.$F.png", 1, False)],
)  # fmt: skip
def test_a_sign_says_its_digits(name: str, digits: int, explicit: bool) -> None:
    (sign,) = frame_signs(name)
    assert (sign.digits, sign.explicit) == (digits, explicit)
    assert name[sign.start : sign.end] == sign.text


@pytest.mark.parametrize("sign", ["%04d", "####", "@@@@", "$F4"])
def test_what_is_written_under_a_pattern_is_read_by_it(tmp_path: Path, sign: str) -> None:
    text = f"{tmp_path}/m.{sign}.png"
    pattern = Pattern(text)
    for number in (7, 8, 9):
        cv2.imwrite(str(tmp_path / pattern.name(number)), np.full((8, 8, 3), number, np.uint8))
    with open_clip(text) as reader:
        assert list(reader.info.numbers or ()) == [7, 8, 9]
        assert reader.info.path == pattern.path


def test_a_lone_at_in_an_output_is_a_letter() -> None:
    assert Pattern("hero@2x.png").name(1001) == "hero@2x.1001.png"
    assert Pattern("hero@2x.%04d.png").name(12) == "hero@2x.0012.png"
    with pytest.raises(UsageError, match="12 digits"):
        Pattern("m.%012d.png")
    with pytest.raises(UsageError, match="more than one"):
        Pattern("m.%04d.####.png")

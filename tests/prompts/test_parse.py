"""Prompts on several frames: from the command line, from files, and every mistake as one line that names the entry."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.core.errors import UsageError
from mam_video.core.geometry import Box, Point
from mam_video.prompts.parse import PromptClip, by_subject, parse_entry, read_entries
from mam_video.prompts.prompt import Prompt, Prompts


def index_of(text: str) -> int:
    if not text.isdigit():
        raise UsageError(f"frame '{text}' is not a number")
    return int(text)


CLIP = PromptClip((1080, 1920), index_of, 240)
WHOLE = """
version = 1

[[prompt]]
frame = 120
points = [[640, 400], [100.5, 80, 0], [1, 2, 1]]

[[prompt]]
frame = 0
box = [412, 108, 890, 1010]
"""


def file_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "shot.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_prompts(tmp_path: Path) -> None:
    subjects = by_subject(read_entries(file_of(tmp_path, WHOLE), CLIP))
    assert list(subjects) == ["subject"]
    prompts = subjects["subject"]
    assert prompts.frames == (0, 120)
    assert prompts[0] == Prompt(Box(412, 108, 890, 1010))
    assert prompts[120].points == (Point(640, 400), Point(100.5, 80, subject=False), Point(1, 2))


def test_subjects_of_a_file_keep_their_names(tmp_path: Path) -> None:
    box = "box = [1, 1, 50, 50]"
    text = f"version = 1\n[[prompt]]\nframe = 3\n{box}\nsubject = 'b'\n[[prompt]]\nframe = 3\n{box}\nsubject = 'a'\n"
    subjects = by_subject(read_entries(file_of(tmp_path, text), CLIP))
    assert [(name, prompts.subject, prompts.frames) for name, prompts in subjects.items()] == [
        ("b", "b", (3,)),
        ("a", "a", (3,)),
    ]


def entry(lines: str) -> str:
    """A file whose third prompt is made of these lines."""
    good = "[[prompt]]\nframe = {}\nbox = [10, 10, 90, 90]\n"
    return "version = 1\n" + good.format(0) + good.format(60) + "[[prompt]]\n" + lines


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("version = 1\n", "shot.toml: no prompt; write [[prompt]]"),
        ("[[prompt]]\nframe = 0\n", "shot.toml: does not say its version"),
        ("version = 2\n", "shot.toml: is of version 2, this program reads version 1"),
        ("version = '1'\n", "shot.toml: is of version '1'"),
        ("version = true\n", "shot.toml: is of version True"),
        ("version = 1\nprompt = [\n", "shot.toml: not valid TOML"),
        (
            "version = 1\nprompts = 3\n",
            "unknown key 'prompts'; did you mean 'prompt'? known: version, prompt",
        ),
        ("version = 1\n[prompt]\nframe = 3\n", "shot.toml: 'prompt' is a list of tables"),
        (entry("box = [1, 2, 3, 4]"), "shot.toml: prompt 3: names no frame"),
        (entry("frame = 1.5"), "shot.toml: prompt 3: frame must be a number or a timecode as text, is 1.5"),
        (entry("frame = true"), "shot.toml: prompt 3: frame must be a number"),
        (entry("frame = 'soon'"), "shot.toml: prompt 3 (frame soon): frame 'soon' is not a number"),
        (entry("frame = -4\nbox = [1, 2, 3, 4]"), "shot.toml: prompt 3 (frame -4): frame '-4' is not a number"),
        (entry("frame = 240\nbox = [1, 2, 3, 4]"), "shot.toml: prompt 3 (frame 240): the clip has 240 frames"),
        (entry("frame = 120"), "shot.toml: prompt 3 (frame 120): shows no subject"),
        (entry("frame = 120\npoints = []"), "shot.toml: prompt 3 (frame 120): shows no subject"),
        (entry("frame = 120\npoints = [[1, 2, 0]]"), "shot.toml: prompt 3 (frame 120): shows no subject"),
        (entry("frame = 120\ncolour = 3"), "shot.toml: prompt 3 (frame 120): unknown key 'colour'"),
        (entry("frame = 120\nbox = 3"), "shot.toml: prompt 3 (frame 120): box must be of the form [x0, y0, x1, y1]"),
        (entry("frame = 120\nbox = [1, 2, 3, true]"), "prompt 3 (frame 120): box must be of the form"),
        (entry("frame = 120\nbox = ['1,2', 3, 4]"), "prompt 3 (frame 120): box must be of the form"),
        (entry("frame = 120\nbox = [1, 2, 3]"), "prompt 3 (frame 120): box '1,2,3' is not of the form"),
        (entry("frame = 120\nbox = ['a', 2, 3, 4]"), "prompt 3 (frame 120): box 'a,2,3,4' is not of the form"),
        (entry("frame = 120\nbox = [nan, 2, 3, 4]"), "prompt 3 (frame 120): box 'nan,2,3,4' holds a value that is not"),
        (entry("frame = 120\nbox = [1, 2, inf, 4]"), "prompt 3 (frame 120): box '1,2,inf,4' holds a value that is not"),
        (entry("frame = 120\nbox = [30, 20, 10, 40]"), "prompt 3 (frame 120): box 30,20,10,40 is empty or inverted"),
        (entry("frame = 120\nbox = [2000, 20, 2100, 40]"), "prompt 3 (frame 120): box 2000,20,2100,40 lies outside"),
        (entry("frame = 120\npoints = [1, 2]"), "prompt 3 (frame 120): points must be a list of points"),
        (entry("frame = 120\npoints = 'all'"), "prompt 3 (frame 120): points must be a list of points"),
        (entry("frame = 120\npoints = [[1, 2, 5]]"), "prompt 3 (frame 120): point '1,2,5': the third value is 1"),
        (entry("frame = 120\npoints = [[1]]"), "prompt 3 (frame 120): point '1' is not of the form"),
        (entry("frame = 120\npoints = [[5000, 2]]"), "prompt 3 (frame 120): point 5000,2 lies outside the frame"),
        (entry("frame = 120\npoints = [[nan, 2]]"), "prompt 3 (frame 120): point 'nan,2' holds a value that is not"),
        (entry("frame = 120\nsubject = 7\nbox = [1, 2, 3, 4]"), "prompt 3 (frame 120): subject must be a name, is 7"),
        (entry("frame = 120\nsubject = ' '\nbox = [1, 2, 3, 4]"), "prompt 3 (frame 120): subject must be a name"),
        (entry("frame = 60\nbox = [1, 2, 3, 4]"), "prompt 3 (frame 60): its frame has a prompt already"),
    ],
)
def test_each_mistake_in_a_file_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        by_subject(read_entries(file_of(tmp_path, text), CLIP))
    assert says in str(caught.value)
    assert str(tmp_path / "shot.toml") in str(caught.value) and "\n" not in str(caught.value).strip()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file of prompts"):
        read_entries(tmp_path / "none.toml", CLIP)
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="cannot read these prompts"):
        read_entries(tmp_path / "b.toml", CLIP)


def test_a_mask_is_found_from_the_folder_of_its_file(tmp_path: Path) -> None:
    clip = PromptClip((40, 60), index_of, 240)
    (tmp_path / "masks").mkdir()
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:50] = 255
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), mask)
    file = file_of(tmp_path, "version = 1\n[[prompt]]\nframe = 7\nmask = 'masks/a.png'\nsubject = 'x'\n")
    (given,) = read_entries(file, clip)
    assert (given.index, given.subject, given.prompt.box) == (7, "x", Box(20, 10, 50, 30))
    assert given.prompt.mask is not None
    np.testing.assert_array_equal(given.prompt.mask, mask / np.float32(255))
    (again,) = [parse_entry(f"x@7:{given.given}", clip)]
    assert (again.index, again.subject, again.given) == (7, "x", given.given)
    with pytest.raises(UsageError, match="the mask is 60x40, the frame 1920x1080"):
        read_entries(file, CLIP)
    for what, says in (
        ("mask = 'none.png'", "none.png: cannot be read"), ("mask = 3", "mask must be the name of a picture's file"),
        ("mask = 'masks/a.png'\nbox = [1, 2, 3, 4]", "mask stands in place of box and points"),
    ):  # fmt: skip
        wrong = file_of(tmp_path, f"version = 1\n[[prompt]]\nframe = 7\n{what}\n")
        with pytest.raises(UsageError, match=re.escape(says)):
            read_entries(wrong, clip)


def test_prompts_of_the_command_line() -> None:
    given = parse_entry("120: box=10,20,30,40 ; point=5,6;point=960,7,0", CLIP)
    assert given.index == 120
    assert given.prompt == Prompt(Box(10, 20, 30, 40), (Point(5, 6), Point(960, 7, subject=False)))
    assert str(given.prompt) == "box=10,20,30,40;point=5,6;point=960,7,0"
    assert parse_entry(f"7:{given.prompt}", CLIP).prompt == given.prompt

    labels = PromptClip(CLIP.size, {"00:00:04:12": 108}.__getitem__, 240)
    assert parse_entry("00:00:04:12:point=5,6", labels).index == 108


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is not of the form [SUBJECT@]FRAME:box="),
        ("box=1,2,3,4", "is not of the form [SUBJECT@]FRAME:box="),
        ("120", "is not of the form [SUBJECT@]FRAME:box="),
        ("120:", "'' is neither box="),
        ("120:circle=1,2,3", "'circle=1,2,3' is neither box="),
        ("120:box", "'box' is neither box="),
        ("120:box=1,2,3,4;;", "'' is neither box="),
        ("120:box=1,2,3,4;box=1,2,3,5", "has 2 boxes"),
        ("soon:box=1,2,3,4", "frame 'soon' is not a number"),
        ("240:box=1,2,3,4", "the clip has 240 frames"),
        ("120:box=9,9,3,3", "empty or inverted"),
        ("120:box=nan,9,3,3", "not a finite number"),
        ("120:point=5,5,0", "shows no subject"),
        ("120:point=9999,5", "lies outside the frame"),
    ],
)
def test_each_mistake_of_the_command_line_is_named(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_entry(text, CLIP)
    assert says in str(caught.value) and str(caught.value).startswith(f"--prompt '{text}'")


def test_prompts_check_themselves() -> None:
    box = Prompt(Box(1, 1, 5, 5))
    assert Prompts.of({9: box, 2: box}).frames == (2, 9)
    for wrong, says in [((), "no prompt"), (((-1, box),), "counted from 0"), (((3, box), (3, box)), "two prompts")]:
        with pytest.raises(UsageError, match=says):
            Prompts(wrong)
    with pytest.raises(UsageError, match="must not be empty"):
        Prompts(((0, box),), " ")
    with pytest.raises(ValueError, match="order"):
        Prompts(((3, box), (1, box)))
    with pytest.raises(UsageError, match="prompt on frame 9: box 50,1,60,5 lies outside"):
        Prompts.of({0: box, 9: Prompt(Box(50, 1, 60, 5))}).check_inside((40, 40))

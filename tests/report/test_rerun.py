"""A command of `matte`, taken apart and put together again with corrections: what of it needs no browser."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mam_video.cli.main import build_parser
from mam_video.cli.prompts import clip_of, entries_of
from mam_video.cli.rerun import rerun_of
from mam_video.cli.subject import SubjectOptions
from mam_video.core.frames import Record, State
from mam_video.core.geometry import Box, Point
from mam_video.core.settings import Settings
from mam_video.media import open_clip
from mam_video.prompts.parse import PromptEntry, read_entries
from mam_video.prompts.prompt import DEFAULT_SUBJECT, Prompt
from mam_video.report.rerun import Rerun, can_be_typed, prefix_of, toml_of, whole
from mam_video.report.run import RunReport
from tests.synthetic import disc, picture, write_movie

SIZE = (48, 64)


@pytest.fixture(scope="module")
def plate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_movie(
        tmp_path_factory.mktemp("rerun") / "plate.mov", 6, lambda i: picture(disc(SIZE, (20 + i, 24), 9))
    )


def taken_apart(plate: Path, *given: str, records: Sequence[Record] = ()) -> Rerun:
    arguments = ["matte", str(plate), *given, "-o", "m.mov"]
    options = build_parser().parse_args(arguments)
    subject = SubjectOptions.of(options)
    with open_clip(plate) as reader:
        entries = entries_of(subject, reader, 0, Settings())
        report = RunReport(reader.info, "fake", {}, "cpu", Settings(), [], records=list(records))
        report.repeated_by(rerun_of(["mam-video", *arguments], options.parser, subject, entries, reader.info))
    assert report.rerun is not None
    assert Rerun.of_plain(json.loads(json.dumps(report.rerun.as_plain()))) == report.rerun
    return report.rerun


@pytest.mark.parametrize("given", [
    ("--box", "1,2,30,40"), ("--box=-1,2,30,40",), ("--bo", "1,2,30,40"), ("--point", "3,4", "--poi=5,6,0"),
    ("--box", "1,2,30,40", "--point", "20,24"), ("--prompt", "0:box=1,2,30,40", "--prompt", "3:box=1,2,30,40"),
])  # fmt: skip
def test_prompts_are_parted_from_the_rest(plate: Path, given: tuple[str, ...]) -> None:
    found = taken_apart(plate, *given, "--range", "0-4", "--handles=0")
    assert found.command == ("mam-video", "matte", str(plate), "--range", "0-4", "--handles=0", "-o", "m.mov")
    again = [option for prompt in found.prompts for option in prompt.options]
    assert taken_apart(plate, *again).prompts == found.prompts
    assert found.subjects == (DEFAULT_SUBJECT,) and not found.refused


def test_options_after_the_last_ones_stay_there() -> None:
    parts = Rerun(("mam-video", "matte", "-o", "m.mov", "--", "-plate.mov")).as_dict()
    assert parts["before"] == ["mam-video", "matte", "-o", "m.mov"]
    assert parts["after"] == ["--overwrite", "--", "-plate.mov"]
    assert Rerun(("mam-video", "matte", "p.mov", "--overwrite")).as_dict()["after"] == []
    assert Rerun().as_dict()["after"] == []


def test_a_subject_keeps_its_name(plate: Path) -> None:
    found = taken_apart(plate, "--prompt", "disc one@0:box=1,2,30,40")
    assert found.subjects == ("disc one",) and found.as_dict()["subjects"][0]["prefix"] == "disc one@"


def test_a_file_of_prompts_is_named_or_taken_apart(plate: Path, tmp_path: Path) -> None:
    file = tmp_path / "prompts.toml"
    first, second = 'box = ["5%", "5%", "50%", "90%"]', "points = [[20, 24], [60, 3, 0]]"
    file.write_text(f"version = 1\n[[prompt]]\nframe = 0\n{first}\n[[prompt]]\nframe = 3\n{second}\n")
    found = taken_apart(plate, "--prompts", str(file), "--prompt", "5:box=1,2,30,40")
    assert found.file == ("--prompts", str(file))
    assert [(p.index, p.of_file) for p in found.prompts] == [(0, True), (3, True), (5, False)]
    assert [p.options[1] for p in found.prompts] == [
        "0:box=5%,5%,50%,90%",
        "3:point=20,24;point=60,3,0",
        "5:box=1,2,30,40",
    ]


def test_words_are_replaced_by_the_box_that_they_found(plate: Path) -> None:
    """--text and --prompt cannot stand together."""
    arguments = ["matte", str(plate), "--text", "the disc", "--point", "20,24", "-o", "m.mov"]
    options = build_parser().parse_args(arguments)
    prompt = Prompt(Box(10, 14, 30.5, 34), (Point(20, 24),), placed=True)
    with open_clip(plate) as reader:
        info = reader.info
    entry = PromptEntry("--text and --point of the first frame", 0, prompt)
    found = rerun_of(["mam-video", *arguments], options.parser, SubjectOptions.of(options), [entry], info)
    assert found.command == ("mam-video", "matte", str(plate), "-o", "m.mov")
    assert found.prompts[0].options == ("--box", "10,14,30.5,34", "--point", "20,24")


def test_masks_by_hand_are_corrected_by_hand(plate: Path) -> None:
    assert "--masks" in taken_apart(plate, "--masks", "masks/").refused


def test_a_saved_track_gives_prompts(plate: Path) -> None:
    box = Box(10.4, 14, 30, 34)
    states = (State.TRACKED, State.TRACKED, State.PROMPTED, State.UNCERTAIN)
    records = [Record(i, i, state, box, 0.9, 0.1) for i, state in enumerate(states)]
    found = taken_apart(plate, "--track", "t.track", records=records)
    assert found.command == ("mam-video", "matte", str(plate), "-o", "m.mov") and found.more == ()
    assert [p.options for p in found.prompts] == [("--prompt", f"{i}:box=10,14,30,34") for i in (0, 2)]
    lost = [Record(0, 0, State.LOST, box, 0.1, 0.0), *records[1:]]
    found = taken_apart(plate, "--track", "t.track", records=lost)
    assert [p.index for p in found.prompts] == [2] and found.more == ("--backward",)


@pytest.mark.parametrize("name", [DEFAULT_SUBJECT, "dancer", 'a "b" \\ c\'d', "a@b", "<b>&", "Zoë 🐕"])
def test_a_prompt_is_the_same_in_a_file(plate: Path, tmp_path: Path, name: str) -> None:
    prompt = Prompt(Box(1, 2, 30.5, 40), (Point(20, 24), Point(60, 3, False)), placed=True)
    file = tmp_path / "corrections.toml"
    file.write_text("version = 1\n\n" + toml_of(prompt, 3, name), encoding="utf-8")
    with open_clip(plate) as reader:
        (entry,) = read_entries(file, clip_of(reader.info))
    assert (entry.subject, entry.index, entry.prompt) == (name, 3, prompt)
    assert tomllib.loads(file.read_text(encoding="utf-8"))["prompt"][0]["frame"] == 3


def test_a_mask_is_no_part_of_a_file() -> None:
    mask = np.zeros(SIZE, np.float32)
    mask[10:20, 10:20] = 1
    assert toml_of(Prompt.of_mask(mask), 0, "a") == ""


def test_names_that_the_command_line_cannot_hold() -> None:
    assert all(map(can_be_typed, ("subject", "two words", "a'b\"c", "<b>")))
    assert not any(map(can_be_typed, ("a@b", " a", "a ", "", "a\nb")))
    assert prefix_of(DEFAULT_SUBJECT) == "" and prefix_of("a") == "a@"


@pytest.mark.parametrize(("box", "found"), [
    (Box(1.7, 2.2, 3.4, 4.6), (1, 2, 3, 5)), (Box(-5, -5, 0.5, 0.5), (0, 0, 2, 2)),
    (Box(63.2, 47, 80, 60), (62, 46, 64, 48)),
])  # fmt: skip
def test_boxes_are_whole_and_inside_the_frame(box: Box, found: tuple[int, ...]) -> None:
    assert whole(box, SIZE).xyxy == found

"""The sentences that a run ends with: one line each, and none where there is nothing to tell."""

from __future__ import annotations

import pytest

from mam_video.report import notes


@pytest.mark.parametrize(("lines", "says"), [
    (notes.broken_frames([], of_sequence=True), None),
    (notes.broken_frames([7], of_sequence=False), "frame 7 is damaged in the clip; the frame before stands in"),
    (notes.broken_frames([1003, 1005], of_sequence=True), "frames 1003, 1005 are missing or damaged"),
    (notes.broken_frames(range(25), of_sequence=False), "18, 19 and 5 more are damaged"),
    (notes.stopped_at_cut(53), "stopped before frame 53, where a new shot begins"),
    (notes.tracked_through_cuts([]), None),
    (notes.tracked_through_cuts([7, 13]), "through hard cuts before frames 7, 13"),
    (notes.shots_without_prompt([]), None),
    (notes.shots_without_prompt([53]), "begins at frame 53 has no prompt, so its alpha is empty; add --prompt 53:box="),
    (notes.shots_without_prompt([7, 13]), "begin at frames 7, 13 have no prompt"),
    (notes.prompted_frames([0]), None),
    (notes.prompted_frames([0, 120]), "prompts on frames 0, 120"),
    (notes.subjects_together(["a.mov"], ["x"], "{subject}"), None),
    (notes.subjects_together([], ["x", "y"], "{subject}"), None),
    (notes.subjects_together(["a.mov"], ["x", "y"], "{subject}"), "a.mov holds x and y together; for one file each"),
    (notes.resumed(0), None),
    (notes.resumed(12), "resumed after 12 frames"),
])  # fmt: skip
def test_notes(lines: list[str], says: str | None) -> None:
    if says is None:
        assert lines == []
    else:
        (line,) = lines
        assert says in line and "\n" not in line

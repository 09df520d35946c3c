"""What the tracker says of each frame, on scripted clips whose truth is known, with the fake model.

The numbers with the real models: `pipelines/measure/evaluate_states.py`, docs/measurements.md.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mam_video.core.frames import State
from mam_video.core.geometry import tight_box
from mam_video.core.reasons import Reason
from mam_video.core.settings import Settings
from mam_video.matting.pipeline import matte_frames
from mam_video.models.colour_model import ColourModel
from mam_video.motion.flow import with_motion
from mam_video.prompts.prompt import Prompt
from mam_video.testing.judging import Figures, Judged, followed, recovery
from mam_video.testing.scripted_clips import Script, Stage, scripts
from mam_video.tracking.track_file import packed, unpacked
from mam_video.tracking.tracker import track
from mam_video.tracking.types import TrackedFrame

SIZE, COLOUR = (120, 160), (20, 220, 40)
# Without the clip in which the light goes down: the fake model knows a colour by its brightness too.
SCRIPTS = {s.name: s for s in scripts(lambda seed: Stage(SIZE, seed, COLOUR), 3) if s.name != "light"}
_done: dict[str, list[tuple[TrackedFrame, Judged]]] = {}


def run(name: str, **values: object) -> list[tuple[TrackedFrame, Judged]]:
    """A clip, followed once for all tests."""
    key = f"{name} {values}"
    if key not in _done:
        settings = Settings().with_values({"track": values}, "test")
        _done[key] = [(t, j) for t, _, j in followed(SCRIPTS[name], ColourModel(view_size=128), settings)]
    return _done[key]


def codes(frame: Judged) -> list[Reason]:
    return [finding.reason for finding in frame.findings]


def judged(name: str, **values: object) -> list[Judged]:
    return [j for _, j in run(name, **values)]


@pytest.mark.parametrize("name", ["walk", "pan", "defocus", "turning", "scale"])
def test_where_nothing_happens_nothing_is_said(name: str) -> None:
    frames = judged(name)
    assert min(f.j for f in frames) > (0.6 if name == "scale" else 0.75)
    assert frames[0].state is State.PROMPTED
    assert {f.state for f in frames[1:]} == {State.TRACKED}, [f for f in frames if f.state.flagged]


@pytest.mark.parametrize("name", ["hidden", "away", "back elsewhere", "cut", "dissolve"])
def test_what_is_gone_is_lost_with_an_empty_mask_and_recovered_when_it_returns(name: str) -> None:
    found = run(name)
    frames = [j for _, j in found]
    assert sum(f.gone for f in frames) >= 20
    assert all(f.state is State.LOST for f in frames if f.gone)
    for tracked, frame in found:
        if frame.state is State.LOST:
            assert not (tracked.logits > 0).any() and tracked.record.area == 0 and frame.findings
    assert recovery(frames) and max(recovery(frames)) <= 5
    first = next(i for i, f in enumerate(frames) if f.gone)
    again = [i for i, f in enumerate(frames) if f.state is State.RECOVERED and i > first]
    assert len(again) == 1 and frames[again[0] - 1].state is State.LOST
    assert Reason.FOUND_AGAIN in codes(frames[again[0]])
    assert not any(f.wrong and f.state is State.TRACKED for f in frames)


def test_without_the_search_what_comes_back_elsewhere_stays_lost() -> None:
    frames = judged("back elsewhere", search=False)
    last_gone = max(i for i, f in enumerate(frames) if f.gone)
    assert all(f.state is State.LOST for f in frames[last_gone + 1 : last_gone + 6])


def test_a_subject_half_hidden_says_so() -> None:
    frames = judged("pole")
    half = [f for f in frames if f.share < 0.5]
    assert half and all(Reason.PARTLY_SEEN in codes(f) for f in half if not f.state.flagged)
    assert not any(f.wrong and not f.state.flagged for f in frames)
    assert not any(f.state.flagged for f in frames[1:15])


def test_in_a_flash_nothing_is_lost() -> None:
    frames = judged("flash")
    assert not any(f.state is State.LOST for f in frames)
    assert not any(f.wrong and not f.state.flagged for f in frames)


@pytest.mark.parametrize("name", ["crossing behind", "crossing in front"])
def test_two_look_alikes_that_cross_are_never_swapped_silently(name: str) -> None:
    frames = judged(name)
    assert Figures.of(frames).swapped_silently == 0
    assert not any(f.wrong and not f.state.flagged for f in frames)
    assert any(Reason.DISTRACTOR_CONTACT in codes(f) for f in frames)
    assert not any(f.state.flagged for f in frames[:8])


def test_a_look_alike_that_was_there_before_is_not_taken_for_what_is_hidden() -> None:
    frames = judged("hidden beside look-alike")
    assert all(f.state is State.LOST for f in frames if f.gone)
    assert max(f.other for f in frames) < 0.1
    assert recovery(frames) and max(recovery(frames)) <= 5


def test_over_all_clips() -> None:
    first, *rest = (Figures.of(judged(name)) for name in SCRIPTS)
    figures = sum(rest, first)
    assert figures.lost_precision >= 0.9 and figures.lost_recall >= 0.9
    assert figures.flag_recall >= 0.8
    assert figures.false_flags <= 0.15
    assert figures.swapped_silently == 0


@pytest.mark.parametrize("name", ["back elsewhere", "crossing in front", "hidden beside look-alike"])
def test_a_track_goes_on_bit_for_bit_through_what_was_lost_and_found(name: str) -> None:
    script = SCRIPTS[name]
    moved = list(with_motion(script.frames(), Settings().motion))
    prompt = Prompt(tight_box(next(script.shots()).seen))
    whole = [t for t, _ in run(name)]
    for cut in (22, 35, len(whole) - 8):
        known = [unpacked(packed(t.observation)) for t in whole[:cut]]
        again: Iterator[TrackedFrame] = track(moved, ColourModel(view_size=128), prompt, known=known)
        for a, b in zip(whole, again, strict=True):
            assert (a.record, a.crop) == (b.record, b.crop) and (a.logits == b.logits).all()


def test_alpha_is_empty_where_the_subject_is_lost_and_smoothing_leaves_it_so() -> None:
    script = SCRIPTS["hidden"]
    settings = Settings().with_values({"smooth": {"strength": 1.0, "radius": 2}}, "test")
    prompt = Prompt(tight_box(next(script.shots()).seen))
    mattes = list(matte_frames(script.frames(), prompt, ColourModel(view_size=128), settings))
    lost = [m for m in mattes if m.record.state is State.LOST]
    assert len(lost) >= 20 and not any(m.alpha.any() for m in lost)
    assert all(m.alpha.any() for m in mattes if m.record.state is not State.LOST)


def test_a_clip_is_drawn_the_same_again() -> None:
    script: Script = SCRIPTS["walk"]
    assert all((a.rgb == b.rgb).all() for a, b in zip(script.shots(), script.shots(), strict=True))

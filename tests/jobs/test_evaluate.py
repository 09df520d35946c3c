"""Pairs are the right ones, numbers are those of `metrics`, and what does not fit is said in one line."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video import metrics
from mam_video.core.errors import UsageError
from mam_video.jobs import evaluate as evaluate_module
from mam_video.jobs.evaluate import Judging, evaluate, evaluate_instances
from mam_video.jobs.pairing import Named
from tests.clips import make_clip, soft_disc
from tests.metrics.test_metrics import REFERENCE, needs_reference

SIZE = (48, 64)


def alpha(shift: int, soft: float = 0) -> np.ndarray:
    """(H, W) float32 of 8-bit codes."""
    disc = np.roll(soft_disc(*SIZE), shift, axis=1)
    disc = cv2.GaussianBlur(disc, (0, 0), soft) if soft else disc
    return np.rint(disc * 255).astype(np.float32) / np.float32(255)


def write(folder: Path, name: str, values: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(folder / name), np.rint(values * 255).astype(np.uint8))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """pred/ and true/: five frames, frame 3 the worst; movie.mkv: the same predictions."""
    for i in range(5):
        write(tmp_path / "pred", f"m.{i + 7:04d}.png", alpha(i, 3 if i == 3 else 1))
        write(tmp_path / "true", f"{i + 7:05d}.png", alpha(i))
    frames = [np.repeat((alpha(i, 3 if i == 3 else 1) * 255).astype(np.uint8)[..., None], 3, 2) for i in range(5)]
    make_clip(tmp_path / "movie.mkv", frames)
    return tmp_path


def test_the_numbers_are_those_of_the_metrics(clip: Path) -> None:
    found = evaluate(clip / "pred", clip / "true")
    pairs = [(alpha(i, 3 if i == 3 else 1), alpha(i)) for i in range(5)]
    expected = metrics.clip_scores(pairs)
    (scored,) = found.clips
    assert scored.frames == tuple(f"{i + 7:05d}" for i in range(5))
    for name in ("mad", "mse", "grad", "conn"):
        assert scored.values[name] == pytest.approx(getattr(expected, name))
    assert scored.values["sad"] == pytest.approx([metrics.sad(*p) for p in pairs])
    assert math.isnan(scored.values["dtssd"][0])
    assert scored.values["dtssd"][1:] == pytest.approx(expected.dtssd)
    assert found.mean()["dtssd"] == pytest.approx(expected.mean()["dtssd"])
    assert [frame for _, frame, _ in found.worst(1)] == ["00010"]
    assert found.as_dict()["clips"][0]["dtssd_with_leading_zero"] == pytest.approx(expected.dtssd_with_leading_zero)


@pytest.mark.parametrize("source", ["movie.mkv", "pred/m.%04d.png", "pred/m.####.png", "pred"])
def test_whatever_holds_the_frames(clip: Path, source: str) -> None:
    same = evaluate(clip / "pred", clip / "true").mean()
    assert evaluate(clip / source, clip / "true").mean() == pytest.approx(same, abs=1e-6)
    assert evaluate(clip / "true", clip / source).mean()["mad"] == pytest.approx(same["mad"], abs=1e-6)


def test_masks_are_what_is_above_a_half(clip: Path) -> None:
    found = evaluate(clip / "pred", clip / "true", Judging(masks=True, skip_ends=True))
    pairs = [(alpha(i, 3 if i == 3 else 1) > 0.5, alpha(i) > 0.5) for i in range(5)]
    assert found.clips[0].values["j"] == pytest.approx([metrics.region_j(*p) for p in pairs])
    assert found.mean()["f"] == pytest.approx(np.mean([metrics.boundary_f(*p) for p in pairs[1:-1]]))
    assert found.judge == "j" and found.worst(1)[0][1] == "00010"


def test_clips_are_paired_by_name_and_count_once(clip: Path) -> None:
    for name, frames in (("a", 2), ("b", 4)):
        for i in range(frames):
            write(clip / "set" / name / "com", f"{i}.png", alpha(0))
            write(clip / "set" / name / "pha", f"{i}.png", alpha(0))
            write(clip / "mattes" / name, f"{i}.png", alpha(0) if name == "b" else np.zeros(SIZE, np.float32))
    found = evaluate(clip / "mattes", clip / "set")
    assert [c.name for c in found.clips] == ["a", "b"]
    assert found.mean()["mad"] == pytest.approx(alpha(0).mean() * 1e3 / 2, rel=1e-5)
    assert found.worst(2)[0][:2] == ("a", "0")
    found.save(clip / "o.json")
    saved = json.loads((clip / "o.json").read_text())
    assert saved["clips"][0]["frames"][0]["dtssd"] is None and saved["units"]["mad"] == "MAD x1e3"
    assert [p.name for p in clip.iterdir() if p.name.startswith(".")] == []


def test_stills_may_differ_in_size(tmp_path: Path) -> None:
    for kind in ("pred", "true"):
        write(tmp_path / kind, "a.png", alpha(0))
        write(tmp_path / kind, "b.png", alpha(0)[:20])
    with pytest.raises(UsageError, match=r"differ in size: 64x20 and 64x48; .*--stills"):
        evaluate(tmp_path / "pred", tmp_path / "true")
    found = evaluate(tmp_path / "pred", tmp_path / "true", Judging(stills=True))
    assert "dtssd" not in found.metrics and found.mean()["sad"] == 0


def test_what_does_not_belong_together(clip: Path) -> None:
    (clip / "true" / "00009.png").unlink()
    with pytest.raises(UsageError, match="'9' has no counterpart"):
        evaluate(clip / "pred", clip / "true")
    with pytest.raises(UsageError, match="holds nothing for '9'"):
        evaluate(clip / "true", clip / "pred")
    assert len(evaluate(clip / "true", clip / "pred", Judging(partial=True)).clips[0].frames) == 4
    with pytest.raises(UsageError, match=r"true ends after 4 frames, .*movie\.mkv goes on"):
        evaluate(clip / "movie.mkv", clip / "true")
    write(clip / "true", "00009.png", alpha(0)[:, :50])
    with pytest.raises(UsageError, match=r"frame 00009: .* 64x48 and 50x48"):
        evaluate(clip / "pred", clip / "true")
    write(clip / "many" / "a", "0.png", alpha(0))
    write(clip / "many" / "b", "0.png", alpha(0))
    with pytest.raises(UsageError, match=r"is one clip, .*many holds 2"):
        evaluate(clip / "pred", clip / "many")
    write(clip / "other" / "a", "0.png", alpha(0))
    write(clip / "other" / "c", "0.png", alpha(0))
    with pytest.raises(UsageError, match="clip 'c' has no counterpart"):
        evaluate(clip / "other", clip / "many")
    for wrong in ({"metrics": ("sda",)}, {"above": 1.0}, {"metrics": ("dtssd",), "stills": True}):
        with pytest.raises(UsageError):
            Judging(**wrong)  # type: ignore[arg-type]


def test_only_a_few_pairs_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the clip: of 200 pairs no more than the threads work on are alive."""
    living: list[weakref.ref[np.ndarray]] = []
    most = 0

    def pairs() -> Iterator[Named]:
        nonlocal most
        for i in range(200):
            pair = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
            living.append(weakref.ref(pair[0]))
            most = max(most, sum(r() is not None for r in living))
            yield str(i), *pair

    monkeypatch.setattr(evaluate_module, "_THREADS", 2)
    scored = evaluate_module._score("", pairs(), Judging(), None)
    assert len(scored.frames) == 200 and most <= 10


@needs_reference
def test_instances_as_the_published_code_has_them(tmp_path: Path) -> None:
    """The reference's own pictures, from files."""
    expected = json.loads((REFERENCE / "metrics.json").read_text())
    with np.load(REFERENCE / "metrics_inputs.npz") as inputs:
        for name in expected["imq"]:
            for kind, key in (("pred", "pred"), ("true", "gt")):
                (tmp_path / kind / name).mkdir(parents=True)
                for i, codes in enumerate(inputs[f"imq/{name}/{key}"]):
                    cv2.imwrite(str(tmp_path / kind / name / f"{i:02d}.png"), codes)
    found = evaluate_instances(tmp_path / "pred", tmp_path / "true").quality
    assert found.imq == pytest.approx(expected["imq_set_of_all"]["IMQ"], rel=1e-3)
    assert found.mq == pytest.approx(expected["imq_set_of_all"]["MQ"], rel=1e-3)
    assert found.rq == pytest.approx(expected["imq_set_of_all"]["RQ"], rel=1e-3)


def test_instances_missed_and_single(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    for name in ("one", "two"):
        write(tmp_path / "true" / name, "00.png", alpha(0))
    write(tmp_path / "pred" / "one", "subject.png", alpha(0))
    found = evaluate_instances(tmp_path / "pred", tmp_path / "true")
    assert found.absent == ("two",) and found.quality.rq == pytest.approx(1 / 1.5, rel=1e-5)
    assert [name for name, _ in found.worst(1)] == ["two"]
    assert evaluate_instances(tmp_path / "pred", tmp_path / "true", partial=True).quality.rq == pytest.approx(1)
    # RWP-636: a file a picture, which is its only subject
    for kind in ("flat", "mattes"):
        write(tmp_path / kind, "one.png", alpha(0))
    flat = evaluate_instances(tmp_path / "mattes", tmp_path / "flat", metrics=("mad", "mse"))
    assert flat.quality.imq == pytest.approx({"mad": 1, "mse": 1}, rel=1e-5)
    flat.save(tmp_path / "o.json")
    assert json.loads((tmp_path / "o.json").read_text())["rq"] == pytest.approx(1, rel=1e-5)
    write(tmp_path / "mattes", "extra.png", alpha(0))
    with pytest.raises(UsageError, match="'extra' has no counterpart"):
        evaluate_instances(tmp_path / "mattes", tmp_path / "flat")
    with pytest.raises(UsageError, match="no such folder"):
        evaluate_instances(tmp_path / "absent", tmp_path / "flat")

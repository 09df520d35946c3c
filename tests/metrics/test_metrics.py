"""Metrics against numbers that other people's published code gave, and against cases worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mam_video import metrics
from mam_video.metrics.masks import boundary

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not (REFERENCE / "metrics.json").exists(), reason="../shared/reference/metrics.json is not beside this checkout"
)


@pytest.fixture(scope="module")
def numbers() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((REFERENCE / "metrics.json").read_text())
    return loaded


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "metrics_inputs.npz") as arrays:
        return {k: arrays[k] for k in arrays}


def alpha(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float32) / np.float32(255)


@needs_reference
def test_single_alphas_agree_with_published_code(numbers: dict[str, Any], inputs: dict[str, np.ndarray]) -> None:
    for name, expected in numbers["single"].items():
        p, g = alpha(inputs[f"single/{name}/pred"]), alpha(inputs[f"single/{name}/gt"])
        unknown = inputs[f"single/{name}/trimap"] == 128
        for where, region in (("whole", None), ("unknown", unknown)):
            for metric in ("sad", "mse", "mad", "grad"):
                ours = getattr(metrics, metric)(p, g, region)
                theirs = expected["mam_evaluate"][where][metric]
                assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-9), (name, where, metric)
        low, high = expected["rvm"]["lr"], expected["rvm"]["hr"]
        assert metrics.mad(p, g) * 1e3 == pytest.approx(low["mad"], rel=1e-5)
        assert metrics.mse(p, g) * 1e3 == pytest.approx(low["mse"], rel=1e-5)
        assert metrics.grad(p, g, stretch=True) == pytest.approx(low["grad"], rel=1e-4, abs=1e-9)
        assert metrics.grad(p, g) == pytest.approx(high["grad"], rel=1e-4, abs=1e-9)
        assert metrics.conn(p, g) == pytest.approx(low["conn"], rel=1e-4, abs=1e-9), name


@needs_reference
def test_clips_agree_with_published_code(numbers: dict[str, Any], inputs: dict[str, np.ndarray]) -> None:
    pairs = list(zip(alpha(inputs["video/pred"]), alpha(inputs["video/gt"]), strict=True))
    for kind, stretch in (("lr", True), ("hr", False)):
        ours, theirs = metrics.clip_scores(pairs, stretch_grad=stretch), numbers["video"][f"rvm_dtssd_{kind}"]
        assert ours.dtssd == pytest.approx(theirs["per_pair_t1_to_T"], rel=1e-4)
        assert ours.mean()["dtssd"] == pytest.approx(theirs["mean_over_pairs"], rel=1e-4)
        assert ours.dtssd_with_leading_zero == pytest.approx(theirs["mean_as_the_sheet_does_with_leading_0"], rel=1e-4)
        for i, frame in enumerate(numbers["video"]["rvm_per_frame"]):
            for metric, value in frame[kind].items():
                assert getattr(ours, metric)[i] == pytest.approx(value, rel=1e-4), (i, metric)


@needs_reference
def test_masks_agree_with_the_davis_code(numbers: dict[str, Any], inputs: dict[str, np.ndarray]) -> None:
    for name, expected in numbers["davis"].items():
        p, g = inputs[f"davis/{name}/pred"], inputs[f"davis/{name}/gt"]
        assert metrics.region_j(p, g) == pytest.approx(expected["J"], rel=1e-5), name
        assert metrics.boundary_f(p, g) == pytest.approx(expected["F"], rel=1e-5), name


@needs_reference
def test_instances_agree_with_published_code(numbers: dict[str, Any], inputs: dict[str, np.ndarray]) -> None:
    pictures = []
    for name, expected in numbers["imq"].items():
        one = metrics.match_instances(alpha(inputs[f"imq/{name}/pred"]), alpha(inputs[f"imq/{name}/gt"]))
        pictures.append(one)
        assert (one.true_positives, one.false_positives, one.false_negatives) == tuple(
            expected[k] for k in ("tp", "fp", "fn")
        )
        assert one.similarity == pytest.approx(expected["sum_similarity"], rel=1e-4), name
        quality = metrics.imq([one])
        assert quality.imq == pytest.approx(expected["IMQ"], rel=1e-4)
        assert quality.mq == pytest.approx(expected["MQ"], rel=1e-4)
        assert quality.rq == pytest.approx(expected["RQ"], rel=1e-6)
    whole = metrics.imq(pictures)
    assert whole.imq == pytest.approx(numbers["imq_set_of_all"]["IMQ"], rel=1e-4)
    assert whole.mq == pytest.approx(numbers["imq_set_of_all"]["MQ"], rel=1e-4)
    assert whole.rq == pytest.approx(numbers["imq_set_of_all"]["RQ"], rel=1e-6)


def test_known_alphas() -> None:
    truth = np.zeros((20, 30), np.float32)
    truth[5:15, 10:20] = 1
    assert metrics.sad(truth, truth) == metrics.grad(truth, truth) == metrics.conn(truth, truth) == 0
    off = truth.copy()
    off[0, 0] = 0.5
    assert metrics.sad(off, truth) == pytest.approx(0.5 / 1000)
    assert metrics.mad(off, truth) == pytest.approx(0.5 / 600)
    assert metrics.mse(off, truth) == pytest.approx(0.25 / 600)
    region = np.zeros(truth.shape, bool)
    region[0, :10] = True
    assert metrics.mad(off, truth, region) == pytest.approx(0.05)
    assert metrics.mad(off, truth, np.zeros(truth.shape, bool)) == 0


def test_connectivity_counts_what_is_cut_off() -> None:
    truth = np.zeros((20, 30), np.float32)
    truth[5:15, 5:25] = 1
    island = np.zeros_like(truth)
    island[0:2, 0:2] = 1
    # Four pixels that belong to no common body: each is off by its whole alpha.
    assert metrics.conn(np.maximum(truth, island), truth) == pytest.approx(4 / 1000)
    # Nothing predicted at all: the whole subject is missing, which the version with the background's bug calls 0.
    assert metrics.conn(np.zeros_like(truth), truth) == pytest.approx(200 / 1000)


def test_flicker_of_known_clips() -> None:
    still, shifted = np.full((4, 5), 0.4, np.float32), np.full((4, 5), 0.5, np.float32)
    assert metrics.dtssd(shifted, still, still, still) == pytest.approx(0.1)
    assert metrics.dtssd(shifted, shifted, still, still) == 0
    scores = metrics.clip_scores([(still, still), (shifted, still), (shifted, still)], slow=False)
    assert scores.dtssd == pytest.approx((10, 0), abs=1e-5) and scores.grad == ()
    assert scores.mean()["mad"] == pytest.approx(200 / 3, rel=1e-5)
    assert scores.dtssd_with_leading_zero == pytest.approx(10 / 3, rel=1e-5)


def test_known_masks() -> None:
    a = np.zeros((40, 60), bool)
    a[10:20, 10:20] = True
    b = np.roll(a, 5, axis=1)
    empty = np.zeros_like(a)
    assert metrics.region_j(a, b) == pytest.approx(50 / 150)
    assert metrics.region_j(empty, empty) == metrics.boundary_f(empty, empty) == 1
    assert metrics.region_j(a, empty) == metrics.boundary_f(a, empty) == metrics.boundary_f(empty, a) == 0
    assert metrics.boundary_f(a, np.roll(a, 2, axis=0), tolerance=1) < 1
    assert metrics.boundary_f(a, np.roll(a, 2, axis=0), tolerance=2) == 1
    # 11 by 11 pixels see a difference to their right or below, less the 9 by 9 inner ones that see none.
    assert np.count_nonzero(boundary(a)) == 11 * 11 - 9 * 9
    with pytest.raises(ValueError, match="bool"):
        metrics.region_j(a.astype(np.uint8), b)


def test_foreground_colours_count_where_the_subject_is() -> None:
    truth = np.zeros((2, 2, 3), np.float32)
    off = truth.copy()
    off[0, 0] = 0.5
    off[1, 1] = 1
    where = np.array([[1, 0], [0.5, 0]], np.float32)
    assert metrics.foreground_error(off, truth, where) == pytest.approx({"mad": 250, "mse": 125})


def test_a_missing_instance_costs_half() -> None:
    one = np.zeros((10, 10), np.float32)
    one[:4, :4] = 1
    other = np.flip(one).copy()
    quality = metrics.imq([metrics.match_instances([one], [other, one])])
    assert quality.rq == pytest.approx(1 / 1.5, rel=1e-5)
    assert quality.mq["mad"] == 1
    assert metrics.match_instances([], [one]).false_negatives == 1

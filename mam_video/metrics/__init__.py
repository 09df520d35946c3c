"""Measure errors of mattes and masks. Arrays in, numbers out; no files."""

from mam_video.metrics.alpha import conn, grad, mad, mse, sad
from mam_video.metrics.instances import InstanceQuality, Matches, imq, match_instances
from mam_video.metrics.masks import boundary_f, region_j
from mam_video.metrics.scores import METRICS, ClipScores, Metric, clip_scores, score_frame
from mam_video.metrics.video import dtssd, foreground_error

__all__ = [
    "METRICS", "ClipScores", "InstanceQuality", "Matches", "Metric", "boundary_f", "clip_scores", "conn", "dtssd",
    "foreground_error", "grad", "imq", "mad", "match_instances", "mse", "region_j", "sad", "score_frame",
]  # fmt: skip

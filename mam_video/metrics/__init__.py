"""What mattes and masks are judged by. Arrays in, numbers out; no files."""

from mam_video.metrics.alpha import conn, grad, mad, mse, sad
from mam_video.metrics.instances import InstanceQuality, Matches, imq, match_instances
from mam_video.metrics.masks import boundary_f, region_j
from mam_video.metrics.video import ClipScores, clip_scores, dtssd, foreground_error

__all__ = [
    "ClipScores", "InstanceQuality", "Matches", "boundary_f", "clip_scores", "conn", "dtssd", "foreground_error",
    "grad", "imq", "mad", "match_instances", "mse", "region_j", "sad",
]  # fmt: skip

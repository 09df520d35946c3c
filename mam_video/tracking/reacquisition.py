"""Re-acquisition: look for a lost subject in the whole frame, where its colours are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame
from mam_video.core.geometry import Box
from mam_video.core.settings import TrackSettings, ViewSettings
from mam_video.models.base import Model, Reference, ViewPrompt
from mam_video.models.resident import embed_views
from mam_video.tracking.appearance import CandidateRegion
from mam_video.tracking.embeddings import FrameEmbedding
from mam_video.tracking.mask_ops import box_of_logits, filled_share, keep_supported
from mam_video.tracking.query import segment
from mam_video.tracking.search_region import held_crop
from mam_video.tracking.selection import Selection


def segment_regions(
    frame: Frame,
    regions: Iterable[CandidateRegion],
    held: Crop | None,
    model: Model,
    references: tuple[Reference, ...],
    settings: TrackSettings,
    crop_settings: ViewSettings,
) -> Iterator[tuple[Selection, FrameEmbedding]]:
    """Segment each region of a frame by itself, and yield the mask found there with its embedding.

    The caller decides which one is the subject; later regions are then not segmented. `held` is the crop that is
    kept if a region fits it.
    """
    whole = Box(0, 0, frame.size[1], frame.size[0])
    for region in regions:
        query_box = region.box.grown(settings.margin * max(region.box.width, region.box.height))
        query_box = query_box.clipped(frame.size) or whole
        crop = held_crop(held, query_box, frame.size, model.view_size, crop_settings)
        source = FrameEmbedding(crop, embed_views(model, [frame], crop), 0)
        offered = segment(model, source, ViewPrompt(crop.to_view(query_box), references=references))
        best = int(np.argmax(offered.scores))
        support = filled_share(query_box, crop, model.mask_size)
        logits = keep_supported(offered.logits[best], support, crop.to_view(query_box), crop.size)
        yield Selection(logits, box_of_logits(logits, crop, settings.speck), float(offered.scores[best])), source

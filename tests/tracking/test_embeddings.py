"""Embeddings of one group of frames, in the crops of one subject or of several."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from mam_video.core.crop import Crop
from mam_video.core.frames import Frame
from mam_video.models.base import Embedding
from mam_video.models.colour_model import ColourModel
from mam_video.tracking.embeddings import DeferredEmbedding, GroupEmbeddings, SharedEmbeddings
from mam_video.tracking.types import TrackStep

SIZE, SIDE = (48, 64), 64
A, B = Crop.whole(SIZE, SIDE), Crop(8, 8, 32, 32, SIDE)
GROUP = [
    TrackStep(Frame(i, i, Fraction(1, 24), np.full((*SIZE, 3), 10 * i, np.uint8)), None)
    for i in range(4)
]  # fmt: skip


class Recorder:
    """Embeds the rest of a group of four, and records in which crop and from where."""

    def __init__(self) -> None:
        self.calls: list[tuple[Crop, int]] = []

    def __call__(self, crop: Crop, place: int) -> Embedding:
        self.calls.append((crop, place))
        return Embedding(4 - place, (SIDE, SIDE), len(self.calls))


def test_a_crop_that_stays_is_embedded_once() -> None:
    embed_rest = Recorder()
    group = GroupEmbeddings(embed_rest)
    found = [group.at(place, A) for place in range(4)]
    assert embed_rest.calls == [(A, 0)] and [f.index for f in found] == [0, 1, 2, 3]
    whole = [group.whole_batch(place) for place in range(4)]
    assert [w and w[1] for w in whole] == [0, 1, 2, 3]


def test_a_new_crop_embeds_the_rest_and_only_whole_batches_are_handed_on() -> None:
    embed_rest = Recorder()
    group = GroupEmbeddings(embed_rest)
    for place, crop in enumerate([A, B, B, B]):
        group.at(place, crop)
    assert embed_rest.calls == [(A, 0), (B, 1)]
    whole = [group.whole_batch(place) for place in range(4)]
    assert whole[0] is None  # its batch held three frames more
    assert [w and (w[0].count, w[1]) for w in whole[1:]] == [(3, 0), (3, 1), (3, 2)]


def test_a_frame_that_was_found_elsewhere_moves_with_the_rest() -> None:
    embed_rest = Recorder()
    group = GroupEmbeddings(embed_rest)
    group.at(0, A)
    group.at(1, A)
    group.move(1, A)  # the crop it has
    group.move(1, B)
    assert group.at(2, B).index == 1 and group.at(3, B).index == 2
    assert embed_rest.calls == [(A, 0), (B, 1)]
    assert group.whole_batch(0) is None and group.whole_batch(1) is not None


def test_subjects_that_share_a_crop_share_its_embedding() -> None:
    model = ColourModel(view_size=SIDE)
    shared = SharedEmbeddings(model, GROUP)
    one, other = GroupEmbeddings(shared.embed_rest), GroupEmbeddings(shared.embed_rest)
    assert one.at(0, A).embedding is other.at(0, A).embedding
    assert one.at(1, B).embedding is not other.at(1, A).embedding
    assert (shared.picture(B, 1) == B.cut(GROUP[1].frame.rgb8)).all()
    assert (shared.picture(A, 3) == A.cut(GROUP[3].frame.rgb8)).all()


def test_a_deferred_reference_is_that_of_the_embedded_batch() -> None:
    model = ColourModel(view_size=SIDE)
    logits = np.zeros((16, 16), np.float32)
    deferred = DeferredEmbedding(A, [step.frame for step in GROUP], 2).reference(logits, prompted=True)
    reference = deferred.embedded(model)
    assert reference.index == 2 and reference.embedding.count == 4 and reference.prompted
    assert reference.logits is logits

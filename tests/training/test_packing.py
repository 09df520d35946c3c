"""A packed file is read as its folder is, with its licences, and its scenes are the folder's up to the compression."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from mam_video.core.errors import MamVideoError
from mam_video.training.data import packing, pictures
from mam_video.training.data.composites import Composites
from mam_video.training.data.packing import pack
from mam_video.training.data.store import decode, open_store
from mam_video.training.synth.scene import SceneGenerator

MEAN_ERROR = 8.0  # of scenes of pictures at WebP quality 80, in code values: these pictures are noise
MIB = 2**20


@pytest.fixture(scope="module")
def packed(training_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    rendered = folder / "rendered"
    rendered.mkdir()
    for i in range(3):
        rgba = cv2.imread(str(sorted((training_set / "cutouts/blobs").iterdir())[i]), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(rendered / f"rendered_{i:05d}.webp"), rgba, [cv2.IMWRITE_WEBP_QUALITY, 101])
    found = pack(training_set, folder / "train.zip", rendered=rendered, limit=4 * MIB)
    assert found.size == (folder / "train.zip").stat().st_size <= 4 * MIB and found.quality == 80
    assert found.counts["masks/img"] == found.counts["masks/mask"] and found.counts["rendered"] > 0
    return folder / "train.zip"


def test_the_licences_travel_with_the_pictures(training_set: Path, packed: Path) -> None:
    assert pictures.read_manifest(packed) == pictures.read_manifest(training_set)
    assert len(pictures.read_manifest(packed, deny="research")) == 3
    with zipfile.ZipFile(packed) as archive:
        assert archive.read("manifest.csv").decode().splitlines()[0] == "folder,kind,licence"
        assert json.loads(archive.read("pack.json"))["quality"] == 80


def test_scenes_of_a_packed_file_are_those_of_its_folder(training_set: Path, packed: Path) -> None:
    drawn = []
    for root in (training_set, packed):
        sources = pictures.read_manifest(root)
        items = pictures.read_labelled(root, sources, held=False)
        grounds = pictures.read_backgrounds(root, sources, held=False)
        cutouts = pictures.read_cutouts(root, sources, held=False)
        scenes = SceneGenerator(items, grounds, 64, 3, pictures.labelled_cutouts(cutouts), 0.3)
        composites = Composites(cutouts, grounds, 64, 3)
        drawn.append((items, [scenes.scene(i) for i in range(8)], [composites.sample(i) for i in range(4)]))
    (items, scenes_a, samples_a), (again, scenes_b, samples_b) = drawn
    assert [(m.source, m.name, m.ids) for m in items] == [(m.source, m.name, m.ids) for m in again]
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(items, again, strict=True))
    for a, b in zip(scenes_a + samples_a, scenes_b + samples_b, strict=True):
        # What comes of masks and alphas is the same to the bit, since these are packed without loss.
        assert all(np.array_equal(a[k], b[k]) for k in a if k != "picture")
        assert np.abs(a["picture"].astype(int) - b["picture"]).mean() < MEAN_ERROR


def test_a_third_of_what_is_held_out_is_packed(training_set: Path, packed: Path) -> None:
    whole, part = (
        {(m.source, m.name) for m in pictures.read_labelled(root, pictures.read_manifest(root), held=True)}
        for root in (training_set, packed)
    )
    assert part < whole
    assert len({packing._left_out("video_vsb", f"camel_{i:05d}") for i in range(50)}) == 1
    kept = [n for n in (f"{i:04d}" for i in range(6000)) if pictures.held_out("ecssd", n)]
    assert 0.55 < np.mean([packing._left_out("ecssd", n) for n in kept]) < 0.78
    rendered = [n for held in (False, True) for n, _ in pictures.read_rendered(packed, held=held)]
    assert rendered and set(rendered) == {"rendered"}


def test_every_id_of_a_mask_survives(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = packing._webp(np.dstack([values] * 3), 101)
    (tmp_path / "ids.webp").write_bytes(data)
    assert np.array_equal(decode(open_store(tmp_path), "ids.webp", cv2.IMREAD_GRAYSCALE), values)


def test_a_shrunk_cut_out_keeps_its_colour_at_the_edge() -> None:
    """Red of alpha 1 beside green of alpha 0: half-covered pixels are red, and the uncovered stay green."""
    rgba = np.zeros((40, 40, 4), np.uint8)
    rgba[:, :19] = (255, 0, 0, 255)
    rgba[:, 19:] = (0, 255, 0, 0)
    small = packing._shrunk_rgba(rgba, 20)
    assert small.shape == (20, 20, 4)
    assert small[5, 9].tolist() == [255, 0, 0, 128] and small[5, 15].tolist() == [0, 255, 0, 0]


def test_what_does_not_fit_or_is_no_packed_file_is_told(training_set: Path, tmp_path: Path) -> None:
    with pytest.raises(MamVideoError, match=r"do not fit .* smaller `--side`"):
        pack(training_set, tmp_path / "small.zip", limit=20_000)
    assert not list(tmp_path.iterdir())
    (tmp_path / "junk.zip").write_bytes(b"junk")
    with pytest.raises(MamVideoError, match=r"junk\.zip: cannot read this packed file"):
        pictures.read_manifest(tmp_path / "junk.zip")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("a", b"")
    with pytest.raises(MamVideoError, match=r"has no manifest\.csv"):
        pictures.read_manifest(tmp_path / "empty.zip")
    with pytest.raises(MamVideoError, match="no rendered subjects"):
        pictures.read_rendered(tmp_path / "empty.zip", held=False)

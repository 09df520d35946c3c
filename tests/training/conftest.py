"""A little training set of our own: coloured blobs on noise, with masks, cut-outs and backgrounds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch


def blob(number: int, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """(size, size, 3) uint8 RGB and its mask (size, size) uint8 0 or 1."""
    noise = np.random.default_rng(number)
    picture = noise.integers(0, 90, (size, size, 3)).astype(np.uint8)
    mask = np.zeros((size, size), np.uint8)
    centre = tuple(int(v) for v in noise.integers(size // 3, 2 * size // 3, 2))
    axes = tuple(int(v) for v in noise.integers(size // 8, size // 4, 2))
    cv2.ellipse(mask, centre, axes, float(noise.integers(0, 180)), 0, 360, 1, -1)
    picture[mask > 0] = noise.integers(120, 256, 3)
    return picture, mask


@pytest.fixture(scope="session")
def training_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "train"
    for folder in ("masks/blobs/img", "masks/blobs/mask", "masks/video_blobs/img", "masks/video_blobs/mask",
                   "cutouts/blobs", "backgrounds/noise"):  # fmt: skip
        (root / folder).mkdir(parents=True)
    for i in range(40):
        picture, mask = blob(i)
        cv2.imwrite(str(root / f"masks/blobs/img/b{i:02d}.jpg"), picture[:, :, ::-1])
        cv2.imwrite(str(root / f"masks/blobs/mask/b{i:02d}.png"), mask * 255)
        alpha = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 2) * 255
        rgba = np.dstack([picture[:, :, ::-1], alpha.astype(np.uint8)])
        cv2.imwrite(str(root / f"cutouts/blobs/b{i:02d}.webp"), rgba, [cv2.IMWRITE_WEBP_QUALITY, 101])
        ground = np.random.default_rng(100 + i).integers(0, 255, (96, 128, 3)).astype(np.uint8)
        cv2.imwrite(str(root / f"backgrounds/noise/n{i:02d}.jpg"), ground)
    for clip in "abcdef":
        for t in range(3):
            picture, mask = blob(ord(clip))
            move = np.float32([[1, 0, 4 * t], [0, 1, 0]])
            cv2.imwrite(
                str(root / f"masks/video_blobs/img/{clip}_{t:05d}.jpg"), cv2.warpAffine(picture, move, (96, 96))
            )
            mask = cv2.warpAffine(mask, move, (96, 96), flags=cv2.INTER_NEAREST)
            cv2.imwrite(str(root / f"masks/video_blobs/mask/{clip}_{t:05d}.png"), mask * 7)
    (root / "manifest.csv").write_text(
        "folder,kind,licence\n"
        'masks/blobs,"masks, binary",CC0\n'
        'masks/video_blobs,"masks, instance ids (255=ignore)",research only\n'
        "cutouts/blobs,cut-outs,CC0\n"
        "backgrounds/noise,backgrounds,CC0\n"
    )
    return root


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Trainers set the number of threads and flush denormals: put back for the tests that follow."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)

"""ViTMatte as a matte model, through transformers: the plate's own pixels and a trimap in, alpha out.

The trimap is made of the mask. Its unknown region spans where the mask is uncertain, and a band along the mask's edge
whose width grows with the subject and with the cells of the mask. Alpha is 1 and 0 outside the unknown region.

Large crops are matted in tiles that overlap, so that memory is bounded. Tiles without unknown pixels are skipped. Where
tiles overlap they are blended with weights that fall to zero at a tile's inner edges.

Source: Yao et al., "ViTMatte: Boosting Image Matting with Pretrained Plain Vision Transformers", 2023, arXiv
2305.15272.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from mam_video.core.errors import need_extra
from mam_video.models.base import Embedding
from mam_video.models.catalogue import Part
from mam_video.models.devices import resolve_device, resolve_precision
from mam_video.models.hub import load
from mam_video.models.transfers import download, upload

TILE, OVERLAP = 1024, 128  # side of a tile and overlap of neighbours, in plate pixels
_DIVISOR = 32  # the network's sides are multiples of it
_UNKNOWN = 128  # of the trimap, which has 8 bits
_SURE = 2.2  # logit from which on a mask is certain: 0.9
_BAND = 0.03  # half the width of the unknown band, in square roots of the subject's area
_CELLS = 1.5  # and at least so many cells of the mask


@dataclass(frozen=True, slots=True)
class TrimapSettings:
    """band: half the width of the unknown region, in square roots of the subject's area; cells: at least so many."""

    band: float = _BAND
    cells: float = _CELLS


class VitMatteModel:
    """ViTMatte, loaded and on its device; a `MatteModel` that works on the plate's own pixels."""

    at_plate_size = True
    view_size = TILE
    mask_size = 256

    def __init__(
        self,
        name: str,
        network: Any,
        device: str | torch.device = "auto",
        precision: str = "auto",
        weights: dict[str, str] | None = None,
        *,
        trimap: TrimapSettings | None = None,
        tile: int = TILE,
        overlap: int = OVERLAP,
    ) -> None:
        """Take over `network` (float32, on the CPU). Raises: DeviceError."""
        if not 0 < overlap < tile or tile % _DIVISOR:
            raise ValueError(
                f"tiles of {tile} with overlaps of {overlap} pixels do not fit; sides divide by {_DIVISOR}"
            )
        self.name, self.weights = name, dict(weights or {})
        self.device = resolve_device(device) if isinstance(device, str) else device
        half = "float32" if precision == "auto" and self.device.type == "cpu" else precision
        self._precision = resolve_precision(half, self.device)
        self._network = network.to(self.device)
        self._trimap, self._tile, self._overlap = trimap or TrimapSettings(), tile, overlap

    @classmethod
    def load(cls, part: Part, device: str | torch.device = "auto", precision: str = "auto") -> Self:
        """Load the named model from its folder. Raises: UsageError, WeightsError, DeviceError."""
        need_extra("transformers", part.listing.extra, f"model {part.listing.name}")
        import transformers

        network, hashes = load(
            part, transformers.VitMatteForImageMatting, lambda: vitmatte_config(part.listing.variant)
        )
        return cls(part.text, network, device, precision, hashes)

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        """Keep the pictures: the network sees picture and trimap at once."""
        if not pictures:
            raise ValueError("no pictures to embed")
        content = pictures[0].shape[:2]
        return Embedding(len(pictures), (content[0], content[1]), list(pictures))

    @torch.inference_mode()
    def matte(self, embedding: Embedding, logits: np.ndarray) -> torch.Tensor:
        side = max(embedding.content)
        h, w = embedding.content
        alphas = torch.zeros(embedding.count, 1, side, side)
        for k, picture in enumerate(embedding.data):
            trimap = trimap_of_mask(logits[k], embedding.content, self._trimap)
            alphas[k, 0, :h, :w] = torch.from_numpy(self.matte_trimap(picture, trimap))
        return alphas

    @torch.inference_mode()
    def matte_trimap(self, picture: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        """Matte a picture (H, W, 3) uint8 with a trimap (H, W) uint8 of 0, 128 and 255: alpha (H, W) float32."""
        alpha = np.asarray(trimap > _UNKNOWN, np.float32)
        unknown = trimap == _UNKNOWN
        if not unknown.any():
            return alpha
        whole = max(trimap.shape) <= self._tile
        matted = self._run(picture, trimap) if whole else self._tiled(picture, trimap)
        alpha[unknown] = np.clip(matted[unknown], 0, 1)
        return alpha

    def _tiled(self, picture: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        total = np.zeros(trimap.shape, np.float32)
        weight = np.zeros(trimap.shape, np.float32)
        for rows, columns in tiles(trimap.shape, self._tile, self._overlap):
            part = np.ascontiguousarray(trimap[rows, columns])
            if not (part == _UNKNOWN).any():
                continue
            share = tile_weight(part.shape, rows, columns, trimap.shape, self._overlap)
            total[rows, columns] += share * self._run(np.ascontiguousarray(picture[rows, columns]), part)
            weight[rows, columns] += share
        return total / np.maximum(weight, 1e-6)

    def _run(self, picture: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        """Run the network on one picture; (H, W) float32."""
        h, w = trimap.shape
        given = upload(np.dstack([picture, trimap]), self.device, "pictures")
        given = given.permute(2, 0, 1)[None].to(torch.float32, memory_format=torch.contiguous_format)
        pixels = (given[:, :3] - 127.5) / 127.5
        known = given[:, 3:] * (1 / 255)
        joined = F.pad(torch.cat([pixels, known], dim=1), (0, -w % _DIVISOR, 0, -h % _DIVISOR))
        if self._precision == torch.float32:
            alphas = self._network(joined).alphas
        else:
            with torch.autocast(self.device.type, self._precision):
                alphas = self._network(joined).alphas
        return download(alphas[0, 0, :h, :w].float(), "alpha")


def trimap_of_mask(logits: np.ndarray, content: tuple[int, int], settings: TrimapSettings) -> np.ndarray:
    """Make a trimap of a mask.

    Args:
        logits: (m, m) over a square whose side is the longer one of `content`; above 0 is subject.
        content: (h, w) of the picture in that square, in pixels.
    Returns: (h, w) uint8: 0 background, 128 unknown, 255 subject; all 0 where the mask is empty.
    """
    h, w = content
    side, m = max(content), len(logits)
    scale = m / side
    matrix = np.array([[scale, 0, 0.5 * scale - 0.5], [0, scale, 0.5 * scale - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    wide = cv2.warpAffine(logits.astype(np.float32), matrix, (w, h), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    subject = (wide > 0).astype(np.uint8)
    if not subject.any():
        return np.zeros(content, np.uint8)
    reach = max(settings.band * math.sqrt(float(subject.sum())), settings.cells / scale)
    inside = cv2.distanceTransform(subject, cv2.DIST_L2, 5)
    outside = cv2.distanceTransform(1 - subject, cv2.DIST_L2, 5)
    # A pixel that is uncertain far from any edge is no edge: twice the band is as far as uncertainty reaches.
    near = np.where(subject > 0, inside, outside)
    unknown = (near <= reach) | ((np.abs(wide) < _SURE) & (near <= 2 * reach))
    trimap = subject * np.uint8(255)
    trimap[unknown] = _UNKNOWN
    return trimap


def tiles(shape: tuple[int, ...], tile: int, overlap: int) -> Iterator[tuple[slice, slice]]:
    """Cover a picture of `shape` with tiles of one size; the last of a row or column lies at the border."""
    for y in _starts(shape[0], tile, overlap):
        for x in _starts(shape[1], tile, overlap):
            yield slice(y, min(y + tile, shape[0])), slice(x, min(x + tile, shape[1]))


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(k * (length - tile) / (count - 1)) for k in range(count)]


def tile_weight(
    shape: tuple[int, ...], rows: slice, columns: slice, whole: tuple[int, ...], overlap: int
) -> np.ndarray:
    """Return the weight of a tile's pixels, (h, w) float32: it falls to zero at edges that are not the picture's."""
    y = _ramp(shape[0], overlap, rows.start > 0, rows.stop < whole[0])
    x = _ramp(shape[1], overlap, columns.start > 0, columns.stop < whole[1])
    return np.asarray(np.outer(y, x), np.float32)


def _ramp(length: int, overlap: int, rises: bool, falls: bool) -> np.ndarray:
    weight = np.ones(length, np.float32)
    slope = (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
    if rises:
        weight[:overlap] = slope
    if falls:
        weight[-overlap:] = np.minimum(weight[-overlap:], slope[::-1])
    return weight


def vitmatte_config(size: str) -> Any:
    """Return the published network's configuration, without weights."""
    import transformers

    width, heads = (384, 6) if size == "small" else (768, 12)
    backbone = transformers.VitDetConfig(
        hidden_size=width,
        num_attention_heads=heads,
        image_size=512,
        num_channels=4,
        window_block_indices=[0, 1, 3, 4, 6, 7, 9, 10],
        residual_block_indices=[2, 5, 8, 11],
        use_relative_position_embeddings=True,
        window_size=14,
        out_features=["stage12"],
    )
    return transformers.VitMatteConfig(backbone_config=backbone, hidden_size=width)

"""SAM 2.1 and SAM 3's tracker as mask models, through transformers: pictures and prompts in, masks out.

Both families have one interface in transformers (`Sam2Model`, `Sam3TrackerModel`). They were trained on pictures that
are stretched to a square; this program's crops are padded to one. A crop that is not square is stretched here, and its
masks are squeezed back.

Source: Ravi et al., "SAM 2: Segment Anything in Images and Videos", 2024, arXiv 2408.00714; Carion et al., "SAM 3:
Segment Anything with Concepts", 2025, arXiv 2511.16719. The encoder may run in half precision, the decoder is float32.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Self

import cv2
import numpy as np
import torch

from mam_video.core.errors import need_extra
from mam_video.models.base import Candidates, Embedding, ViewPrompt
from mam_video.models.batches import ComputeParts
from mam_video.models.catalogue import Part
from mam_video.models.devices import resolve_device, resolve_precision
from mam_video.models.hub import load
from mam_video.models.transfers import download, upload

_BACKGROUND = -8.0  # logit of the padding
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

# Of the published image encoders: width, blocks per stage, heads, global blocks, window sizes, background of the
# window's position embedding. Only random:SEED needs them; a folder of weights holds its own configuration.
_HIERA: dict[str, tuple[int, list[int], int, list[int], list[int], list[int]]] = {
    "tiny": (96, [1, 2, 7, 2], 1, [5, 7, 9], [8, 4, 14, 7], [7, 7]),
    "small": (96, [1, 2, 11, 2], 1, [7, 10, 13], [8, 4, 14, 7], [7, 7]),
    "base-plus": (112, [2, 3, 16, 3], 2, [12, 16, 20], [8, 4, 14, 7], [14, 14]),
    "large": (144, [2, 6, 36, 4], 2, [23, 33, 43], [8, 4, 16, 8], [7, 7]),
}


class Sam2Base:
    """What the mask model and the video model have in common: a network on its device, its encoder and its sizes.

    video  whether the network is the one that follows subjects itself
    """

    video = False

    def __init__(
        self,
        name: str,
        network: Any,
        normalisation: tuple[Sequence[float], Sequence[float]],
        device: str | torch.device = "auto",
        precision: str = "auto",
        weights: dict[str, str] | None = None,
    ) -> None:
        """Take over `network` (float32, on the CPU).

        Raises: DeviceError, the device is not available or does not support the precision.
        """
        self.name, self.weights = name, dict(weights or {})
        self.device = resolve_device(device) if isinstance(device, str) else device
        self.encoder = Encoder(network, normalisation, self.device, precision)
        self.view_size = self.encoder.side
        self.mask_size = int(network.prompt_encoder.mask_input_size[0])
        self.network = network.to(self.device)

    @classmethod
    def load(cls, part: Part, device: str | torch.device = "auto", precision: str = "auto") -> Self:
        """Load the named model from its folder. Raises: UsageError, WeightsError, DeviceError."""
        need_extra("transformers", part.listing.extra, f"model {part.listing.name}")
        kind, config, normalisation = network_classes(part, video=cls.video)
        network, hashes = load(part, kind, config)
        return cls(part.text, network, normalisation, device, precision, hashes)


class Sam2MaskModel(Sam2Base):
    """SAM 2.1 or SAM 3's tracker, loaded and on its device; `models/base.py` documents the calls."""

    shared_crop = True

    @torch.inference_mode()
    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        if not pictures:
            raise ValueError("no pictures to embed")
        content = pictures[0].shape[:2]
        if any(p.shape[:2] != content for p in pictures):
            raise ValueError("the pictures of a batch must have one size")
        return Embedding(len(pictures), (content[0], content[1]), self.encoder.encode(pictures))

    @torch.inference_mode()
    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        features: list[torch.Tensor] = embedding.data
        stretch = self._stretch(embedding.content)
        more: dict[str, torch.Tensor] = {}
        if prompt.box is not None:
            box = np.array(prompt.box.xyxy, np.float32) * np.tile(stretch, 2)
            more["input_boxes"] = self._tensor(box[None, None])
        if len(prompt.points):
            more["input_points"] = self._tensor((prompt.points.astype(np.float32) * stretch)[None, None])
            more["input_labels"] = self._tensor(prompt.labels.astype(np.int64)[None, None])
        if prompt.logits is not None:
            wide = stretched_mask(prompt.logits.astype(np.float32), embedding.content, self.view_size)
            more["input_masks"] = self._tensor(wide[None, None])
        if not more:
            raise ValueError("the prompt is empty: give a box, points or logits")
        found = self.network(
            image_embeddings=[level[index : index + 1] for level in features], multimask_output=True, **more
        )
        masks, scores = download_maps(found.pred_masks[0, 0], found.iou_scores[0, 0])
        squeezed = np.stack([squeezed_mask(mask, embedding.content, self.view_size) for mask in masks])
        return Candidates(squeezed, scores)

    def _stretch(self, content: tuple[int, int]) -> np.ndarray:
        """(x, y): pixels of the stretched square per crop pixel."""
        return np.array([self.view_size / content[1], self.view_size / content[0]], np.float32)

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return upload(array, self.device, "prompt")


def download_maps(maps: torch.Tensor, scores: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Read maps (N, ...) and their scores (N, ...) back at once, both as float32."""
    read = download(torch.cat([maps.float().flatten(), scores.float().flatten()]), "candidates")
    return read[: maps.numel()].reshape(maps.shape), read[maps.numel() :].reshape(scores.shape)


class Encoder:
    """Pictures to the features of a transformers SAM: stretched, normalised, encoded in the wanted precision.

    parts  how many pictures are encoded at once
    """

    def __init__(
        self, network: Any, normalisation: tuple[Sequence[float], Sequence[float]], device: torch.device, precision: str
    ) -> None:
        """Raises: DeviceError, the device does not support the precision."""
        # On a CPU `auto` stays with float32: no gain in half precision was measured there.
        half = "float32" if precision == "auto" and device.type == "cpu" else precision
        self._network, self._device, self._precision = network, device, resolve_precision(half, device)
        self.side, self.parts = _side(network), ComputeParts(device)
        mean, deviation = (np.array(values, np.float32) * np.float32(255) for values in normalisation)
        self._mean = torch.from_numpy(mean).view(1, 3, 1, 1).to(device)
        self._deviation = torch.from_numpy(deviation).view(1, 3, 1, 1).to(device)

    def encode(self, pictures: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """(h, w, 3) uint8 pictures of one size to the features of each level, each (n, channels, rows, columns).

        Raises: DeviceError, the device has not enough memory for a single picture.
        """
        squares = self.pixels(pictures)
        with self.in_precision():
            encoded = self.parts.run(lambda part: self._network.get_image_embeddings(squares[part]), len(pictures))
        return [torch.cat(level).float() for level in zip(*encoded, strict=True)]

    def pixels(self, pictures: Sequence[np.ndarray]) -> torch.Tensor:
        """Stretch and normalise pictures: (n, 3, side, side) float32 on the device."""
        squares = upload(np.stack([stretched(p, self.side) for p in pictures]), self._device, "pictures")
        return (squares.permute(0, 3, 1, 2).to(torch.float32) - self._mean) / self._deviation

    def in_precision(self) -> contextlib.AbstractContextManager[Any]:
        """Compute in the wanted precision inside the block."""
        if self._precision == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, self._precision)


def network_classes(part: Part, *, video: bool) -> tuple[type[Any], Any, tuple[Sequence[float], Sequence[float]]]:
    """Return a network's class, what makes its random configuration, and its normalisation (mean, deviation of RGB)."""
    import transformers

    kind = "Video" if video else ""
    if part.listing.name.startswith("sam3"):
        name, normalisation = f"Sam3Tracker{kind}", _HALF
    else:
        name, normalisation = f"Sam2{kind}", _IMAGENET
    config = getattr(transformers, f"{name}Config")

    def random_config() -> Any:
        published = part.listing.variant  # SAM 3 has one size, the configuration's default
        return config(vision_config=hiera_config(published)) if published else config()

    return getattr(transformers, f"{name}Model"), random_config, normalisation


def hiera_config(variant: str) -> Any:
    """Return the published image encoder's configuration, without weights."""
    import transformers

    width, blocks, heads, whole, windows, background = _HIERA[variant]
    stages = [width * 2**k for k in range(4)]
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=width,
        num_attention_heads=heads,
        blocks_per_stage=blocks,
        embed_dim_per_stage=stages,
        num_attention_heads_per_stage=[heads * 2**k for k in range(4)],
        window_size_per_stage=windows,
        global_attention_blocks=whole,
        window_positional_embedding_background_size=background,
    )
    return transformers.Sam2VisionConfig(backbone_config=backbone, backbone_channel_list=stages[::-1])


def stretched(picture: np.ndarray, side: int) -> np.ndarray:
    """Stretch a picture (h, w, 3) uint8 to a square of `side`; the picture itself where it is one."""
    if picture.shape[:2] == (side, side):
        return picture
    shrinks = picture.shape[0] > side or picture.shape[1] > side
    filtering = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (side, side), interpolation=filtering))


def stretched_mask(logits: np.ndarray, content: tuple[int, int], side: int) -> np.ndarray:
    """Stretch the part of a mask (m, m) over a padded square that holds the picture, to the whole square."""
    return _remapped(logits, content[1] / side, content[0] / side)


def squeezed_mask(logits: np.ndarray, content: tuple[int, int], side: int) -> np.ndarray:
    """Squeeze a mask (m, m) over the stretched square back into the padded one; the padding is background."""
    if content == (side, side):
        return logits
    m = len(logits)
    squeezed = _remapped(logits, side / content[1], side / content[0])
    squeezed[int(np.ceil(m * content[0] / side)) :] = _BACKGROUND
    squeezed[:, int(np.ceil(m * content[1] / side)) :] = _BACKGROUND
    return squeezed


def _remapped(logits: np.ndarray, x: float, y: float) -> np.ndarray:
    """Sample a mask with positions multiplied by `x` and `y`, between the centres of its cells."""
    if x == 1 and y == 1:
        return logits
    m = len(logits)
    matrix = np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(logits, matrix, (m, m), flags=flags, borderMode=cv2.BORDER_REPLICATE))


def _side(network: Any) -> int:
    size = network.config.prompt_encoder_config.image_size
    return int(size if isinstance(size, int) else size[0])

"""Segment Anything: Meta's classes with a faster image encoder.

The prompt encoder and the mask decoder come from the `segment_anything` package. The image encoder computes the same
result as the package's, with fused attention and without the work for the padding of windows. Parameter names follow
the published checkpoints.

Source: Kirillov et al., "Segment Anything", 2023, arXiv 2304.02643; the encoder is Li et al., "Exploring Plain Vision
Transformer Backbones for Object Detection", 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
from torch import nn

from mam_video.core.errors import WeightsError

IMAGE_SIDE = 1024
PATCH = 16
GRID = IMAGE_SIDE // PATCH  # tokens per side
MASK_SIDE = 4 * GRID
WINDOW = 14  # tokens per side of an attention window
CHANNELS = 256  # of the embedding
CPU_ROWS = 8  # rows of queries processed together in global attention on a CPU, see `_Attention`
PIXEL_MEAN = (123.675, 116.28, 103.53)  # RGB, for values 0..255
PIXEL_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True)
class Variant:
    """The parameters in which the variants of SAM differ."""

    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]  # blocks with global attention; the others attend within windows
    decoder_mlp: int = 2048


VARIANTS = {
    "vit-b": Variant(768, 12, 12, (2, 5, 8, 11)),
    "vit-l": Variant(1024, 24, 16, (5, 11, 17, 23)),
    "vit-h": Variant(1280, 32, 16, (7, 15, 23, 31)),
    "tiny": Variant(48, 2, 4, (1,), decoder_mlp=128),  # for tests; no weights are published
}


def build_encoder(variant: Variant) -> nn.Module:
    """Build the package's image encoder with new random weights."""
    encoder: nn.Module = ImageEncoderViT(
        img_size=IMAGE_SIDE,
        patch_size=PATCH,
        embed_dim=variant.width,
        depth=variant.depth,
        num_heads=variant.heads,
        mlp_ratio=4,
        out_chans=CHANNELS,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        global_attn_indexes=variant.global_blocks,
        window_size=WINDOW,
    )
    return encoder


class Sam(nn.Module):
    """SAM of one variant, in evaluation mode. `accelerate` replaces the package's `image_encoder`."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.image_encoder = build_encoder(variant)
        self.prompt_encoder = PromptEncoder(
            embed_dim=CHANNELS,
            image_embedding_size=(GRID, GRID),
            input_image_size=(IMAGE_SIDE, IMAGE_SIDE),
            mask_in_chans=16,
        )
        self.mask_decoder = MaskDecoder(
            transformer_dim=CHANNELS,
            transformer=TwoWayTransformer(depth=2, embedding_dim=CHANNELS, num_heads=8, mlp_dim=variant.decoder_mlp),
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        )
        self.eval().requires_grad_(False)

    @classmethod
    def from_state(cls, variant: Variant, state: Mapping[str, torch.Tensor]) -> Sam:
        """Load the tensors of an official checkpoint. Raises: WeightsError, they do not belong to this variant."""
        with torch.device("meta"):
            sam = cls(variant)
        expected = sam.state_dict()
        missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
        wrong = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
        if missing or unknown or wrong:
            raise WeightsError(_mismatch_message(variant, state, missing, unknown, wrong))
        sam.to_empty(device="cpu").load_state_dict({k: v.float() for k, v in state.items()})
        return sam

    def accelerate(self, dtype: torch.dtype = torch.float32) -> Sam:
        """Install the fast encoder, which computes in `dtype`; the rest of SAM stays float32. Returns itself."""
        assert isinstance(self.image_encoder, ImageEncoderViT), "already accelerated"
        self.image_encoder = FastEncoder(self.image_encoder, dtype)
        return self

    def decode(
        self,
        embedding: torch.Tensor,
        box: torch.Tensor | None = None,
        points: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        logits: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode three candidate masks for one picture and one prompt, always in float32.

        Args:
            embedding: (1, 256, 64, 64).
            box: (1, 4) float32 x0, y0, x1, y1 in pixels of the square.
            points: (1, n, 2) float32 x, y in pixels of the square.
            labels: (1, n), 1 subject, 0 background.
            logits: (1, 1, 256, 256) float32, the mask prompt.
        Returns: logits (3, 256, 256) and predicted IoU (3,).
        """
        clicks = None if points is None or labels is None else (points, labels)
        sparse, dense = self.prompt_encoder(points=clicks, boxes=box, masks=logits)
        masks, scores = self.mask_decoder(
            image_embeddings=embedding.float(),
            image_pe=self.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )
        return masks[0], scores[0]


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    """Normalise (B, h, w, 3) uint8 RGB, h and w at most 1024, to (B, 3, 1024, 1024) float32 network input.

    The padding, to the right and below, is 0 after normalisation, which is the mean colour. It is on the same device.
    """
    b, h, w = pictures.shape[:3]
    device = pictures.device
    squares = torch.zeros(b, 3, IMAGE_SIDE, IMAGE_SIDE, device=device)
    mean, deviation = (torch.tensor(each, device=device).view(3, 1, 1) for each in (PIXEL_MEAN, PIXEL_STD))
    squares[..., :h, :w] = (pictures.permute(0, 3, 1, 2).float() - mean) / deviation
    return squares


class FastEncoder(nn.Module):
    """The image encoder with fused attention. It takes over the parameters of the package's encoder and their names.

    In half precision only the matrix products are half; norms and the residual sum stay float32.
    """

    def __init__(self, encoder: ImageEncoderViT, dtype: torch.dtype = torch.float32, rows: int = CPU_ROWS) -> None:
        super().__init__()
        self.dtype = dtype
        self.patch_embed = encoder.patch_embed.to(dtype)
        self.pos_embed = encoder.pos_embed
        self.blocks = nn.ModuleList(_Block(block, dtype, rows) for block in encoder.blocks)
        self.neck = encoder.neck
        self.neck[0].to(dtype)
        self.neck[2].to(dtype)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Encode (B, 3, 1024, 1024) float32 normalised pictures to (B, 256, 64, 64) float32."""
        x = self.patch_embed(pictures.to(self.dtype)) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        x = self.neck[0](x.permute(0, 3, 1, 2).to(self.dtype))
        x = self.neck[2](self.neck[1](x.float()).to(self.dtype))
        embedding: torch.Tensor = self.neck[3](x.float())
        return embedding


class _Block(nn.Module):
    def __init__(self, block: Any, dtype: torch.dtype, rows: int) -> None:
        super().__init__()
        self.dtype = dtype
        self.window: int = block.window_size
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.mlp = block.mlp.to(dtype)
        self.attn = _Attention(block.attn, self.window or GRID, dtype, rows)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x).to(self.dtype), self.window)
        return x + self.mlp(self.norm2(x).to(self.dtype))


class _Attention(nn.Module):
    """Attention with decomposed relative positions: logits q·k * scale + q·Rh[y, y'] + q·Rw[x, x'].

    (y, x) is the position of the query, (y', x') that of the key. The relative part uses the unscaled query.
    """

    def __init__(self, attention: Any, side: int, dtype: torch.dtype, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.heads: int = attention.num_heads
        self.qkv = attention.qkv.to(dtype)
        self.proj = attention.proj.to(dtype)
        self.rel_pos_h, self.rel_pos_w = attention.rel_pos_h, attention.rel_pos_w
        # (side, side, head width): entry (i, j) is the vector for a query at i and a key at j.
        offset = torch.arange(side)[:, None] - torch.arange(side)[None, :] + side - 1
        self.register_buffer("along_h", self.rel_pos_h.detach()[offset].to(dtype), persistent=False)
        self.register_buffer("along_w", self.rel_pos_w.detach()[offset].to(dtype), persistent=False)

    def forward(self, x: torch.Tensor, window: int) -> torch.Tensor:
        """Attend within windows of side `window`, or globally if it is 0. (B, H, W, D) in and out."""
        qkv = self.qkv(x)
        if window == 0:
            return self.proj(self._attend(qkv))
        b, h, w, d3 = qkv.shape
        rows, columns = -(-h // window), -(-w // window)
        # Windows at the edge are padded with zeros. Padding takes part as keys, and its q, k and v are the bias alone.
        # Its own output is not used, so it is dropped before the projection.
        full = self.qkv.bias.expand(b, rows * window, columns * window, d3).clone()
        full[:, :h, :w] = qkv
        cells = full.view(b, rows, window, columns, window, d3).transpose(2, 3).reshape(-1, window, window, d3)
        out = self._attend(cells).view(b, rows, columns, window, window, -1).transpose(2, 3)
        out = out.reshape(b, rows * window, columns * window, -1)[:, :h, :w]
        return self.proj(out)

    def _attend(self, qkv: torch.Tensor) -> torch.Tensor:
        """Attend within each of N squares: (N, s, s, 3D) to (N, s, s, D)."""
        n, s, _, d3 = qkv.shape
        heads, d = self.heads, d3 // 3
        q, k, v = qkv.view(n, s * s, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
        queries = q.unflatten(2, (s, s))  # (N, heads, y, x, head width)
        rel_h = queries @ self.along_h.mT  # (N, heads, y, x, y')
        rel_w = (queries.transpose(2, 3) @ self.along_w.mT).transpose(2, 3).contiguous()  # (N, heads, y, x, x')

        # The relative part is passed as the attention mask. In global attention it has 4096 x 4096 values per head. On
        # a CPU it is made for a few rows of queries at a time, so that it stays in the cache. Measured on 2 cores, one
        # global block of ViT-B: 3.1 s in the package, 1.0 s head by head, 0.63 s in this form. Encoding the relative
        # part as extra channels of q and k (with the key's row and column) took 1.2 s.
        rows, group = (s, heads) if s <= WINDOW or qkv.device.type != "cpu" else (self.rows, 1)
        batch = n if s <= WINDOW else 1
        out = torch.empty(n, s * s, heads, d // heads, dtype=qkv.dtype, device=qkv.device)
        for i, head, y in product(range(0, n, batch), range(0, heads, group), range(0, s, rows)):
            squares, some_heads = slice(i, i + batch), slice(head, head + group)
            band, tokens = slice(y, y + rows), slice(y * s, (y + rows) * s)
            bias = rel_h[squares, some_heads, band, :, :, None] + rel_w[squares, some_heads, band, :, None, :]
            part = F.scaled_dot_product_attention(
                q[squares, some_heads, tokens],
                k[squares, some_heads],
                v[squares, some_heads],
                attn_mask=bias.flatten(4).flatten(2, 3),
            )
            out[squares, tokens, some_heads] = part.transpose(1, 2)
        return out.view(n, s, s, d)


def _mismatch_message(
    variant: Variant, state: Mapping[str, torch.Tensor], missing: list[str], unknown: list[str], wrong: list[str]
) -> str:
    """Say in one line why a checkpoint does not fit `variant`, and which variant it is if that is known."""
    needed = next(name for name, v in VARIANTS.items() if v is variant)
    position = state.get("image_encoder.pos_embed")
    for name, other in VARIANTS.items():
        if position is not None and position.shape[-1] == other.width and other is not variant:
            return f"these are SAM's weights for {name}, not {needed}; choose --model mam-{name} or other weights"
    if missing:
        return f"not a SAM checkpoint for {needed}: it lacks {missing[0]} ({len(missing)} missing)"
    return f"not a SAM checkpoint for {needed}: {(unknown + wrong)[0]} does not belong"

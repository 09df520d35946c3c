"""Makes data/m2m.npz and data/whole.npz, which the tests of M2M and of the whole path compare with.

    python -m tests.models.make_fixtures

The truth is independent of the package: Meta's own predictor for SAM, and for M2M and the merge slow versions written
from the description of the method, M2M in float64. Weights and inputs come from `formula.py` and are not stored. Run
it again only where a formula changes; it takes some minutes, and fails where a fixture would prove nothing.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from segment_anything import SamPredictor
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from mam_video.models.base import ViewPrompt
from tests.models import formula, slow_merge
from tests.numerics import Truth, in_double

DATA = Path(__file__).parent / "data"
M2M_CASES = {"square": (2, 5, 5), "wide": (1, 3, 6)}
PICTURE = (150, 200)
BOX = (52.0, 18.0, 168.0, 131.0)
POINTS = ((110.0, 75.0), (12.0, 140.0))
LABELS = (1, 0)
SETTINGS = {"mask": ("mask", True, False), "alpha": ("alpha", True, False), "raw_two": ("alpha", False, True)}


def m2m_float64(
    p: dict[str, torch.Tensor], embedding: torch.Tensor, picture: torch.Tensor, mask: torch.Tensor
) -> list[torch.Tensor]:
    """os8, os4, os1 in float64 from a state dict of the official layout."""
    p = {k: v.double() for k, v in p.items()}

    def normalised(name: str) -> torch.Tensor:
        bar, u, v = (p[f"{name}.module.weight_{part}"] for part in ("bar", "u", "v"))
        return bar / (u @ (bar.reshape(len(bar), -1) @ v))

    def batch_norm(x: torch.Tensor, name: str) -> torch.Tensor:
        mean, var, gain, shift = (p[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        column = (slice(None), None, None)
        return (x - mean[column]) / torch.sqrt(var[column] + 1e-5) * gain[column] + shift[column]

    def leaky(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, 0.2 * x)

    def resized(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x.double(), size=like.shape[-2:], mode="bilinear", align_corners=False)

    def block(x: torch.Tensor, name: str, up: bool) -> torch.Tensor:
        if up:
            main = F.conv_transpose2d(x, normalised(f"{name}.conv1"), stride=2, padding=1)
            skip = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
            skip = batch_norm(F.conv2d(skip, normalised(f"{name}.upsample.1")), f"{name}.upsample.2")
        else:
            main = F.conv2d(x, normalised(f"{name}.conv1"), padding=1)
            skip = x
        main = leaky(batch_norm(main, f"{name}.bn1"))
        main = batch_norm(F.conv2d(main, normalised(f"{name}.conv2"), padding=1), f"{name}.bn2")
        return leaky(main + skip)

    def head(x: torch.Tensor, name: str) -> torch.Tensor:
        x = leaky(batch_norm(F.conv2d(x, p[f"{name}.0.weight"], padding=1), f"{name}.1"))
        return F.conv2d(x, p[f"{name}.3.weight"], p[f"{name}.3.bias"], padding=1)

    def alpha(x: torch.Tensor) -> torch.Tensor:
        return (torch.tanh(resized(x, picture)) + 1) / 2

    x, raw = embedding.double(), []
    for layer, blocks, refine in ((2, 3, "refine_OS8"), (3, 3, "refine_OS4"), (4, 2, None)):
        x = torch.cat([x, resized(picture, x), resized(mask, x)], dim=1)
        for i in range(blocks):
            x = block(x, f"layer{layer}.{i}", up=i == 0)
        if refine:
            raw.append(head(x, refine))
    x = leaky(batch_norm(F.conv_transpose2d(x, normalised("conv1"), stride=2, padding=1), "bn1"))
    return [alpha(r) for r in (*raw, head(x, "refine_OS1"))]


def package_sam() -> Sam:
    """The very small SAM of the tests, from Meta's own classes throughout."""
    sam = Sam(
        image_encoder=ImageEncoderViT(
            depth=2,
            embed_dim=48,
            img_size=1024,
            mlp_ratio=4,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=4,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=[1],
            window_size=14,
            out_chans=256,
        ),
        prompt_encoder=PromptEncoder(256, (64, 64), (1024, 1024), 16),
        mask_decoder=MaskDecoder(
            transformer_dim=256,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, num_heads=8, mlp_dim=128),
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    ).eval()
    sam.load_state_dict(formula.filled(sam.state_dict()))
    return sam


class SamTruth:
    """What the package's own SAM says of one picture, in float64, and how far its float32 lies from that."""

    def __init__(self, cut: np.ndarray) -> None:
        """Take the picture as it lies in the square, (H, W, 3) uint8 with a longer side of 1024."""
        self._rounded = package_sam()
        self._exact = in_double(self._rounded)
        pe = self._exact.prompt_encoder.pe_layer
        encode = pe._pe_encoding
        # The package makes float32 of coordinates: exact as they come, but not what is computed from them.
        pe._pe_encoding = lambda places: encode(places.to(pe.positional_encoding_gaussian_matrix.dtype))
        square = self._rounded.preprocess(torch.tensor(cut).permute(2, 0, 1)[None].float())
        with torch.inference_mode():
            exact = self._exact.image_encoder(square.double())
            rounded = self._rounded.image_encoder(square)
        self.embedding = Truth.of(exact, rounded)
        # The decoder enlarges what the embedding is off. Its three scores alone would not tell how far: so it gets
        # errors of the same size in other places too.
        off = rounded.double() - exact
        moved = [(exact + off.roll((17 * k, 29 * k), (-2, -1))).float() for k in range(1, 5)]
        self._embeddings = [(self._exact, exact), *((self._rounded, each) for each in (rounded, *moved))]

    @torch.inference_mode()
    def offered(self, prompt: ViewPrompt) -> tuple[Truth, Truth]:
        """Logits (3, 256, 256) and scores (3,) for a prompt in pixels of the square."""
        found = []
        for sam, embedding in self._embeddings:
            box = None if prompt.box is None else torch.tensor([prompt.box.xyxy])
            points = torch.tensor(prompt.points).float()[None], torch.tensor(prompt.labels).long()[None]
            mask = None if prompt.logits is None else torch.tensor(prompt.logits)[None, None].to(embedding.dtype)
            sparse, dense = sam.prompt_encoder(points=points if len(prompt.points) else None, boxes=box, masks=mask)
            masks, scores = sam.mask_decoder(
                image_embeddings=embedding,
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=sparse.to(embedding.dtype),
                dense_prompt_embeddings=dense.to(embedding.dtype),
                multimask_output=True,
            )
            found.append((masks[0], scores[0]))
        masks_of, scores_of = zip(*found, strict=True)
        return Truth.of(*masks_of), Truth.of(*scores_of)

    def in_picture(self, logits: np.ndarray, content: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
        """Logits at the picture's own `size`, float64, from (256, 256); `content` is its size in the square."""
        maps = torch.from_numpy(logits)[None, None]
        return self._exact.postprocess_masks(maps, content, size)[0, 0].numpy()


def make_m2m(state: dict[str, torch.Tensor]) -> None:
    arrays = {}
    for name, (batch, h, w) in M2M_CASES.items():
        for stride, alpha in zip((8, 4, 1), m2m_float64(state, *formula.m2m_case(name, batch, h, w)), strict=True):
            soft = float(((alpha > 0.02) & (alpha < 0.98)).double().mean())
            assert 0.1 < soft < 0.9 and float(alpha.std()) > 0.2, f"os{stride} of {name} proves little: {soft:.2f} soft"
            arrays[f"{name}/os{stride}"] = alpha.float().numpy()
    np.savez_compressed(DATA / "m2m.npz", **arrays)


def make_whole(state: dict[str, torch.Tensor]) -> None:
    predictor = SamPredictor(package_sam())
    picture = formula.picture(*PICTURE)
    predictor.set_image(picture)
    arrays = {}
    asked = {
        "box": {"box": np.array(BOX)},
        "points": {"point_coords": np.array(POINTS), "point_labels": np.array(LABELS)},
        "both": {"box": np.array(BOX), "point_coords": np.array(POINTS), "point_labels": np.array(LABELS)},
    }
    for name, prompt in asked.items():
        masks, scores, logits = predictor.predict(**prompt, multimask_output=True)
        best = int(scores.argmax())
        margin = np.sort(scores)[-1] - np.sort(scores)[-2]
        assert margin > 1e-3, f"{name}: two masks score alike"
        assert 0.02 < masks[best].mean() < 0.98, f"{name}: the mask is nearly empty or full"
        if name == "box":
            chosen, mask = logits[best], masks[best]
    square = predictor.model.preprocess(
        torch.from_numpy(predictor.transform.apply_image(picture)).permute(2, 0, 1)[None].float()
    )
    guide = torch.from_numpy(chosen > 0)[None, None].float()
    h, w = predictor.input_size
    levels = []
    for alpha in m2m_float64(state, predictor.get_image_embedding(), square, guide):
        content = alpha[..., :h, :w].float()
        levels.append(F.interpolate(content, size=PICTURE, mode="bilinear", align_corners=False)[0, 0].numpy())
    for name, (guidance, box_clean, two_sided) in SETTINGS.items():
        merged = slow_merge.merge(*levels, mask, guidance, box_clean, two_sided, (10, 20, 10))  # type: ignore[call-arg]
        soft = float(((merged > 0.02) & (merged < 0.98)).mean())
        assert soft > 0.02, f"{name}: the alpha is hardly soft anywhere ({soft:.3f})"
        arrays[f"alpha/{name}"] = np.rint(merged * 65535).astype(np.uint16)
    np.savez_compressed(DATA / "whole.npz", **arrays)


@torch.inference_mode()
def main() -> None:
    from mam_video.models.m2m import M2M  # for the names and shapes of its state dict alone

    DATA.mkdir(exist_ok=True)
    state = formula.m2m_state(M2M().state_dict())
    make_m2m(state)
    make_whole(state)
    for file in sorted(DATA.glob("*.npz")):
        print(f"{file.name}: {file.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

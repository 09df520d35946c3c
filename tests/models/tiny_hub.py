"""Tiny folders of SAM 2.1, SAM 3 and ViTMatte: the real classes of transformers with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SIDE = 128  # of the pictures that the tiny SAMs look at
WIDTH = 128  # of their features; the memory attention of transformers needs twice its 64 channels


def sam2_vision(transformers: Any) -> Any:
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE, SIDE],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 2, 2],
        window_size_per_stage=[8, 4, 4, 4],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[7, 7],
    )
    return transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
        fpn_hidden_size=WIDTH,
    )


def sam3_vision(transformers: Any) -> Any:
    backbone = transformers.Sam3ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
        patch_size=16, window_size=4, global_attn_indexes=[1], pretrain_image_size=SIDE,
    )  # fmt: skip
    return transformers.Sam3VisionConfig(
        backbone_config=backbone,
        fpn_hidden_size=WIDTH,
        backbone_feature_sizes=[[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
        scale_factors=[4.0, 2.0, 1.0, 0.5],
    )


def _small(transformers: Any, family: str) -> dict[str, Any]:
    prompts, decoder = (getattr(transformers, f"{family}{name}Config") for name in ("PromptEncoder", "MaskDecoder"))
    return {
        "prompt_encoder_config": prompts(hidden_size=WIDTH, image_size=SIDE, patch_size=16),
        "mask_decoder_config": decoder(
            hidden_size=WIDTH, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=32, num_hidden_layers=2
        ),
    }


_VIDEO = {
    "image_size": SIDE,
    "memory_attention_hidden_size": WIDTH,
    "memory_attention_num_layers": 2,
    "memory_attention_feed_forward_hidden_size": 32,
    "memory_attention_rope_feat_sizes": [SIDE // 16, SIDE // 16],
    "memory_encoder_hidden_size": WIDTH,
    "memory_encoder_output_channels": 64,
    "mask_downsampler_embed_dim": WIDTH,
    "memory_fuser_embed_dim": WIDTH,
    "memory_fuser_intermediate_dim": 32,
    "num_maskmem": 3,
    "max_object_pointers_in_encoder": 5,
}


@torch.no_grad()
def _spread(model: Any) -> None:
    """Draw all weights anew: transformers starts them near zero, where masks hardly differ from place to place."""
    for name, each in model.named_parameters():
        if each.dim() > 1:
            torch.nn.init.normal_(each, std=1.4 * each[0].numel() ** -0.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(each, std=0.05)
        else:
            torch.nn.init.ones_(each)


def write_tiny(kind: str, folder: Path, seed: int = 0) -> Path:
    """Write the folder of a tiny model: sam2, sam2-video, sam3, sam3-video or vitmatte."""
    import transformers

    family, vision = ("Sam3Tracker", sam3_vision) if kind.startswith("sam3") else ("Sam2", sam2_vision)
    video = kind.endswith("-video")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "vitmatte":
            backbone = transformers.VitDetConfig(
                hidden_size=24, num_attention_heads=2, num_hidden_layers=2, image_size=64, num_channels=4,
                window_size=2, window_block_indices=[0, 1], out_features=["stage2"],
                use_relative_position_embeddings=True,
            )  # fmt: skip
            config = transformers.VitMatteConfig(
                backbone_config=backbone, hidden_size=24, convstream_hidden_sizes=[8, 8, 8],
                fusion_hidden_sizes=[16, 8, 8, 8],
            )  # fmt: skip
            model = transformers.VitMatteForImageMatting(config)
        else:
            name = f"{family}Video" if video else family
            more = _VIDEO if video else {}
            config = getattr(transformers, f"{name}Config")(
                vision_config=vision(transformers), **_small(transformers, name), **more
            )
            model = getattr(transformers, f"{name}Model")(config)
        _spread(model)
    model.eval().save_pretrained(folder)
    return folder

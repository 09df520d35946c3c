"""The fast image encoder against the package's own, and SAM's checkpoints."""

import pytest
import torch

from mam_video.core.errors import WeightsError
from mam_video.models.sam import VARIANTS, FastEncoder, Sam, build_encoder, normalised
from tests.models import formula

FLOAT32_SUMS = 1e-4  # the reference's own tables allow this for the embedding


def encoder() -> torch.nn.Module:
    package = build_encoder(VARIANTS["tiny"]).eval().requires_grad_(False)
    package.load_state_dict(formula.filled(package.state_dict()))
    return package


def test_the_fast_encoder_computes_what_the_package_does() -> None:
    square = normalised(formula.picture(700, 1024))[None]
    with torch.inference_mode():
        expected = encoder()(square)
        found = FastEncoder(encoder())(square)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=FLOAT32_SUMS, rtol=0)


def test_rows_at_a_time_do_not_matter() -> None:
    """A CPU takes a few at a time, a GPU all of them."""
    square = normalised(formula.picture(1024, 1024))[None]
    with torch.inference_mode():
        few = FastEncoder(encoder(), rows=4)(square)
        many = FastEncoder(encoder(), rows=64)(square)
    torch.testing.assert_close(few, many, atol=FLOAT32_SUMS, rtol=0)


def test_a_batch_gives_what_each_picture_gives() -> None:
    squares = torch.stack([normalised(formula.picture(*size)) for size in ((700, 1024), (1024, 600))])
    fast = FastEncoder(encoder())
    with torch.inference_mode():
        together, alone = fast(squares), torch.cat([fast(s[None]) for s in squares])
    torch.testing.assert_close(together, alone, atol=FLOAT32_SUMS, rtol=0)


@pytest.mark.slow
def test_bfloat16_keeps_the_sum_over_the_blocks_in_float32() -> None:
    square = normalised(formula.picture(1024, 1024))[None]
    with torch.inference_mode():
        expected = FastEncoder(encoder())(square)
        found = FastEncoder(encoder(), torch.bfloat16)(square)
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() < 0.03 * expected.abs().mean()


@pytest.mark.parametrize(("variant", "keys", "parameters"), [("vit-b", 314, 93_735_472), ("vit-l", 482, 312_342_832),
                                                             ("vit-h", 594, 641_090_608)])  # fmt: skip
def test_variants_have_the_published_sizes(variant: str, keys: int, parameters: int) -> None:
    with torch.device("meta"):
        sam = Sam(VARIANTS[variant])
    assert len(sam.state_dict()) == keys
    assert sum(p.numel() for p in sam.parameters()) == parameters


def test_names_of_parameters_stay_when_accelerated() -> None:
    sam = Sam(VARIANTS["tiny"])
    before = list(sam.state_dict())
    assert set(sam.accelerate().state_dict()) == set(before)


def test_weights_of_another_variant_are_named() -> None:
    state = Sam(VARIANTS["tiny"]).state_dict()
    with pytest.raises(WeightsError, match="weights for tiny, not vit-b"):
        Sam.from_state(VARIANTS["vit-b"], state)
    with pytest.raises(WeightsError, match=r"lacks mask_decoder.iou_token.weight"):
        Sam.from_state(VARIANTS["tiny"], {k: v for k, v in state.items() if "iou_token" not in k})
    with pytest.raises(WeightsError, match="more does not belong"):
        Sam.from_state(VARIANTS["tiny"], {**state, "more": torch.zeros(1)})

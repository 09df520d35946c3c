"""The fast image encoder against the package's own, and SAM's checkpoints."""

from functools import cache

import pytest
import torch

from mam_video.core.errors import WeightsError
from mam_video.models.sam import VARIANTS, FastEncoder, Sam, build_encoder, normalised
from tests.models import formula
from tests.numerics import Truth

pytestmark = pytest.mark.numeric

SQUARE = normalised(torch.from_numpy(formula.picture(700, 1024))[None])


def encoder() -> torch.nn.Module:
    package = build_encoder(VARIANTS["tiny"]).eval().requires_grad_(False)
    package.load_state_dict(formula.filled(package.state_dict()))
    return package


@cache
def truth() -> Truth:
    """The package's encoder of SQUARE."""
    return Truth.run(lambda dtype: encoder().to(dtype)(SQUARE.to(dtype)))


@pytest.mark.parametrize("rows", [None, 4, 64])
def test_the_fast_encoder_computes_what_the_package_does(rows: int | None) -> None:
    """Rows at a time do not matter: a CPU takes a few, a GPU all of them."""
    with torch.inference_mode():
        found = (FastEncoder(encoder()) if rows is None else FastEncoder(encoder(), rows=rows))(SQUARE)
    assert truth().exact.std() > 0.1
    truth().check(found)


def test_a_batch_gives_what_each_picture_gives() -> None:
    squares = torch.cat([SQUARE, normalised(torch.from_numpy(formula.picture(1024, 600))[None])])
    fast = FastEncoder(encoder())
    with torch.inference_mode():
        together, alone = fast(squares), torch.cat([fast(s[None]) for s in squares])
    torch.testing.assert_close(together, alone, atol=2 * truth().bound, rtol=0)


@pytest.mark.slow
def test_bfloat16_keeps_the_sum_over_the_blocks_in_float32() -> None:
    square = normalised(torch.from_numpy(formula.picture(1024, 1024))[None])
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

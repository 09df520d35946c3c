"""M2M against a slow float64 version of it, and its folding, loading and training behaviour."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from mam_video.core.errors import WeightsError
from mam_video.models.m2m import M2M, SpectralNorm
from tests.models import formula
from tests.models.make_fixtures import m2m_float64
from tests.numerics import Truth

pytestmark = pytest.mark.numeric

CASES = {"square": (2, 5, 5), "wide": (1, 3, 6)}
TRUTH = Path(__file__).parent / "data" / "m2m.npz"


@cache
def network() -> M2M:
    m2m = M2M()
    m2m.load(formula.m2m_state(m2m.state_dict()))
    return m2m.eval()


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_alphas_agree_with_float64(case: str, folded: bool) -> None:
    """The stored truth too; what float32 may be off is seen from the network before it is folded."""
    given = formula.m2m_case(case, *CASES[case])
    with torch.inference_mode():
        plain = network()(*given)
        alphas = network().fold()(*given) if folded else plain
        exact = m2m_float64(network().state_dict(), *given)
    with np.load(TRUTH) as stored:
        for name, alpha, rounded, true in zip(alphas._fields, alphas, plain, exact, strict=True):
            known = Truth.of(true, rounded)
            assert known.most < 1e-4, f"{name}: this is not what float32 rounds"  # of alphas in [0, 1]
            np.testing.assert_allclose(stored[f"{case}/{name}"], known.exact, atol=1e-6, rtol=0)
            known.check(alpha, name)


def test_it_has_the_published_size() -> None:
    m2m = M2M()
    assert sum(p.numel() for p in m2m.parameters() if p.requires_grad) == 2_714_619
    assert sum(p.numel() for p in m2m.parameters()) == 2_736_351
    assert len(m2m.state_dict()) == 184


def test_folding_leaves_the_network_as_it_was() -> None:
    m2m = network()
    before = {k: v.clone() for k, v in m2m.state_dict().items()}
    folded = m2m.fold()
    assert all(torch.equal(v, before[k]) for k, v in m2m.state_dict().items())
    assert not any(isinstance(part, SpectralNorm | torch.nn.BatchNorm2d) for part in folded.modules())


def test_folding_stays_on_the_device() -> None:
    """On the meta device a layer made elsewhere would be found, and its product with the input refused."""
    folded = M2M().to("meta").fold()
    assert {str(tensor.device) for tensor in (*folded.parameters(), *folded.buffers())} == {"meta"}
    given = (torch.empty(*shape, device="meta") for shape in ((1, 256, 4, 4), (1, 3, 64, 64), (1, 1, 16, 16)))
    assert [alpha.device.type for alpha in folded(*given)] == ["meta"] * 3


def test_half_precision_keeps_the_last_step_and_the_alphas_in_float32() -> None:
    half = network().fold().in_precision(torch.bfloat16)
    with torch.inference_mode():
        alphas = half(*formula.m2m_case("wide", *CASES["wide"]))
    assert all(a.dtype == torch.float32 for a in alphas)
    with np.load(TRUTH) as truth:
        # 8 bits of mantissa, so shares and not maxima; the strong last steps make these alphas touchy
        for name, alpha in alphas._asdict().items():
            assert np.abs(alpha.numpy() - truth[f"wide/{name}"]).mean() < 0.1


def test_spectral_norm_is_the_weight_over_its_largest_singular_value_after_training_steps() -> None:
    torch.manual_seed(0)
    for conv in (torch.nn.Conv2d(6, 4, 3, padding=1, bias=False), torch.nn.ConvTranspose2d(6, 5, 4, 2, 1, bias=False)):
        wrapped = SpectralNorm(conv).train()
        for _ in range(200):
            wrapped(torch.zeros(1, 6, 4, 4))
        sigma = torch.linalg.matrix_norm(conv.weight.detach().flatten(1), ord=2)
        torch.testing.assert_close(wrapped.module.weight(), conv.weight / sigma, rtol=1e-4, atol=1e-6)


def test_training_moves_u_and_v_and_evaluation_does_not() -> None:
    wrapped = SpectralNorm(torch.nn.Conv2d(6, 4, 3, padding=1, bias=False))
    u = wrapped.module.weight_u.clone()
    wrapped.eval()(torch.zeros(1, 6, 4, 4))
    assert torch.equal(wrapped.module.weight_u, u)
    wrapped.train()(torch.zeros(1, 6, 4, 4))
    assert not torch.equal(wrapped.module.weight_u, u)


def test_gradients_reach_every_trained_parameter() -> None:
    m2m = M2M()
    m2m.load(formula.m2m_state(m2m.state_dict()))
    m2m.train()
    sum(alpha.mean() for alpha in m2m(*formula.m2m_case("wide", *CASES["wide"]))).backward()
    idle = [n for n, p in m2m.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)]
    assert idle == []
    assert all(p.grad is None for n, p in m2m.named_parameters() if n.endswith(("weight_u", "weight_v")))


def test_a_checkpoint_of_several_gpus_loads() -> None:
    state = network().state_dict()
    m2m = M2M()
    m2m.load({f"module.{k}": v for k, v in state.items()})
    assert all(torch.equal(v, state[k]) for k, v in m2m.state_dict().items())


def test_wrong_checkpoints_are_told_apart() -> None:
    state = network().state_dict()
    with pytest.raises(WeightsError, match=r"lacks bn1\.bias"):
        M2M().load({k: v for k, v in state.items() if k != "bn1.bias"})
    with pytest.raises(WeightsError, match="unknown"):
        M2M().load({**state, "more": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"bn1\.bias is"):
        M2M().load({**state, "bn1.bias": torch.zeros(7)})


def test_sizes_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="16 times"):
        network()(torch.zeros(1, 256, 4, 4), torch.zeros(1, 3, 64, 80), torch.zeros(1, 1, 16, 16))

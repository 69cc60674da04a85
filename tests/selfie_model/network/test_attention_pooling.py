"""A: its size, its order of operations, what it pools."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from selfie_model import presets
from selfie_model.network.attention_pooling import AttentionBlock, AttentionPooling
from tests.selfie_model.memory import small_config


def test_attention_pooling_has_16_544_640_parameters() -> None:
    pooling = AttentionPooling(presets.cifar10())
    assert sum(parameter.numel() for parameter in pooling.parameters()) == 16_544_640


def test_block_matches_a_post_norm_transformer_block_written_out() -> None:
    """PyTorch's own encoder layer is the twin."""
    config = small_config()
    block = AttentionBlock(config).eval()
    twin = torch.nn.TransformerEncoderLayer(64, 4, 16, 0.1, activation=F.gelu, batch_first=True, norm_first=False)
    names = {
        "self_attn.in_proj_weight": "qkv.weight",
        "self_attn.in_proj_bias": "qkv.bias",
        "self_attn.out_proj.weight": "out.weight",
        "self_attn.out_proj.bias": "out.bias",
    }
    own = block.state_dict()
    twin.load_state_dict({key: own[names.get(key, key)] for key in twin.state_dict()})
    x = torch.randn(3, 7, 64)
    assert torch.allclose(block(x), twin.eval()(x), atol=1e-5)


def test_only_the_output_at_u0_is_kept() -> None:
    pooling = AttentionPooling(small_config(attention_blocks=2)).eval()
    x = torch.randn(2, 5, 64)
    y = x
    for block in pooling.blocks:
        y = block(y)
    assert torch.equal(pooling(x), y[:, 0])


def test_pooling_does_not_depend_on_the_order_of_the_context() -> None:
    pooling = AttentionPooling(small_config()).eval()
    x = torch.randn(2, 9, 64)
    shuffled = torch.cat((x[:, :1], x[:, 1:].flip(1)), dim=1)
    assert torch.allclose(pooling(x), pooling(shuffled), atol=1e-5)


def test_attention_weights_are_those_that_forward_uses() -> None:
    pooling = AttentionPooling(small_config(attention_blocks=2)).eval()
    x = torch.randn(2, 5, 64)
    weights = pooling.attention(x)
    assert weights.shape == (2, 2, 4, 5, 5)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(()))
    block = pooling.blocks[0]
    value = block.qkv(x)[..., 128:].view(2, 5, 4, 16).transpose(1, 2)
    y = block.norm1(x + block.out((weights[0] @ value).transpose(1, 2).flatten(2)))
    y = block.norm2(y + block.linear2(F.gelu(block.linear1(y))))
    assert torch.allclose(block(x), y, atol=1e-5)


def test_dropout_is_active_in_training_only() -> None:
    pooling = AttentionPooling(small_config())
    x = torch.randn(2, 5, 64)
    assert not torch.equal(pooling(x), pooling(x))
    pooling.eval()
    assert torch.equal(pooling(x), pooling(x))


@pytest.mark.parametrize(("name", "twin"), [("mean", np.mean), ("max", np.max)])
def test_ablations_pool_without_attention(name: str, twin: Callable[..., np.ndarray]) -> None:
    pooling = AttentionPooling(small_config(pooling=name))
    x = torch.randn(2, 5, 64)
    assert not list(pooling.parameters())
    assert np.allclose(pooling(x).numpy(), twin(x.numpy(), axis=1), atol=1e-6)


def test_under_bf16_a_cpu_attends_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    block = AttentionPooling(small_config()).eval().blocks[0]
    x = torch.randn(2, 5, 64)
    exact, attend, seen = block(x), F.scaled_dot_product_attention, []

    def recorded(query: torch.Tensor, *others: torch.Tensor, dropout_p: float) -> torch.Tensor:
        mixed = attend(query, *others, dropout_p=dropout_p)
        seen.append((query.dtype, mixed.dtype))
        return mixed

    monkeypatch.setattr(F, "scaled_dot_product_attention", recorded)
    with torch.autocast("cpu", torch.bfloat16):
        near = block(x)
    assert seen == [(torch.float32, torch.float32)]
    assert not torch.equal(near, exact)  # the linear layers do round
    assert torch.allclose(near, exact, atol=0.05)

"""The pretraining task: what it computes, what it may look at, and that everything in it learns."""

import math

import pytest
import torch
import torch.nn.functional as F

from pipelines.batch import PatchBatch
from selfie_model import presets
from selfie_model.config import Config
from selfie_model.network.selfie import Selfie
from tests.selfie_model.memory import patch_batch, small_config


def reordered(batch: PatchBatch, order: torch.Tensor) -> PatchBatch:
    return PatchBatch(
        patches=batch.patches[order],
        position=batch.position[order],
        context_count=batch.context_count,
        mask=batch.mask[order],
        sample_id=batch.sample_id[order],
    )


def _full_sized() -> list[Config]:
    return [presets.cifar10(), presets.imagenet224()]


def test_p_a_positions_and_u0_have_25_1_million_parameters() -> None:
    counts = [sum(parameter.numel() for parameter in Selfie(config).parameters()) for config in _full_sized()]
    assert counts == [25_094_080, 25_099_712]


@pytest.mark.parametrize("masking", ["skip", "zero"])
@pytest.mark.parametrize("logits", ["scaled", "raw", "cosine"])
def test_forward_is_the_papers_formula(masking: str, logits: str) -> None:
    """Hole by hole, patch by patch, in plain loops."""
    config = small_config(masking=masking, logits=logits, temperature=0.5)
    model = Selfie(config).eval()
    batch = patch_batch(config)
    output = model(batch)
    losses = []
    right = 0
    for row in range(len(batch)):
        pixels = model.normalise(batch.patches[row]).permute(0, 3, 1, 2)
        context, target = pixels[: batch.context_count].clone(), pixels[batch.context_count :]
        for place, cell in enumerate(batch.context_position[row].tolist()):
            if batch.mask[row, cell]:
                context[place] = 0
        h = model.patch_network(context) + model.positions(batch.context_position[row])
        u = model.attention_pooling(torch.cat((model.u0[None], h))[None])[0]
        candidates = model.patch_network(target)
        for hole, cell in enumerate(batch.target_position[row]):
            v = u + model.positions(cell)
            products = torch.stack([_score(v, patch, logits) for patch in candidates]) / 0.5
            assert torch.allclose(output.logits[row, hole], products, atol=1e-4)
            losses.append(F.cross_entropy(products, torch.tensor(hole)))
            right += int(products.argmax() == hole)
    assert output.loss.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-4)
    assert output.accuracy.item() == pytest.approx(right / len(losses))
    assert output.counted.item() == len(losses)


def _score(v: torch.Tensor, patch: torch.Tensor, logits: str) -> torch.Tensor:
    if logits == "cosine":
        return F.cosine_similarity(v, patch, dim=0)
    return v @ patch / (math.sqrt(len(v)) if logits == "scaled" else 1)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("config", "count"), list(zip(_full_sized(), (32, 4), strict=True)), ids=["32 px", "224 px"])
def test_loss_starts_at_the_logarithm_of_the_number_of_targets(config: Config, count: int, training: bool) -> None:
    torch.manual_seed(0)
    model = Selfie(config).train(training)
    with torch.no_grad():
        loss = model(patch_batch(config, count=count)).loss.item()
    assert loss == pytest.approx(math.log(config.model.target), abs=0.05)


def test_raw_dot_products_start_far_from_chance() -> None:
    config = presets.cifar10().override(model={"logits": "raw"})
    torch.manual_seed(0)
    with torch.no_grad():
        assert Selfie(config)(patch_batch(config, count=4)).loss.item() > 2 * math.log(4)


@pytest.mark.parametrize("kind", ["table", "row_column"])
def test_gradients_reach_every_parameter(kind: str) -> None:
    config = small_config(positions=kind)
    model = Selfie(config)
    model(patch_batch(config)).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        if name != "attention_pooling.blocks.0.qkv.bias":  # its third for keys has none: softmax is blind to a shift
            assert parameter.grad.abs().max() > 0, name


def test_everything_is_learned_u0_among_it() -> None:
    names = [name.partition(".")[0] for name, _ in Selfie(small_config()).named_parameters()]
    assert set(names) == {"u0", "positions", "patch_network", "attention_pooling"}


@pytest.mark.parametrize("masking", ["skip", "zero"])
def test_logits_of_an_image_use_only_that_image(masking: str) -> None:
    config = small_config(masking=masking)
    model = Selfie(config).eval()
    batch = patch_batch(config)
    alone = torch.cat([model(piece).logits for piece in batch.split(len(batch))])
    assert torch.allclose(model(batch).logits, alone, atol=1e-5)


def test_shuffling_the_batch_shuffles_the_output() -> None:
    config = small_config()
    model = Selfie(config).eval()
    batch = patch_batch(config)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.allclose(model(reordered(batch, order)).logits, model(batch).logits[order], atol=1e-5)


def test_a_target_patch_does_not_touch_the_embedding() -> None:
    """Targets are hidden from the encoder: changing them changes no query, with both kinds of masking."""
    for masking in ("skip", "zero"):
        config = small_config(masking=masking)
        model = Selfie(config).eval()
        batch = patch_batch(config)
        expected = model(batch).embedding
        hidden = batch.mask.gather(1, batch.position)
        batch.patches[hidden] = 255 - batch.patches[hidden]
        assert torch.equal(model(batch).embedding, expected)


def test_a_context_patch_does_touch_the_embedding() -> None:
    config = small_config()
    model = Selfie(config).eval()
    batch = patch_batch(config)
    expected = model(batch).embedding
    batch.patches[:, 0] = 255 - batch.patches[:, 0]
    assert not torch.allclose(model(batch).embedding, expected, atol=1e-4)


@pytest.mark.parametrize("positions", [True, False], ids=["on", "off"])
def test_encoder_is_permutation_invariant_only_without_positions(positions: bool) -> None:
    config = small_config(encoder_positions=positions)
    model = Selfie(config).eval()
    with torch.no_grad():
        model.positions.table.mul_(50)
        model.attention_pooling.blocks[0].qkv.weight.mul_(20)  # at 0.02 attention is flat: u knows sums, not pairings
    batch = patch_batch(config)
    other = reordered(batch, torch.arange(len(batch)))
    other.position[:, : batch.context_count] = batch.context_position.flip(1)  # same patches, other places
    same = torch.allclose(model(batch).embedding, model(other).embedding, atol=1e-4)
    assert same is not positions


def test_uint8_and_normalised_floats_give_the_same() -> None:
    config = small_config()
    model = Selfie(config).eval()
    model.normalise.set([0.01, 0.02, 0.03], [-1.0, -2.0, -3.0])
    batch = patch_batch(config)
    floats = batch.patches.float() * torch.tensor([0.01, 0.02, 0.03]) + torch.tensor([-1.0, -2.0, -3.0])
    other = PatchBatch(
        patches=floats,
        position=batch.position,
        context_count=batch.context_count,
        mask=batch.mask,
        sample_id=batch.sample_id,
    )
    assert torch.equal(model(batch).logits, model(other).logits)


def test_padding_is_not_counted() -> None:
    config = small_config()
    model = Selfie(config).eval()
    batch = patch_batch(config)
    expected = model(batch.split(3)[0])
    batch.sample_id[2:] = -1
    output = model(batch)
    assert output.counted.item() == 2 * config.model.target
    assert torch.allclose(output.loss, expected.loss, atol=1e-5)
    assert torch.allclose(output.accuracy, expected.accuracy)


def test_bfloat16_stays_close() -> None:
    config = small_config()
    model = Selfie(config).eval()
    batch = patch_batch(config)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(batch)
    assert output.logits.dtype == torch.float32
    assert output.loss.item() == pytest.approx(model(batch).loss.item(), abs=0.02)

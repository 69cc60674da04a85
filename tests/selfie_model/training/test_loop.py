"""What the loop promises beyond a training that works: every rank drops other units, every step too."""

from pathlib import Path

from selfie_model.training.distributed import Ranks
from selfie_model.training.loop import dropout_seed
from selfie_model.training.pretrain import pretrain
from tests.selfie_model.memory import MemoryLoader, random_images, small_config


def test_no_two_steps_ranks_or_seeds_share_their_dropout() -> None:
    grid = [(seed, step, rank) for seed in range(6) for step in range(40) for rank in range(8)]
    assert len({dropout_seed(*one) for one in grid}) == len(grid)


def test_ranks_drop_other_units(tmp_path: Path) -> None:
    """The same model, batches and seed on another rank: the losses differ by dropout alone."""
    losses: dict[tuple[float, int], float] = {}
    for dropout in (0.0, 0.3):
        config = small_config(dropout=dropout)
        for rank in (0, 1):
            loader = MemoryLoader(*random_images(40), batch_size=8, model=config.model)
            out = tmp_path / f"{dropout}-{rank}"
            losses[dropout, rank] = pretrain(config, loader, out=out, ranks=Ranks(rank=rank), quiet=True).loss
    assert losses[0.0, 0] == losses[0.0, 1]
    assert losses[0.3, 0] != losses[0.3, 1]

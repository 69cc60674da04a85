"""Options are checked once, when they are made."""

import pytest

from selfie_data.build.build_shards import BuildOptions


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": 32, "encoding": "webp"},
        {"size": 32, "quality": 0},
        {"size": 32, "shard_bytes": 1},
        {"size": 32, "samples_per_shard": 0},
        {"size": 32, "limit": 0},
        {"size": 32, "seed": -1},
        {"size": 32, "on_error": "ignore"},
        {"size": 32, "resize_shorter": 16},
        {"size": 224, "resize_shorter": -1},
    ],
    ids=lambda wrong: list(wrong)[-1],
)
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{list(wrong)[-1]} must be"):
        BuildOptions(**wrong)  # type: ignore[arg-type]

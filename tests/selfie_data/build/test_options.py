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
        {"size": 224, "restart_blocks": -1},
        {"size": 224, "restart_blocks": "rows"},
        {"size": 224, "encoding": "keep", "restart_blocks": "auto"},
        {"size": 32, "restart_blocks": 4},
    ],
    ids=lambda wrong: list(wrong)[-1],
)
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{list(wrong)[-1]} must be"):
        BuildOptions(**wrong)  # type: ignore[arg-type]


def test_restart_markers_are_told_where_they_are_asked_for() -> None:
    assert BuildOptions(size=224).describe()["restart_blocks"] == "auto"
    assert BuildOptions(size=224, encoding="jpeg", restart_blocks=4).describe()["restart_blocks"] == 4
    before = ({"size": 32}, {"size": 224, "encoding": "keep"}, {"size": 224, "restart_blocks": 0}, {"size": 64})
    assert not any("restart_blocks" in BuildOptions(**options).describe() for options in before)  # type: ignore[arg-type]

"""How large shards become."""

from pathlib import Path

from selfie_data.build.build_shards import BuildOptions, build_shards
from tests.material import memory_source, photographs


def test_shard_bytes_are_met_about(tmp_path: Path) -> None:
    options = BuildOptions(size=224, shard_bytes=400_000)
    manifest = build_shards(memory_source(photographs(60)), tmp_path / "out", options, workers=1)
    full = [shard.bytes for shard in manifest.shards[:-1]]
    assert len(full) >= 2
    assert all(200_000 < size < 800_000 for size in full)

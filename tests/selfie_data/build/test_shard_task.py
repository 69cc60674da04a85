"""One shard: built once, built again when it was damaged, without the images that cannot be used."""

from pathlib import Path

import numpy as np
import pytest

from selfie_data.build.build_shards import BuildOptions, build_shards
from selfie_data.build.plan import Plan
from selfie_data.dataset.opened import open_dataset
from selfie_data.dataset.read import read_payloads
from selfie_data.dataset.verify import verify_dataset
from selfie_data.errors import BuildError, ImageError
from tests.material import jpeg, memory_source, picture
from tests.selfie_data.build.test_build_shards import SMALL, contents, pictures
from tests.selfie_data.build.test_plan import positions_of
from tests.selfie_data.build.test_workspace import start_build


def test_bad_images_are_listed_and_ids_close_the_gaps(tmp_path: Path) -> None:
    images: list[bytes | np.ndarray | Exception] = [picture(32, 32, seed=n) for n in range(40)]
    bad = {3: b"no image", 17: jpeg(picture(64, 64, seed=1))[:700], 30: ImageError("is empty")}
    for index, data in bad.items():
        images[index] = data
    source = memory_source(images, [n % 2 for n in range(40)])
    build_shards(source, tmp_path / "out", SMALL, workers=1)
    dataset = open_dataset(tmp_path / "out")
    plan = Plan(size=40, samples=40, samples_per_shard=16, seed=0)
    removed = sorted(int(position) for position in positions_of(plan, list(bad)))
    quarantined = list(dataset.quarantined())
    assert [int(entry.key) for entry in quarantined] == removed
    assert {entry.name or entry.reason.split(":")[0] for entry in quarantined} == {
        "memory/000003",
        "memory/000017",
        "memory/000030",
    }
    reasons = " | ".join(entry.reason for entry in quarantined)
    assert "not an image of a known format" in reasons
    assert "cannot be decoded" in reasons
    assert "0x" not in reasons
    assert len(dataset) == 37
    survivors = [position for position in range(40) if position not in removed]
    assert [dataset.key(number) for number in range(37)] == [f"{position:012d}" for position in survivors]
    expected = [images[index].tobytes() for index in plan.sources(survivors).tolist()]  # type: ignore[union-attr]
    assert read_payloads(dataset, range(37)) == expected
    assert verify_dataset(tmp_path / "out", decode=True) == []


def test_on_error_fail_ends_at_the_first_bad_image(tmp_path: Path) -> None:
    source = memory_source([picture(32, 32, seed=1), b"bad"])
    options = BuildOptions(size=32, on_error="fail")
    with pytest.raises(BuildError, match="memory/000001: not an image of a known format"):
        build_shards(source, tmp_path / "out", options, workers=1)
    assert build_shards(source, tmp_path / "out", BuildOptions(size=32), workers=1).samples == 1


def test_after_ctrl_c_it_goes_on_and_keeps_finished_shards(tmp_path: Path) -> None:
    build_shards(pictures(48), tmp_path / "whole", SMALL, workers=1)
    out = tmp_path / "out"
    start_build(out, finished=False)
    finished = out / "shard-000000.tar"
    before = finished.stat().st_mtime_ns
    build_shards(pictures(48), out, SMALL, workers=1)
    assert contents(out) == contents(tmp_path / "whole")
    assert finished.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "index", "record"])
def test_a_finished_shard_that_was_damaged_is_built_again(tmp_path: Path, damage: str) -> None:
    build_shards(pictures(48), tmp_path / "whole", SMALL, workers=1)
    out = tmp_path / "out"
    start_build(out, finished=False)
    shard = out / "shard-000000.tar"
    data = bytearray(shard.read_bytes())
    if damage == "flip":
        data[1000] ^= 1
        shard.write_bytes(data)
    elif damage == "truncate":
        shard.write_bytes(data[:5000])
    elif damage == "remove":
        shard.unlink()
    elif damage == "index":
        shard.with_suffix(".idx").unlink()
    else:
        record = out / "shard-000000.rows"
        record.write_bytes(record.read_bytes()[:-3])
    build_shards(pictures(48), out, SMALL, workers=1)
    assert contents(out) == contents(tmp_path / "whole")

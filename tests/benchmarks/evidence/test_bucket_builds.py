"""The guides' commands are found, and built from are the source and the folder that are meant."""

import shlex

from benchmarks.evidence.bucket_builds import Bucket
from tests.servers.fault_proxy import FaultProxy


def test_the_commands_are_the_guides() -> None:
    bucket = Bucket(FaultProxy(1), "imagenet", "some.tar", 8)
    common = "--root s3://pictures/some.tar --samples-per-shard 8 --size 224"
    lines = [
        bucket.command(bucket.part_line, "s3://pictures/out", **{"--part 1/8": "--part 2/4"}),
        bucket.command(bucket.ray_line, "s3://pictures/out"),
        bucket.command(bucket.finish_line, "s3://pictures/out"),
    ]
    assert [shlex.split(line, comments=True) for line in lines] == [
        f"selfie-data build-shards imagenet s3://pictures/out {common} --part 2/4".split(),
        f"selfie-data build-shards imagenet s3://pictures/out {common} --engine ray --ray-address 10.0.0.2:6379".split(),
        "selfie-data finish s3://pictures/out".split(),
    ]

"""The guides' commands are found, and built from are the source and the folder that are meant."""

import shlex

from benchmarks.evidence.bucket_builds import Bucket
from tests.servers.fault_proxy import FaultProxy


def test_the_commands_are_the_guides() -> None:
    with FaultProxy(1).running() as proxy:
        bucket = Bucket(proxy, "imagenet", "some.tar", 8)
    common = ["--root", "s3://pictures/some.tar", "--samples-per-shard", "8", "--size", "224"]
    lines = [
        bucket.command(bucket.part_line, "s3://pictures/out", **{"--part 1/8": "--part 2/4"}),
        bucket.command(bucket.ray_line, "s3://pictures/out").replace("\\\n", ""),  # a line goes on behind a backslash
        bucket.command(bucket.finish_line, "s3://pictures/out"),
    ]
    build = ["selfie-data", "build-shards", "imagenet", "s3://pictures/out", *common]
    assert [shlex.split(line, comments=True) for line in lines] == [
        [*build, "--part", "2/4"],
        [*build, "--engine", "ray", "--ray-address", "10.0.0.2:6379"],
        ["selfie-data", "finish", "s3://pictures/out"],
    ]

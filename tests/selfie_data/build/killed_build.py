"""A build in a process of its own, to be killed: `python killed_build.py OUT COUNT WORKERS`."""

import sys

from selfie_data.build.build_shards import BuildOptions, build_shards
from selfie_data.sources.synthetic import SyntheticSource

OPTIONS = BuildOptions(size=32, samples_per_shard=250)


def source(count: int) -> SyntheticSource:
    return SyntheticSource(split="train", count=count, size=32, seed=3)


if __name__ == "__main__":
    build_shards(source(int(sys.argv[2])), sys.argv[1], OPTIONS, workers=int(sys.argv[3]))

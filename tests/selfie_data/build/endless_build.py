"""A build whose shards are never finished, in two workers, to be killed: `python endless_build.py OUT`."""

import multiprocessing
import sys

from selfie_data.build.build_shards import BuildOptions, build_shards
from tests.material import MemorySource, memory_source, picture


class EndlessSource(MemorySource):
    """Computes for ever in a worker; the process that builds may look, for its estimate."""

    def read(self, index: int) -> object:  # type: ignore[override]
        while multiprocessing.parent_process() is not None:
            pass
        return super().read(index)


if __name__ == "__main__":
    images = memory_source([picture(8, 8, seed=n) for n in range(20)])
    source = EndlessSource(images=images.images, labels=images.labels)
    build_shards(source, sys.argv[1], BuildOptions(size=8, samples_per_shard=10), workers=2)

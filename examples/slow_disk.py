"""Shards where reading is slow, and of which some bytes may have gone bad: a network folder, a disk that seeks.

    python examples/slow_disk.py SHARDS [--record damaged.txt] [--window 8] [--batch 64]

The loader shuffles within a few shards at a time, so that each is read once and in a row; it does not check checksums
while training (`selfie-data verify` does, once); and it gives patches as bfloat16, half the bytes to a device. Where a
sample cannot be decoded its id is written down, and the epoch begins again without it.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from pipelines import PatchLoader
from pipelines.batch import PatchBatch
from selfie_data.errors import CorruptSampleError


def batches(shards: Path, record: Path, *, window: int, batch: int) -> Iterator[PatchBatch]:
    """Yields one epoch, begun again whenever a sample turns out to be damaged; `record` lists those from then on."""
    while True:
        loader = PatchLoader(
            shards,
            global_batch_size=batch,
            seed=1,
            shuffle=window,  # shards at a time
            verify="never",
            dtype="bfloat16",
            exclude=record,  # read at the start: the stream without these samples is a stream like any other
            on_error="record",
        )
        with loader:
            try:
                yield from loader
                return
            except CorruptSampleError as error:
                print(f"left out from now on: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--record", type=Path, default=Path("damaged.txt"))
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()

    seen = set()
    for batch in batches(options.shards, options.record, window=options.window, batch=options.batch):
        seen.update(batch.sample_id.tolist())
    print(f"{len(seen)} samples seen, the last batch as {batch.context.dtype} {list(batch.context.shape)}")


if __name__ == "__main__":
    main()

"""webdataset: tars in a shuffle buffer, whole batches made in DataLoader workers, `WebLoader` outside.

Source: webdataset.github.io (batch in the workers, `WebLoader(batch_size=None)`, `repeat` for endless epochs).
"""

from collections.abc import Iterator

import numpy as np
import torch
import webdataset as wds

from benchmarks.peers.cut import make_batch, one_thread
from benchmarks.work.material import load
from benchmarks.work.task import Task

PACKAGES = ("webdataset", "torch", "numpy", "simplejpeg", "opencv-python-headless")
SETTINGS = {"workers": "one a core", "shards": 16, "shuffle": 1000, "batched": "in the workers"}
_SHARDS = 16


def convert(task: Task) -> None:
    """16 tars, so that the workers have equal parts."""
    folder = task.converted("webdataset")
    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    packed = load(task.source)
    most = -(-len(packed) // _SHARDS)
    with wds.ShardWriter(str(folder / "%06d.tar"), maxcount=most, mtime=0, encoder=False, verbose=0) as writer:
        for index in range(len(packed)):
            label = str(int(packed.label[index])).encode()
            writer.write({"__key__": f"{index:012d}", "img": packed.payload(index).tobytes(), "cls": label})
    (folder / "done").touch()


def batches(task: Task) -> Iterator[torch.Tensor]:
    shards = sorted(str(path) for path in task.converted("webdataset").glob("*.tar"))
    rng = np.random.default_rng(task.seed)

    def make(samples: list[tuple[bytes]]) -> torch.Tensor:
        return make_batch([sample[0] for sample in samples], task, rng)

    def start(worker: int) -> None:
        nonlocal rng
        rng = np.random.default_rng((task.seed, worker))
        one_thread()

    images = (
        wds.WebDataset(shards, shardshuffle=_SHARDS, empty_check=False)
        .repeat()
        .shuffle(1000)
        .to_tuple("img")
        .batched(task.batch_size, collation_fn=make, partial=False)
    )
    loader = wds.WebLoader(
        images, batch_size=None, num_workers=task.threads, persistent_workers=True, worker_init_fn=start
    )
    return iter(loader)

"""The shards are ordinary WebDataset tars: reading them with `webdataset` alone, without anything of this project.

    python examples/plain_webdataset.py SHARDS

What this way does not give: an exact shuffle, resume, equal steps on every rank, checksums. `pipelines` does.
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image


def decode(sample: dict[str, bytes], size: int) -> tuple[str, np.ndarray, int]:
    """Returns (key, image uint8 [H, W, 3], label); -1 = no label. `raw` members are size x size x 3 bytes."""
    label = int(sample["cls"]) if "cls" in sample else -1
    if "raw" in sample:
        return sample["__key__"], np.frombuffer(sample["raw"], np.uint8).reshape(size, size, 3), label
    encoded = sample.get("jpg") or sample["png"]
    return sample["__key__"], np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")), label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    shards = parser.parse_args().shards

    manifest = json.loads((shards / "manifest.json").read_text())
    urls = [str(path) for path in sorted(shards.glob("shard-*.tar"))]
    samples = webdataset.WebDataset(urls, shardshuffle=False)
    pixels, count = 0.0, 0
    for key, image, label in (decode(sample, manifest["image_size"]) for sample in samples):
        if count == 0:
            print(f"first sample: {key}, {image.shape[0]} x {image.shape[1]}, label {label}")
        pixels += image.mean()
        count += 1
    print(f"{count} samples in {len(urls)} shards, mean brightness {pixels / count:.1f}")


if __name__ == "__main__":
    main()

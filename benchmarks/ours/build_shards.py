"""The same work done by `selfie_data.build.build_shards`, everything it checks and writes included.

    python -m benchmarks.ours.build_shards WAY SOURCE OUT LIMIT PROCESSES    prints {"images": n, "seconds": s}

Ways: `resize` (shorter side 256, JPEG quality 90), `keep` (kept, each image decoded once for the check), both with
restart markers, as is the default, and `resize-unmarked`, `keep-unmarked` without; `raw` (32 px JPEGs to pixels). Plan,
hashes, table, index, manifest and fsync are in the time, and the start of the processes with what they import; this
process's own imports are not.
"""

import json
import sys
import time
from pathlib import Path

from benchmarks.work.dataset import PackedSource

SIZES = {"resize": 224, "keep": 224, "raw": 32}
UNMARKED = "-unmarked"


def main() -> None:
    from selfie_data.build.build_shards import build_shards
    from selfie_data.build.options import BuildOptions

    way, source, out = sys.argv[1:4]
    limit, processes = int(sys.argv[4]), int(sys.argv[5])
    markers = 0 if way.endswith(UNMARKED) else None
    options = BuildOptions(size=SIZES[way.removesuffix(UNMARKED)], limit=limit, restart_blocks=markers)
    images = PackedSource(folder=Path(source))
    start = time.perf_counter()
    build_shards(images, Path(out), options, workers=processes)
    print(json.dumps({"images": limit, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()

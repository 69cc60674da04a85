"""Which systems there are, in which environment each runs, and which rows of the loader's table each can do."""

from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.work.task import Task

LARGE = ("jpeg256-antialiased", "jpeg256-linear", "full-antialiased", "full-linear")
MASKED = ("mae-jpeg256", "mae-full")
SMALL = ("jpeg32", "raw32")
ANTIALIASED = ("jpeg256-antialiased", "full-antialiased")
FLOORS = ("cached", "decode", "dali-decode", "dali-resize")
OURS = ("selfie", "selfie-dali", "selfie-store")


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One line of the table.

    Attributes:
        name: as it is printed.
        module: below `benchmarks`.
        environment: `main` (.venv) or `bench` (.bench-env).
        rows: what it can do.
        decoder: for systems whose user brings the decoder.
        best: it was among the two best peers of at least one row when last measured (`--quick` keeps these).
        other_pixels: why JPEGs do not decode to the pixels that every other system gets; empty where they do.
        resize: what a reader of the antialiased rows must know; empty for the triangle filter.
        checkout: whose code runs; None = this one's.
    """

    name: str
    module: str
    environment: str
    rows: tuple[str, ...]
    decoder: str = "simplejpeg"
    best: bool = False
    resize: str = ""
    other_pixels: str = ""
    checkout: Path | None = None

    def task(self, task: Task) -> Task:
        """The task as this system gets it."""
        return replace(task, decoder=self.decoder)


SYSTEMS = (
    System(name="selfie", module="ours.loader", environment="main", rows=LARGE + MASKED + SMALL),
    System(name="selfie-dali", module="ours.loader_dali", environment="main", rows=("jpeg256-antialiased", "raw32")),
    System(name="selfie-store", module="ours.loader_store", environment="main", rows=("store32",)),
    System(
        name="ffcv",
        module="peers.ffcv_loader",
        environment="bench",
        rows=LARGE + MASKED + SMALL,
        best=True,
        resize="area",
        other_pixels="JPEGs encoded again, fast DCT",
    ),
    System(name="spdl", module="peers.spdl_loader", environment="bench", rows=LARGE + SMALL, best=True),
    System(name="torch", module="peers.torch_dataloader", environment="bench", rows=LARGE + MASKED + SMALL, best=True),
    System(
        name="torch-pillow",
        module="peers.torch_dataloader",
        environment="bench",
        rows=(*ANTIALIASED, "jpeg32"),
        decoder="pillow",
    ),
    System(name="webdataset", module="peers.webdataset_loader", environment="bench", rows=LARGE + SMALL),
    System(name="litdata", module="peers.litdata_loader", environment="bench", rows=LARGE + SMALL),
    System(name="streaming", module="peers.streaming_loader", environment="bench", rows=LARGE + SMALL),
    System(name="grain", module="peers.grain_loader", environment="bench", rows=LARGE + SMALL),
    System(name="dali", module="peers.dali_reader", environment="main", rows=LARGE + SMALL),
    System(name="dali-resize", module="floors.dali_resize", environment="main", rows=LARGE),
    System(name="dali-decode", module="floors.dali_decode", environment="main", rows=(*ANTIALIASED, "jpeg32")),
    System(name="decode", module="floors.decode", environment="main", rows=LARGE + MASKED + SMALL),
    System(name="cached", module="floors.cached", environment="main", rows=(*LARGE, *MASKED, *SMALL, "store32")),
)


def choose(row: str, peers: str, *, against: Path | None = None) -> list[System]:
    """The systems of one row.

    Args:
        row: name of the row. `store32` is held against the peers of `raw32` that are fastest there.
        peers: `all`, `best`, `none` (ours and the floors), or names joined by commas.
        against: another checkout of this project, whose loaders stand beside ours as `NAME before`.
    """
    names = set(peers.split(","))
    unknown = names - {one.name for one in SYSTEMS} - {"all", "best", "none"}
    if unknown:
        known = ", ".join(one.name for one in SYSTEMS if one.name not in FLOORS + OURS)
        raise ValueError(f"peers are all, best, none or some of {known}; got {', '.join(sorted(unknown))}")
    chosen = []
    for one in SYSTEMS:
        able = row in one.rows or (row == "store32" and one.name == "ffcv")
        always = one.name in FLOORS + OURS
        if able and (always or "all" in names or one.name in names or ("best" in names and one.best)):
            chosen.append(one)
        if able and against and one.name in OURS:
            chosen.append(replace(one, name=f"{one.name} before", checkout=against))
    return chosen

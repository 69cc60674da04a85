"""Builds what the other sections read, so that none of them spends its time on that. Alone, each builds its own."""

from functools import partial

from benchmarks.gpu.data import KINDS, task
from benchmarks.gpu.measure import attempt, emit
from benchmarks.gpu.setting import Setting
from benchmarks.work.dataset import shards, store
from benchmarks.work.material import load

CASE = "data"


def run(setting: Setting) -> None:
    """Shards of every kind, and the store at 32 px."""
    for kind in KINDS:
        attempt(CASE, kind, partial(_build, kind, setting))
    attempt(CASE, "store", lambda: store(task("raw32", setting)))


def _build(kind: str, setting: Setting) -> None:
    one = task(kind, setting)
    shards(one)
    packed = load(one.source)
    emit(CASE, kind, [float(len(packed))], "images", note=packed.description, stored=kind)

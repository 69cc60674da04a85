"""NVIDIA's decoder and nothing else, fed from memory: the ceiling of the loader at 224 px.

Without the hardware engine by number of threads and images a batch, and on the CPU; shares of the hardware engine are a
section of their own, since that path has open reports of crashes.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from benchmarks.gpu.data import task
from benchmarks.gpu.measure import attempt, emit, rate, synchronise
from benchmarks.gpu.setting import Setting
from benchmarks.work.material import load
from benchmarks.work.task import Task

CASE = "throughput: 224 px"
BATCHES = (256, 1024)
THREADS = (16, 8, 4)


def run(setting: Setting) -> None:
    """256 px JPEGs in all ways, full resolution in one."""
    loads = setting.options["hw_decoder_loads"]
    usual = replace(task("jpeg256", setting), threads=setting.threads)
    for load_share in loads:
        alone("jpeg256", "mixed", usual, load_share, setting)
    if 0.0 not in loads:
        return
    alone("jpeg256", "cpu", usual, 0.0, setting)
    alone("full", "mixed", replace(task("full", setting), threads=setting.threads), 0.0, setting)
    alone("full", "cpu", replace(task("full", setting), threads=setting.threads), 0.0, setting)
    for threads in THREADS:
        for batch in BATCHES:
            if threads <= setting.threads and (threads, batch) != (usual.threads, usual.batch_size) and not setting.dry:
                alone("jpeg256", "mixed", replace(usual, threads=threads, batch_size=batch), 0.0, setting)


def alone(kind: str, device: str, one: Task, hw_decoder_load: float, setting: Setting) -> None:
    """One row: images a second of one way to decode."""
    name = f"ceiling: {kind}, decode alone, {device}"
    name += f", hw load {hw_decoder_load}, {one.threads} threads, batch {one.batch_size}" if device == "mixed" else ""
    if device == "mixed" and setting.device != "cuda":
        emit(CASE, name, [], "images/s", note="needs a GPU")
        return
    attempt(CASE, name, partial(_measure, name, kind, device, one, hw_decoder_load, setting))


def _measure(name: str, kind: str, device: str, one: Task, hw_decoder_load: float, setting: Setting) -> None:
    from nvidia.dali import fn, pipeline_def

    packed = load(one.source)
    rng = np.random.default_rng(0)

    def feed() -> list[np.ndarray[Any, Any]]:
        return [np.array(packed.payload(index)) for index in rng.integers(0, len(packed), one.batch_size)]

    @pipeline_def(  # type: ignore[untyped-decorator]
        batch_size=one.batch_size,
        num_threads=one.threads,
        device_id=0 if setting.device == "cuda" else None,
        prefetch_queue_depth=2,
    )
    def decode() -> Any:
        extra: dict[str, Any] = {"hw_decoder_load": hw_decoder_load} if device == "mixed" else {}
        return fn.decoders.image(fn.external_source(feed, batch=True), device=device, **extra)

    pipeline = decode()
    pipeline.build()

    def step() -> int:
        pipeline.run()
        return one.batch_size

    emit(CASE, name, rate(step, setting), "images/s", note=setting.device, stored=kind)
    synchronise(setting.device)

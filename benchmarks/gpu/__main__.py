"""`python -m benchmarks.gpu`: correctness, throughput, patch stage, training; then the targets.

    python -m benchmarks.gpu                        on a GPU, under ten minutes
    python -m benchmarks.gpu --dry-run              the same paths on the CPU, tiny; numbers mean nothing
    python -m benchmarks.gpu --only decoder_stress --batches 100000 --budget-scale 10

Results: `benchmarks/results/gpu.jsonl`, the tables beside it in `gpu.txt`.
"""

import os
from dataclasses import replace
from pathlib import Path

import click
import torch
from tqdm import tqdm

from benchmarks.gpu.section import QUESTION, Setting, isolated
from benchmarks.gpu.targets import TARGETS, medians
from benchmarks.harness.record import RESULTS, Record, host, save
from benchmarks.harness.table import layout, summary
from benchmarks.work import material

# Section and its share of the ten minutes, in seconds. Shards and stores are built by the first that needs them.
BUDGETS = {
    "parity": 75,
    "throughput": 150,
    "patch_stage": 45,
    "decoder_stress": 110,
    "training": 150,
    "tests": 60,
}


@click.command()
@click.option("--dry-run", is_flag=True, help="Tiny sizes on the CPU.")
@click.option("--only", default="", help=f"Sections, comma-separated, of {', '.join(BUDGETS)}.  [default: all]")
@click.option("--batches", default=10_000, show_default=True, help="Batches of the decoder stress, each setting.")
@click.option("--budget-scale", default=1.0, show_default=True, help="Multiplies every section's time budget.")
@click.option("--threads", default=len(os.sched_getaffinity(0)), show_default=True, help="CPU cores for decoding.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Prepared data.  [default: in the temp folder]")
@click.option("--output", type=click.Path(path_type=Path), help="Records.  [default: benchmarks/results/gpu.jsonl]")
def main(
    dry_run: bool,
    only: str,
    batches: int,
    budget_scale: float,
    threads: int,
    scratch: Path | None,
    output: Path | None,
) -> None:
    """Everything there is to ask of a GPU, with a table of targets at the end."""
    if not dry_run and not torch.cuda.is_available():
        raise click.UsageError("torch sees no GPU here; --dry-run walks the same paths on the CPU")
    unknown = {name for name in only.split(",") if name} - set(BUDGETS)
    if unknown:
        raise click.UsageError(f"sections are {', '.join(BUDGETS)}; got {', '.join(sorted(unknown))}")
    images = material.images_folder()
    setting = Setting(
        device="cpu" if dry_run else "cuda",
        dry=dry_run,
        seconds=0,
        threads=threads,
        batches=batches,
        scratch=str(scratch or material.default_folder()),
        images=str(images) if images else None,
    )
    records: list[Record] = []
    for name, budget_s in tqdm(BUDGETS.items(), unit="section"):
        if not only or name in only.split(","):
            records += isolated(name, replace(setting, seconds=budget_s * budget_scale))
    report([replace(one, host={**host(), "gpu": _gpu()}) for one in records], dry_run, output)


def report(records: list[Record], dry_run: bool, output: Path | None) -> None:
    """Saves records and tables, and prints the tables."""
    values = medians(records)
    lines = [target.line({} if dry_run else values) for target in TARGETS]
    promises = layout(("target", "promised", "measured", "verdict"), lines)
    heading = "DRY RUN on a CPU: these numbers mean nothing, and no figure of a GPU is claimed" if dry_run else _gpu()
    text = f"{heading}\n\n{summary(records)}\n\n{promises}\n"
    target = output or RESULTS / ("gpu.dry-run.jsonl" if dry_run else f"{QUESTION}.jsonl")
    if dry_run:
        records = [replace(one, note=f"dry run on a CPU; {one.note}".rstrip("; ")) for one in records]
    save(records, target)
    target.with_suffix(".txt").write_text(text)
    click.echo(text)


def _gpu() -> str:
    if not torch.cuda.is_available():
        return "none"
    properties = torch.cuda.get_device_properties(0)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.gpu")

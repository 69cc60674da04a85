"""`python -m benchmarks.gpu`: correctness, 224 px, training, decoding, then what may crash; then the targets.

    python -m benchmarks.gpu                        on a GPU, all sections, about 20 minutes at most
    python -m benchmarks.gpu --only parity,tests    some; records are added to those of earlier runs
    python -m benchmarks.gpu --calls                the same as a few calls of a GPU that is lent for minutes
    python -m benchmarks.gpu --dry-run              the same paths on the CPU, tiny; numbers mean nothing
    python -m benchmarks.gpu --tables A.jsonl       the tables of records, several files together
    python -m benchmarks.gpu --only decoder_stress --batches 100000 --budget-scale 10

Records are written as they come, a JSON line each: `gpu.jsonl` in the folder that the variable OUT names, else in
`benchmarks/results`; the tables beside it in `gpu.txt`.
"""

import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from benchmarks.gpu.calls import describe
from benchmarks.gpu.plan import SECTIONS, Section, choose
from benchmarks.gpu.process import isolated
from benchmarks.gpu.report import append, destination, marked, show
from benchmarks.gpu.setting import Setting
from benchmarks.harness.record import Record, load
from benchmarks.work import material


@click.command()
@click.option("--dry-run", is_flag=True, help="Tiny sizes on the CPU.")
@click.option("--only", default="", help="Sections or groups of them, comma-separated.  [default: all; see --list]")
@click.option("--list", "listing", is_flag=True, help="Prints the sections, their limits and what they ask.")
@click.option("--calls", is_flag=True, help="Prints the calls to make on a GPU that is lent for minutes.")
@click.option("--tables", type=click.Path(path_type=Path, exists=True), multiple=True, help="Prints records' tables.")
@click.option("--batches", default=10_000, show_default=True, help="Batches of the decoder stress, each setting.")
@click.option("--budget-scale", default=1.0, show_default=True, help="Multiplies every section's limit.")
@click.option("--threads", default=len(os.sched_getaffinity(0)), show_default=True, help="CPU cores for decoding.")
@click.option("--scratch", type=click.Path(path_type=Path), help="Prepared data.  [default: in the temp folder]")
@click.option(
    "--output",
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Records.  [default: gpu.jsonl in $OUT, else in benchmarks/results]",
)
def main(
    dry_run: bool,
    only: str,
    listing: bool,
    calls: bool,
    tables: Sequence[Path],
    batches: int,
    budget_scale: float,
    threads: int,
    scratch: Path | None,
    output: Path | None,
) -> None:
    """Everything there is to ask of a GPU, with a table of targets at the end."""
    if listing or calls:
        click.echo(describe() if calls else "\n".join(_line(one, budget_scale) for one in SECTIONS))
        return
    if tables:
        show([one for path in tables for one in load(path)], None, dry=dry_run)
        return
    try:
        sections = choose(only)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if not dry_run and not _gpu_present():
        raise click.UsageError("torch sees no GPU here; --dry-run walks the same paths on the CPU")
    target = destination(output, dry=dry_run)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not only:
        target.unlink(missing_ok=True)
    images = material.images_folder()
    folder = str(scratch or material.default_folder())
    run = _runner(target, dry_run, images, budget_scale, batches, threads, folder)
    if dry_run:  # side by side, since its numbers mean nothing; what all read is built first
        for one in sections[:1]:
            run(one)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, sections[1:]))
    else:
        for one in sections:
            run(one)
    show(load(target), target, dry=dry_run)


def _runner(
    target: Path, dry: bool, images: Path | None, scale: float, batches: int, threads: int, scratch: str
) -> Callable[[Section], None]:
    """A function that runs one section into the file."""
    writing = threading.Lock()

    def run(section: Section) -> None:
        setting = Setting(
            device="cpu" if dry else "cuda",
            dry=dry,
            seconds=section.limit_s * scale,
            threads=threads,
            batches=batches,
            scratch=scratch,
            images=str(images) if images else None,
            options=dict(section.options),
        )

        def keep(one: Record) -> None:
            with writing:
                append(marked(one, real=images is not None, dry=dry), target)

        click.echo(_line(section, scale), err=True)
        isolated(section.name, f"benchmarks.gpu.sections.{section.module}", setting, keep)

    return run


def _line(section: Section, scale: float) -> str:
    why = f" ({section.why_long})" if section.why_long else ""
    return f"{section.name}: {section.asks}; limit {section.limit_s * scale:.0f} s{why}"


def _gpu_present() -> bool:
    import torch

    return torch.cuda.is_available()


def _stop(number: int, frame: object) -> None:
    """SIGTERM ends the run like Ctrl-C, so that the section's processes are ended too."""
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    main(prog_name="python -m benchmarks.gpu")

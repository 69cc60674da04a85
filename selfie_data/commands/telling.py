"""What commands that build say: how it goes, what came of it, and what it would take."""

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator
from itertools import islice

import click
import msgspec

from selfie_data.build.estimate import estimate_build, samples_per_shard
from selfie_data.build.options import BuildOptions
from selfie_data.build.progress import Bar, JsonLines, Lines, Reporter
from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.opened import Dataset
from selfie_data.notices import NAME as NOTICES
from selfie_data.notices import Notice, notices_of, say
from selfie_data.source import BlockSource, ImageSource
from selfie_data.storage.place import Place


@contextlib.contextmanager
def stopped_in_one_line(out: Place) -> Iterator[None]:
    """Ctrl-C in a build ends in one line and exit status 130."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(f"stopped; the same command goes on from here ({out})", err=True)
        raise SystemExit(130) from None


def build_and_tell(
    build: Callable[[Reporter], Manifest],
    out: Place,
    *,
    said: tuple[Notice, ...] = (),
    quarantined: int = 0,
    as_json: bool,
) -> None:
    """Builds a dataset into `out`, showing how it goes and what came of it.

    Of the notices, those not `said` yet; of the images that could not be used, those behind the first `quarantined`.
    """
    logging.getLogger("selfie_data").setLevel(logging.INFO)
    with stopped_in_one_line(out):
        manifest = build(reporter_for(as_json=as_json))
    _summary(manifest, out, said=said, quarantined=quarantined, as_json=as_json)


def reporter_for(*, as_json: bool) -> Reporter:
    """Returns who shows a build: JSON lines, a bar on a terminal, else a line now and then."""
    if as_json:
        return JsonLines()
    return Bar() if sys.stderr.isatty() else Lines()


def tell_estimate(source: ImageSource, options: BuildOptions, *, workers: int, as_json: bool, least: int = 1) -> None:
    """Says what a build would write and how long it takes; a shard has at least so many images, unless told exactly."""
    if isinstance(source, BlockSource) and (block_bytes := options.block_bytes_for(source)):
        source, _ = source.in_blocks(block_bytes)  # which reads labels only, and spools nothing
    estimate = estimate_build(source, options, timed=True)
    per_shard = options.samples_per_shard or max(least, samples_per_shard(options, estimate))
    shards = -(-estimate.samples // per_shard)
    seconds = None if estimate.seconds is None else estimate.seconds / max(1, min(workers, shards))
    notices, looked_at = notices_of(source).summary(), estimate.notices.summary()
    facts = {
        "images": estimate.samples,
        "classes": len(source.class_names),
        "shards": shards,
        "samples_per_shard": per_shard,
        "bytes": estimate.bytes,
        "spool_bytes": source.spool_bytes,
        "seconds": None if seconds is None else round(seconds, 1),
        "notices": msgspec.to_builtins(notices),
        "looked_at": {"images": estimate.looked_at, "notices": msgspec.to_builtins(looked_at)},
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(f"images      {estimate.samples:,}, {len(source.class_names)} classes")
    click.echo(f"shards      {shards:,} of {per_shard:,} images")
    click.echo(f"bytes       {estimate.bytes:,} in shards, {source.spool_bytes:,} spooled meanwhile")
    if seconds is not None:
        click.echo(f"time        about {seconds:,.0f} s with {workers} workers")
    else:
        click.echo("time        not known before the source is spooled")
    if notices:
        click.echo(say(notices))
    if looked_at:
        click.echo(f"of {estimate.looked_at} images looked at, {say(looked_at)}")


def _summary(manifest: Manifest, out: Place, *, said: tuple[Notice, ...], quarantined: int, as_json: bool) -> None:
    facts = {
        "samples": manifest.samples,
        "shards": len(manifest.shards),
        "bytes": manifest.shards.totals.bytes,
        "classes": len(manifest.class_names),
        "quarantined": manifest.shards.totals.quarantined,
        "notices": msgspec.to_builtins(manifest.notices),
        "fingerprint": manifest.fingerprint,
    }
    if as_json:
        click.echo(json.dumps({"event": "done", **facts}))
        return
    for entry in islice(Dataset(path=out, manifest=manifest).quarantined(), quarantined, quarantined + 10):
        click.echo(f"quarantined: {entry.text}", err=True)
    if (more := facts["quarantined"] - quarantined - 10) > 0:
        click.echo(f"quarantined: {more} more; `selfie-data info --quarantined {out}` lists all", err=True)
    if new := [notice for notice in manifest.notices if notice not in said]:
        click.echo(say(new), err=True)
    left = f", {sum(notice.count for notice in manifest.notices):,} in {NOTICES}" if manifest.notices else ""
    click.echo(
        f"{out}: {facts['samples']:,} samples in {facts['shards']} shards, {facts['bytes']:,} bytes, "
        f"{facts['classes']} classes, {facts['quarantined']} quarantined{left}"
    )

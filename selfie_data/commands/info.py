"""`selfie-data info`: what a dataset holds, as a table or as JSON."""

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

import click
import msgspec

from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.dataset.manifest import Manifest
from selfie_data.dataset.opened import Dataset, open_dataset
from selfie_data.notices import EXAMPLES
from selfie_data.notices import NAME as NOTICES
from selfie_data.sources.naming.file_names import printable
from selfie_data.storage.place import Place


@click.command("info")
@click.argument("out", type=PlaceArgument())
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.option("--quarantined", is_flag=True, help="The images that could not be used, name and reason, one a line.")
def command(out: Place, as_json: bool, quarantined: bool) -> None:
    """Shows what the dataset OUT holds: samples, shards, bytes, classes, source, options, subsets."""
    dataset = open_dataset(out)
    if quarantined:
        for entry in dataset.quarantined():
            click.echo(json.dumps(msgspec.to_builtins(entry)) if as_json else entry.text)
        return
    facts = describe(dataset)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    del facts["lineage"]
    facts["notices"] = {notice.reason: notice.count for notice in dataset.manifest.notices}
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {_text(value)}")
    for line in (*_left_out(dataset), *_lineage(dataset.manifest)):
        click.echo(line)


def _left_out(dataset: Dataset) -> Iterator[str]:
    """Yields what of the source is not in the dataset, or there by a guess, and why: the first names of each reason."""
    for entry in islice(dataset.quarantined(), EXAMPLES):
        yield f"quarantined: {entry.text}"
    if (more := dataset.manifest.shards.totals.quarantined - EXAMPLES) > 0:
        yield f"quarantined: {more:,} more, which `--quarantined` lists"
    for notice in dataset.manifest.notices:
        left = f", … {notice.count - len(notice.examples):,} more, in {NOTICES}" * (notice.count > len(notice.examples))
        yield f"{notice.reason}: {', '.join(notice.examples)}{left}"


def _lineage(manifest: Manifest) -> Iterator[str]:
    """Yields what the dataset was, the oldest first, and what was changed then."""
    counts = [(each.samples, each.excluded) for each in manifest.lineage]
    counts.append((manifest.samples, manifest.samples - manifest.live))
    for before, (samples, excluded) in zip(manifest.lineage, counts[1:], strict=True):
        more = [
            f"{samples - before.samples:,} added from {before.added.get('kind', '')}" if before.added else "",
            f"{excluded - before.excluded:,} excluded" if excluded > before.excluded else "",
        ]
        changed = " and ".join(filter(None, more)) or "images purged"
        was = f"{before.samples:,} samples, {before.excluded:,} excluded"
        yield f"was {before.fingerprint[:12]}…: {was}; then {changed}"


def describe(dataset: Dataset) -> dict[str, Any]:
    """Returns the facts of a dataset, JSON values by name."""
    manifest = dataset.manifest
    labelled = manifest.live - manifest.class_counts.get("-1", 0)
    return {
        "samples": manifest.samples,
        "excluded": manifest.samples - manifest.live,
        "labelled": labelled,
        "classes": len(manifest.class_names),
        "class_counts": {_class_name(dataset, label): count for label, count in manifest.class_counts.items()},
        "image_size": manifest.image_size,
        "encoding": manifest.encoding,
        "shards": len(manifest.shards),
        "bytes": manifest.shards.totals.bytes,
        "mean": list(manifest.mean),
        "std": list(manifest.std),
        "quarantined": manifest.shards.totals.quarantined,
        "notices": msgspec.to_builtins(manifest.notices),
        "restarts": msgspec.to_builtins(manifest.restarts),
        "subsets": {name: len(dataset.subset(name)) for name in dataset.subset_names()},
        "source": dict(manifest.source),
        "options": dict(manifest.options),
        "seed": manifest.seed,
        "codecs": manifest.codecs,
        "schema": manifest.schema,
        "fingerprint": manifest.fingerprint,
        "parent": manifest.parent or None,
        "lineage": msgspec.to_builtins(manifest.lineage),
    }


def _class_name(dataset: Dataset, label: str) -> str:
    return "(unlabelled)" if label == "-1" else dataset.class_names[int(label)]


def _text(value: object, most: int = 12) -> str:
    """One line of a value; long mappings are cut, with the number of entries left out."""
    if isinstance(value, dict):
        entries = [f"{printable(str(name))}: {_text(entry)}" for name, entry in value.items()]
        more = [f"… {len(entries) - most} more"] if len(entries) > most else []
        return ", ".join(entries[:most] + more) or "none"
    if isinstance(value, list):
        return ", ".join(_text(entry) for entry in value) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))

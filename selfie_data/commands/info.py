"""`selfie-data info`: what a dataset holds, as a table or as JSON."""

import json
from pathlib import Path
from typing import Any

import click

from selfie_data.dataset.opened import Dataset, open_dataset


@click.command("info")
@click.argument("out", type=click.Path(path_type=Path, readable=False))
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def command(out: Path, as_json: bool) -> None:
    """Shows what the dataset OUT holds: samples, shards, bytes, classes, source, options, subsets."""
    facts = describe(open_dataset(out))
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name.replace('_', ' '):<{width}}  {_text(value)}")


def describe(dataset: Dataset) -> dict[str, Any]:
    """Returns the facts of a dataset, JSON values by name."""
    manifest = dataset.manifest
    labelled = manifest.samples - manifest.class_counts.get("-1", 0)
    return {
        "samples": manifest.samples,
        "labelled": labelled,
        "classes": len(manifest.class_names),
        "class_counts": {_class_name(dataset, label): count for label, count in manifest.class_counts.items()},
        "image_size": manifest.image_size,
        "encoding": manifest.encoding,
        "shards": len(manifest.shards),
        "bytes": sum(shard.bytes for shard in manifest.shards),
        "mean": list(manifest.mean),
        "std": list(manifest.std),
        "quarantined": len(manifest.quarantined),
        "subsets": {name: len(dataset.subset(name)) for name in dataset.subset_names()},
        "source": dict(manifest.source),
        "options": dict(manifest.options),
        "seed": manifest.seed,
        "codecs": manifest.codecs,
        "schema": manifest.schema,
        "fingerprint": manifest.fingerprint,
    }


def _class_name(dataset: Dataset, label: str) -> str:
    return "(unlabelled)" if label == "-1" else dataset.class_names[int(label)]


def _text(value: object, most: int = 12) -> str:
    """One line of a value; long mappings are cut, with the number of entries left out."""
    if isinstance(value, dict):
        entries = [f"{name}: {_text(entry)}" for name, entry in value.items()]
        more = [f"… {len(entries) - most} more"] if len(entries) > most else []
        return ", ".join(entries[:most] + more) or "none"
    if isinstance(value, list):
        return ", ".join(_text(entry) for entry in value) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)

"""`selfie-data drop`: samples leave a dataset."""

import json
from pathlib import Path

import click
import numpy as np

from selfie_data.changes.drop import drop_samples
from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.id_lists import Ids, load_ids, parse_ids
from selfie_data.storage.place import Place


@click.command("drop")
@click.argument("out", type=PlaceArgument())
@click.argument("ids", nargs=-1, metavar="IDS…")
@click.option("--purge", is_flag=True, help="Remove the images' bytes too; without IDS, of all that are excluded.")
@click.option("--dry-run", is_flag=True, help="Say what would change; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
def command(out: Place, ids: tuple[str, ...], purge: bool, dry_run: bool, as_json: bool) -> None:
    """Excludes samples from the dataset OUT: their ids stay, nobody goes through them any more.

    IDS are sample ids, or files of them: .txt, one a line, with comments after #, or .npy.

    With --purge the shards concerned are written again without the images, and the old ones deleted; runs that began
    before cannot go on with what the dataset was. Copies elsewhere (pixel stores, caches, a bucket's versions) are not
    found. What was interrupted ends the same when the same command is given again.
    """
    if not ids and not purge:
        raise click.UsageError("give the ids to drop, or --purge for the bytes of those that are excluded")
    done = drop_samples(out, _read(ids), with_bytes=purge, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(done._asdict()))
        return
    words = "would be" if dry_run else "are"
    click.echo(f"{out}: {done.excluded:,} more samples {words} excluded, {done.live:,} are left")
    if purge:
        click.echo(f"{done.purged:,} images {words} purged from {done.shards:,} shards of {done.bytes:,} bytes")
        click.echo("pixel stores, caches (`selfie-data cache clear`) and copies hold them still: delete those")


def _read(given: tuple[str, ...]) -> Ids:
    """Returns the ids of arguments: numbers, or names of files of them."""
    parts = [np.empty(0, np.int64)]
    for text in given:
        try:
            parts.append(_ids_of(text))
        except (OSError, ValueError, EOFError) as error:
            raise click.UsageError(
                f"ids are numbers, or a .txt or .npy file of them, got {text!r} ({' '.join(str(error).split())})"
            ) from error
    return np.concatenate(parts)


def _ids_of(text: str) -> Ids:
    path = Path(text)
    if path.suffix == ".npy":
        ids = load_ids(path)
    else:
        ids = parse_ids(path.read_text(encoding="utf-8").splitlines() if path.suffix == ".txt" else [text])
    if not len(ids):  # not nothing: a purge without ids is one of all that are excluded
        raise ValueError("it holds no ids")
    return ids

"""`selfie-data cache`: what the cache of this machine holds, and how to empty it."""

import json

import click

from selfie_data.cache.home import cache_home
from selfie_data.cache.shard_cache import CacheContents, clear, contents


@click.group("cache")
def command() -> None:
    """The shards that this machine keeps of datasets at URLs. SELFIE_CACHE names the folder."""


@command.command("status")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def status(as_json: bool) -> None:
    """Shows where the cache lies, what it may hold and what it holds."""
    home = cache_home()
    found = contents(home.folder)
    _tell({"folder": str(home.folder), "limit": home.allowed(found.bytes), **found._asdict()}, as_json=as_json)


@command.command("clear")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
def clear_command(as_json: bool) -> None:
    """Removes the shards of the cache. Trainings that read them go on, and fetch again what they need later."""
    home = cache_home()
    removed: CacheContents = clear(home.folder)
    _tell({"folder": str(home.folder), "shards": removed.shards, "bytes": removed.bytes}, as_json=as_json)


def _tell(facts: dict[str, str | int], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(facts, indent=1))
        return
    width = max(map(len, facts))
    for name, value in facts.items():
        click.echo(f"{name:<{width}}  {f'{value:,}' if isinstance(value, int) else value}")

"""`selfie-data status`: how far a build is."""

import time

import click
import msgspec

from selfie_data.build.parts import BuildStatus, PartState, build_status, ranges
from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.storage.place import Place


@click.command("status")
@click.argument("out", type=PlaceArgument())
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def command(out: Place, as_json: bool) -> None:
    """Shows which shards of the build in OUT are there, which are missing, and how it goes with its parts."""
    status = build_status(out)
    click.echo(msgspec.json.encode(status).decode() if as_json else "\n".join(_lines(status, out)))


def _lines(status: BuildStatus, out: Place) -> list[str]:
    if status.finished:
        return [f"finished, {status.shards} shards"]
    lines = [f"built    {status.built} of {status.shards} shards"]
    if status.missing:
        lines.append(f"missing  {ranges(status.missing)}")
    else:
        lines.append(f"next     selfie-data finish {out}")
    return lines + [f"part     {_told(part)}" for part in status.parts if part.state != "done"]


def _told(part: PartState) -> str:
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(part.since))
    where = f"{part.host}, process {part.process}"
    if part.state == "failed":
        return f"{part.part} failed ({where}, {when}): {part.error}"
    return f"{part.part} at work, or killed, since {when} ({where})"

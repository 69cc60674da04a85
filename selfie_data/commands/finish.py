"""`selfie-data finish`: a dataset of the shards that parts have built."""

import click

from selfie_data.build.parts import finish_build
from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.commands.telling import build_and_tell
from selfie_data.storage.place import Place


@click.command("finish")
@click.argument("out", type=PlaceArgument())
@click.option("--json", "as_json", is_flag=True, help="The result as a JSON line.")
def command(out: Place, as_json: bool) -> None:
    """Ends the build in OUT whose parts `build-shards --part I/N` has built: writes the table and, last, the manifest.

    Needs the shards and no source. Shards that are missing are named, with the parts that build them.
    """
    build_and_tell(lambda _: finish_build(out), out, as_json=as_json)

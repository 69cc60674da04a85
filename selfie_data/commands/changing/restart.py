"""`selfie-data restart`: restart markers for a dataset that was built without."""

from typing import Any

import click

from selfie_data.build.restart import restart_dataset
from selfie_data.commands.build_shards import RestartBlocks, workers_option
from selfie_data.commands.place_argument import PlaceArgument
from selfie_data.commands.telling import build_and_tell
from selfie_data.storage.place import Place


@click.command("restart")
@click.argument("old", type=PlaceArgument())
@click.argument("new", type=PlaceArgument())
@click.option(
    "--restart-blocks",
    type=RestartBlocks(),
    metavar="auto|N",
    default="auto",
    show_default=True,
    help="Every so many MCUs at most; auto: 32 to 64 pixels.",
)
@workers_option
@click.option("--json", "as_json", is_flag=True, help="Progress and result as JSON lines.")
def command(old: Place, new: Place, restart_blocks: Any, workers: int, as_json: bool) -> None:
    """Copies the dataset OLD to NEW with restart markers in its JPEGs, so that training decodes what it crops.

    Nothing is lost: ids, order, labels, splits and every pixel stay; each image is decoded before and after. NEW is
    another dataset, which names OLD's fingerprint as its parent. What was interrupted goes on when the same command is
    given again.
    """
    build_and_tell(
        lambda reporter: restart_dataset(old, new, restart_blocks=restart_blocks, workers=workers, progress=reporter),
        new,
        as_json=as_json,
    )

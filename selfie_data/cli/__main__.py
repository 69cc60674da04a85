"""`selfie-data`: from images to checked shards. One command a file in `selfie_data.commands`."""

from selfie_data.cli.interrupted import interrupted_in_one_line

with interrupted_in_one_line():  # from a cold disk these take long enough to be interrupted
    import logging

    import click

    from selfie_data import __version__
    from selfie_data.cli.command_group import LazyCommands

_SUMMARIES = {
    "build-shards": "Pack a data set, a folder or an archive of images into shards.",
    "verify": "Check every byte of a dataset.",
    "info": "Show what a dataset holds.",
    "stats": "Show channel statistics and image sizes.",
    "split": "Make validation and labelled subsets.",
    "preview": "Draw a sheet of pictures: grid, context, targets, distractors.",
    "export-store": "Write the decoded pixels as one zarr array.",
    "completion": "Print the shell completion script.",
}


@click.command(cls=LazyCommands, package="selfie_data.commands", summaries=_SUMMARIES)
@click.version_option(__version__, prog_name="selfie-data")
def main() -> None:
    """Selfie's offline stage: images become checked, reproducible WebDataset shards."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


if __name__ == "__main__":
    main()

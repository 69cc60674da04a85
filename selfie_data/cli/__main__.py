"""`selfie-data`: from images to checked shards. One command a file in `selfie_data.commands`."""

from selfie_data.cli.command_group import ENTRY_POINT, LazyCommand, LazyGroup, interrupted_in_one_line

with interrupted_in_one_line():
    import logging

    import click

    from selfie_data import __version__

_COMMANDS: dict[str, LazyCommand] = {
    "build-shards": (
        "selfie_data.commands.build_shards:command",
        "Pack a dataset, a folder or an archive of images into shards.",
    ),
    "status": ("selfie_data.commands.status:command", "Show how far a build is, and what failed."),
    "finish": ("selfie_data.commands.finish:command", "End a build whose parts are all built."),
    "extend": ("selfie_data.commands.changing.extend:command", "Add the images of a source to a dataset."),
    "drop": ("selfie_data.commands.changing.drop:command", "Exclude samples from a dataset, or purge their images."),
    "restart": (
        "selfie_data.commands.changing.restart:command",
        "Put restart markers into the JPEGs of a dataset built without.",
    ),
    "upgrade": ("selfie_data.commands.changing.upgrade:command", "Let a dataset of an earlier version open at once."),
    "verify": ("selfie_data.commands.verify:command", "Check every byte of a dataset."),
    "info": ("selfie_data.commands.info:command", "Show what a dataset holds."),
    "stats": ("selfie_data.commands.stats:command", "Show channel statistics and image sizes."),
    "split": ("selfie_data.commands.split:command", "Make validation and labelled subsets."),
    "preview": (ENTRY_POINT, "Draw a sheet of pictures: grid, context, targets, distractors."),
    "export-store": ("selfie_data.commands.export_store:command", "Write the decoded pixels as one zarr array."),
    "cache": ("selfie_data.commands.cache:command", "Show or empty this machine's cache of remote shards."),
    "completion": ("selfie_data.commands.completion:command", "Print the shell completion script."),
}


@click.command(cls=LazyGroup, lazy_subcommands=_COMMANDS, entry_points="selfie_data.commands")
@click.version_option(__version__, prog_name="selfie-data")
def main() -> None:
    """Selfie's offline stage: images become checked, reproducible WebDataset shards."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


if __name__ == "__main__":
    main()

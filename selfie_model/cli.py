"""`selfie-model`: one command a file in `selfie_model.commands`, imported when it is called.

The mistakes of a user come out as one line: exit 2 for wrong options, 1 for damaged data and for runs that fail.
"""

from selfie_data.cli.command_group import LazyCommand, LazyGroup, interrupted_in_one_line

with interrupted_in_one_line():
    import logging

    import click

    from selfie_data import __version__
    from selfie_data.errors import RunError, SelfieDataError

_COMMANDS: dict[str, LazyCommand] = {
    "pretrain": ("selfie_model.commands.pretrain:command", "Learn from images without labels."),
    "finetune": (
        "selfie_model.commands.finetune:command",
        "Train a classifier from a pretraining run or from scratch.",
    ),
    "evaluate": ("selfie_model.commands.evaluate:command", "Measure a run on shards."),
    "probe": ("selfie_model.commands.probe:command", "Linear and nearest-neighbour accuracy of frozen features."),
    "embed": ("selfie_model.commands.embed:command", "Write the embedding of every image."),
    "export": ("selfie_model.commands.export:command", "Write weights for timm, torchvision, safetensors or ONNX."),
    "reproduce": (
        "selfie_model.commands.reproduce:command",
        "Both arms, all fractions and seeds: the paper's table beside ours.",
    ),
    "report": ("selfie_model.commands.report:command", "Write a run's web page."),
}


@click.command(cls=LazyGroup, lazy_subcommands=_COMMANDS, errors=(RunError, SelfieDataError))
@click.version_option(__version__, prog_name="selfie-model")
def main() -> None:
    """Selfie: pretrain an image encoder on patches, finetune it, measure it, take it away."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


if __name__ == "__main__":
    main()

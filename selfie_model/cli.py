"""`selfie-model`: one command a file in `selfie_model.commands`, imported when it is called.

The mistakes of a user come out as one line: exit 2 for wrong options, 1 for damaged data and for runs that fail.
"""

import importlib
import logging
from typing import Any

import click

from selfie_data import __version__
from selfie_data.errors import SelfieDataError
from selfie_model.errors import RunError

_COMMANDS = {
    "pretrain": "Learn from images without labels.",
    "finetune": "Train a classifier from a pretraining run or from scratch.",
    "evaluate": "Measure a run on shards.",
    "probe": "Linear and nearest-neighbour accuracy of frozen features.",
    "embed": "Write the embedding of every image.",
    "export": "Write weights for timm, torchvision, safetensors or ONNX.",
    "reproduce": "Both arms, all fractions and seeds: the paper's table beside ours.",
    "report": "Write a run's web page.",
}


class LazyCommands(click.Group):
    """Imports a command's module when it is needed: `--help` stays quick, though training imports torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"selfie_model.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (RunError, SelfieDataError) as error:
            raise click.ClickException(str(error)) from error


@click.command(cls=LazyCommands)
@click.version_option(__version__, prog_name="selfie-model")
def main() -> None:
    """Selfie: pretrain an image encoder on patches, finetune it, measure it, take it away."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


if __name__ == "__main__":
    main()

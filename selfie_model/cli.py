"""`selfie-model`: one command a file in `selfie_model.commands`, imported when it is called.

The mistakes of a user come out as one line: exit 2 for wrong options, 1 for damaged data and for runs that fail.
"""

from selfie_data.cli.interrupted import interrupted_in_one_line

with interrupted_in_one_line():  # from a cold disk these take long enough to be interrupted
    import logging

    import click

    from selfie_data import __version__
    from selfie_data.cli.command_group import LazyCommands
    from selfie_data.errors import RunError, SelfieDataError

_SUMMARIES = {
    "pretrain": "Learn from images without labels.",
    "finetune": "Train a classifier from a pretraining run or from scratch.",
    "evaluate": "Measure a run on shards.",
    "probe": "Linear and nearest-neighbour accuracy of frozen features.",
    "embed": "Write the embedding of every image.",
    "export": "Write weights for timm, torchvision, safetensors or ONNX.",
    "reproduce": "Both arms, all fractions and seeds: the paper's table beside ours.",
    "report": "Write a run's web page.",
}


@click.command(
    cls=LazyCommands, package="selfie_model.commands", summaries=_SUMMARIES, errors=(RunError, SelfieDataError)
)
@click.version_option(__version__, prog_name="selfie-model")
def main() -> None:
    """Selfie: pretrain an image encoder on patches, finetune it, measure it, take it away."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")


if __name__ == "__main__":
    main()

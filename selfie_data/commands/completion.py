"""`selfie-data completion`: the script that teaches a shell the commands and options."""

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--program", default="selfie-data", show_default=True, type=click.Choice(["selfie-data", "selfie-model"]))
def command(shell: str, program: str) -> None:
    """Prints the completion script of PROGRAM for a SHELL.

    For example: selfie-data completion bash > ~/.local/share/bash-completion/completions/selfie-data
    """
    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(click.Command(program), {}, program, f"_{program.replace('-', '_').upper()}_COMPLETE")
    click.echo(script.source())

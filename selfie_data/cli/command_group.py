"""A group of commands, each imported when it is called: `--help` stays quick though a command may import much."""

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

import click

from selfie_data.cli.interrupted import interrupted_in_one_line
from selfie_data.errors import SelfieDataError


class LazyCommands(click.Group):
    """The commands of one package of modules; module NAME (with `_` for `-`) defines the click command `command`.
    A package above joins a command of its own by an entry point of the group that bears this package's name.

    A user's mistake comes out as one line: exit 2 for wrong usage (click's own), 1 for data or a run at fault; so does
    Ctrl-C, with exit 130, also while a command is being imported.
    """

    def __init__(
        self,
        *args: Any,
        package: str,
        summaries: Mapping[str, str],
        errors: tuple[type[Exception], ...] = (SelfieDataError,),
        **kwargs: Any,
    ) -> None:
        """Takes what `click.Group` does and these.

        Args:
            summaries: the name of every command and its line in `--help`.
            errors: what becomes one line and exit 1; errors of the system always do.
        """
        super().__init__(*args, **kwargs)
        self._package = package
        self._summaries = summaries
        self._errors: tuple[type[Exception], ...] = (*errors, OSError)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        return list(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._summaries:
            return None
        for entry in entry_points(group=self._package, name=cmd_name):
            joined: click.Command = entry.load()
            return joined
        module = importlib.import_module(f"{self._package}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with interrupted_in_one_line(), _usage_in_one_line():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interrupted_in_one_line(), _usage_in_one_line():
                return super().invoke(ctx)
        except BrokenPipeError:  # click's own: the reader of our output has gone
            raise
        except self._errors as error:
            raise click.ClickException(" ".join(str(error).split())) from error


@contextlib.contextmanager
def _usage_in_one_line() -> Iterator[None]:
    """Gives errors of usage without the synopsis above them; `--help` is named instead."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        message = " ".join(error.format_message().split()).rstrip(".")
        where = "" if error.ctx is None else f" ({error.ctx.command_path} --help lists what there is)"
        raise click.UsageError(message + where) from error

"""A group of commands, each imported when it is called: `--help` stays quick though a command may import much."""

import importlib
from collections.abc import Mapping
from typing import Any

import click

from selfie_data.errors import SelfieDataError


class LazyCommands(click.Group):
    """The commands of one package of modules; module NAME (with `_` for `-`) defines the click command `command`.

    A user's mistake comes out as one line: exit 2 for wrong usage (click's own), 1 for data or a run at fault.
    """

    def __init__(
        self,
        *args: Any,
        package: str,
        summaries: Mapping[str, str],
        errors: tuple[type[Exception], ...] = (SelfieDataError,),
        **kwargs: Any,
    ) -> None:
        """`summaries` maps the name of every command to its line in `--help`; `errors` become one line and exit 1."""
        super().__init__(*args, **kwargs)
        self._package = package
        self._summaries = summaries
        self._errors = errors

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        return list(self._summaries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self._summaries:
            return None
        module = importlib.import_module(f"{self._package}.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(self._summaries.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except self._errors as error:
            raise click.ClickException(" ".join(str(error).split())) from error

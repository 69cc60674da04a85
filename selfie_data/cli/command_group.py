"""A group of commands, each imported when it is called: `--help` stays quick though a command may import much.

After click's documented LazyGroup. Errors end as one line: exit 2 for wrong usage (click's own), 1 for data or a run at
fault, and on Ctrl-C 130, the shell's number for it, wherever a command was. Builds and trainings say more: they catch
the interrupt themselves and tell how to go on.
"""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def interrupted_in_one_line() -> Iterator[None]:
    """Turns a KeyboardInterrupt inside the block into one line on stderr.

    Raises:
        SystemExit: with status 130, instead of a KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.stderr.write("stopped by SIGINT\n")
        raise SystemExit(130) from None


with interrupted_in_one_line():  # from a cold disk these take long enough to be interrupted
    from collections.abc import Mapping
    from importlib import import_module
    from typing import Any

    import click

    from selfie_data.errors import SelfieDataError

ENTRY_POINT = "entry point"  # the place of a command that a package above joins
LazyCommand = tuple[str, str]
"""The place of a command, "module:attribute" or `ENTRY_POINT`, and its line in `--help`."""


class LazyGroup(click.Group):
    """A group of lazy commands.

    Entry points are looked for when such a command is called, not before: importing `importlib.metadata` and reading
    the files of a hundred packages takes 25 ms.
    """

    def __init__(
        self,
        *args: Any,
        lazy_subcommands: Mapping[str, LazyCommand],
        entry_points: str = "",
        errors: tuple[type[Exception], ...] = (SelfieDataError,),
        **kwargs: Any,
    ) -> None:
        """Takes what `click.Group` does and these.

        Args:
            lazy_subcommands: every command by its name, in the order of `--help`.
            entry_points: the group of entry points that commands of other packages join by.
            errors: what becomes one line and exit 1; errors of the system always do.
        """
        super().__init__(*args, **kwargs)
        self.lazy_subcommands = lazy_subcommands
        self.entry_points = entry_points
        self.errors: tuple[type[Exception], ...] = (*errors, OSError)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        return list(self.lazy_subcommands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in self.lazy_subcommands:
            return None
        place, _ = self.lazy_subcommands[cmd_name]
        if place == ENTRY_POINT:
            return self._joined(cmd_name)
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def _joined(self, name: str) -> click.Command:
        from importlib import metadata

        for entry in metadata.entry_points(group=self.entry_points, name=name):
            try:
                command: click.Command = entry.load()
            except (ImportError, AttributeError) as error:
                raise click.ClickException(
                    f"the command {name} cannot be loaded from {entry.value} ({error}); install its package again"
                ) from error
            return command
        raise click.ClickException(
            f"the command {name} is not installed: no package has an entry point of that name in the group "
            f"{self.entry_points}; install selfie (pip install -e . in its folder)"
        )

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.lazy_subcommands.items()])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with interrupted_in_one_line(), _usage_in_one_line():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interrupted_in_one_line(), _usage_in_one_line():
                return super().invoke(ctx)
        except BrokenPipeError:  # click's own: the reader of our output has gone
            raise
        except self.errors as error:
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

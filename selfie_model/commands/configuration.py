"""From the command line to a `Config`: a preset, changed by a TOML file, changed by options.

    --preset tiny --config mine.toml --set model.width=16 --steps 500

A file has the sections of a configuration, and may name the preset it starts from:

    preset = "cifar10"
    [pretrain]
    learning_rate = 0.2
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from selfie_model.commands.loading import Command, add_options
from selfie_model.config import Config
from selfie_model.presets import PRESETS

_PRESET = "  [default: the configuration's]"
_SHORTCUTS = ("steps", "batch_size", "learning_rate", "accumulate", "seed")


def configuration_options(function: Command) -> Command:
    """Adds the options whose values `resolve_config` takes, as the keyword arguments of the same names."""
    return add_options(
        function,
        click.option(
            "--preset",
            type=click.Choice(list(PRESETS)),
            help="Configuration to start from; needed unless --config or a RUN to start from names one.",
        ),
        click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="TOML file with sections [model], [pretrain], [finetune], [runtime]; applied to the preset.",
        ),
        click.option(
            "--set",
            "assignments",
            multiple=True,
            metavar="SECTION.NAME=VALUE",
            help="Any single value, e.g. model.width=32 or runtime.compile=off; may be repeated.",
        ),
        click.option("--steps", type=int, help=f"Optimiser steps.{_PRESET}"),
        click.option("--batch-size", type=int, help=f"Images a step, over all processes.{_PRESET}"),
        click.option("--learning-rate", type=float, help=f"Peak learning rate.{_PRESET}"),
        click.option("--accumulate", type=int, help=f"Parts a process's batch is cut into, to save memory.{_PRESET}"),
        click.option("--seed", type=int, help=f"Of weights, order, draws and dropout.{_PRESET}"),
    )


def resolve_config(
    section: str,
    *,
    preset: str | None,
    config_file: Path | None,
    assignments: Sequence[str],
    base: Config | None = None,
    **shortcuts: Any,
) -> Config:
    """Returns the configuration that the options describe.

    Args:
        section: `pretrain` or `finetune`: what `--steps` and the other shortcuts speak of.
        preset: name of a preset; None = the file's, else `base`.
        config_file: TOML file.
        assignments: `section.name=value`.
        base: of the run to start from; its `model` section is kept whatever the preset.
        shortcuts: values of the shortcut options, None where not given.

    Raises:
        click.UsageError: unknown names, values out of range, no preset.
    """
    try:
        content = _read_toml(config_file) if config_file is not None else {}
        name = preset or content.pop("preset", None)
        content.pop("preset", None)
        if name is not None and not isinstance(name, str):
            raise ValueError(f"preset is the name of one, got {name!r}")
        config = _start(name, base)
        config = config.override(**content)
        for assignment in assignments:
            config = config.override(**_parse_assignment(assignment))
        given = {key: value for key, value in shortcuts.items() if key in _SHORTCUTS and value is not None}
        return config.override(**{section: given})
    except (ValueError, TypeError) as error:
        raise click.UsageError(str(error)) from error


def _start(name: str | None, base: Config | None) -> Config:
    if name is None:
        if base is None:
            raise ValueError(f"--preset is needed, one of {', '.join(PRESETS)}")
        return base
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    config = PRESETS[name]()
    return config if base is None else config.override(model=base.to_dict()["model"])


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from error


def _parse_assignment(text: str) -> dict[str, dict[str, str]]:
    target, equals, value = text.partition("=")
    section, dot, name = target.strip().partition(".")
    if not equals or not dot:
        raise ValueError(f"--set takes SECTION.NAME=VALUE, got {text!r}")
    return {section: {name: value.strip()}}

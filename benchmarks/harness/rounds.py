"""Interleaved rounds: every system once a round, in an order that rotates, so that a slow minute slows them all."""

from collections.abc import Callable, Mapping
from typing import TypeVar

from tqdm import tqdm

Value = TypeVar("Value")


def interleaved(measures: Mapping[str, Callable[[], Value]], rounds: int, *, title: str) -> dict[str, list[Value]]:
    """Calls every measure once a round.

    Returns:
        The values by name; index i of every list was measured in round i.
    """
    names = list(measures)
    values: dict[str, list[Value]] = {name: [] for name in names}
    with tqdm(total=rounds * len(names), desc=title, unit="run", leave=False) as bar:
        for number in range(rounds):
            turn = number % max(len(names), 1)
            for name in names[turn:] + names[:turn]:
                bar.set_postfix_str(name, refresh=False)
                values[name].append(measures[name]())
                bar.update()
    return values

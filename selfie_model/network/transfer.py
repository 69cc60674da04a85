"""From a pretrained P to a classifier: which weight goes where, checked key by key.

    patch_network.stem.*         → stem.*
    patch_network.stages.S.*     → stages.S.*      for the stages P has
    normalise.*                  → normalise.*     what the weights expect of pixels
    patch_network.norm.*         → nowhere: it was fitted in front of the average, where the next stage now stands
    everything else of Selfie    → nowhere: A, positions and u0 are discarded

Source: the paper, section "Finetuning".
"""

import torch
from torch import Tensor

from selfie_model.network.classifier import Classifier


def transfer_patch_network(state: dict[str, Tensor], classifier: Classifier) -> list[str]:
    """Copies P's weights out of a Selfie module's state into `classifier`; returns the classifier's keys it set.

    Raises:
        ValueError: a key is missing on either side or has another shape; the message names the keys.
    """
    given = {_destination(key): value for key, value in state.items() if _destination(key)}
    own = classifier.state_dict()
    wanted = {key for key in own if _comes_from_patches(key, classifier.config.model.patch_stages)}
    problems = _mismatches(given, own, wanted)
    if problems:
        raise ValueError(f"the pretrained weights do not fit this classifier: {'; '.join(problems)}")
    with torch.no_grad():
        for key in wanted:
            own[key].copy_(given[key])
    return sorted(wanted)


def _destination(key: str) -> str:
    """Returns the classifier's key for one of Selfie's; empty = discarded."""
    if key.startswith(("patch_network.stem.", "patch_network.stages.")):
        return key.removeprefix("patch_network.")
    return key if key.startswith("normalise.") else ""


def _comes_from_patches(key: str, stages: int) -> bool:
    parts = key.split(".")
    return parts[0] in ("stem", "normalise") or (parts[0] == "stages" and int(parts[1]) < stages)


def _mismatches(given: dict[str, Tensor], own: dict[str, Tensor], wanted: set[str]) -> list[str]:
    problems = []
    if missing := sorted(wanted - given.keys()):
        problems.append(f"missing {_some(missing)}")
    if unknown := sorted(given.keys() - wanted):
        problems.append(f"no place for {_some(unknown)}")
    shapes = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(own[key].shape)}"
        for key in sorted(wanted & given.keys())
        if given[key].shape != own[key].shape
    ]
    if shapes:
        problems.append(f"shape of {_some(shapes)}")
    return problems


def _some(names: list[str]) -> str:
    """Names the first few; a wrong variant would otherwise print hundreds."""
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

"""Loss and accuracy of a model over a loader, for both tasks: every image counted once, padding never."""

from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelines.batch import BatchLoader, BatchT
from selfie_model.config import RuntimeConfig
from selfie_model.network.classifier import ClassifierOutput
from selfie_model.network.selfie import SelfieOutput
from selfie_model.training.distributed import Ranks, sum_over_ranks
from selfie_model.training.precision import autocast


class Metrics(NamedTuple):
    """Means over `counted` predictions: images of a classifier, hidden patches of the pretraining task."""

    loss: float
    accuracy: float
    counted: int


def evaluate(
    model: nn.Module,
    loader: BatchLoader[BatchT],
    *,
    ranks: Ranks,
    runtime: RuntimeConfig,
    batches: int = 0,
) -> Metrics:
    """Returns the metrics of `model` over the loader's first `batches` (0 = all), summed over the ranks.

    The model is left in evaluation mode. Nothing is fetched from the device before the end.

    Raises:
        ValueError: the loader holds nothing that could be counted.
    """
    model.eval()
    totals = empty_totals(ranks.device)
    with torch.inference_mode(), autocast(ranks.device, runtime):
        for batch in islice(loader, batches or None):
            add_totals(totals, model(batch.to(ranks.device, non_blocking=True)))
    metrics = means(sum_over_ranks(totals, ranks))
    if metrics.counted == 0:
        raise ValueError("there is nothing to evaluate: no image, or none with a label")
    return metrics


def empty_totals(device: torch.device) -> Tensor:
    """Returns zeros for (loss sum, right ones, counted), float64 [3]: sums of many batches stay exact counts."""
    return torch.zeros(3, dtype=torch.float64, device=device)


def add_totals(totals: Tensor, output: SelfieOutput | ClassifierOutput) -> None:
    """Adds one batch's output to `totals` in place, on the device."""
    counted = output.counted
    totals += torch.stack((output.loss.detach() * counted, output.accuracy * counted, counted))


def means(totals: Tensor) -> Metrics:
    """Fetches the totals from the device and divides; this is where the host waits."""
    loss, right, counted = totals.tolist()
    return Metrics(loss / max(1.0, counted), right / max(1.0, counted), round(counted))

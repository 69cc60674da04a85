"""How good are frozen features? A linear classifier and nearest neighbours, trained and tested on vectors.

Linear: multinomial logistic regression on standardised features, minimised with L-BFGS. Its L2 strength is chosen on a
tenth of the training vectors (every tenth of each class), then it is fitted again on all of them; the test vectors are
used once, at the end.

Nearest neighbours: the k most similar training vectors by cosine vote with weight exp(similarity / temperature).
Source: Wu, Xiong, Yu, Lin, arXiv 1805.01978, section 3.4 (temperature 0.07).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from selfie_model.features.encoder import Features

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
_HELD_OUT = 10  # one of so many of each class
_ITERATIONS = 200
_CHUNK = 1024  # test vectors compared at once: memory is this times the training vectors


class LinearResult(NamedTuple):
    """Outcome of the linear probe.

    Attributes:
        accuracy: top-1 on the test vectors, 0..1.
        strength: the chosen L2 strength.
        held_out: accuracy of each strength on the held-out tenth, in the order of the strengths tried.
    """

    accuracy: float
    strength: float
    held_out: tuple[float, ...]


def linear_probe(
    train: Features, test: Features, *, classes: int, strengths: Sequence[float] = STRENGTHS, device: str = "cpu"
) -> LinearResult:
    """Fits on `train`, measures on `test`; both need labels in 0..classes-1.

    Raises:
        ValueError: a label is missing, or there are too few vectors to hold a tenth out.
    """
    x, y = _tensors(train, classes, device)
    mean, std = x.mean(dim=0), x.std(dim=0).clamp(min=1e-6)
    x = (x - mean) / std
    held = torch.from_numpy(held_out_mask(train.label)).to(device)
    if not held.any() or held.all():
        raise ValueError(f"the linear probe needs {_HELD_OUT} or more vectors of a class, got {len(y)} in all")
    scores = []
    for strength in strengths:
        weight, bias = _fit(x[~held], y[~held], classes, strength)
        scores.append(_accuracy(x[held], y[held], weight, bias))
    strength = strengths[max(range(len(scores)), key=lambda index: (scores[index], strengths[index]))]
    weight, bias = _fit(x, y, classes, strength)
    test_x, test_y = _tensors(test, classes, device)
    accuracy = _accuracy((test_x - mean) / std, test_y, weight, bias)
    return LinearResult(accuracy, strength, tuple(scores))


def nearest_neighbours(
    train: Features, test: Features, *, classes: int, k: int = 20, temperature: float = 0.07, device: str = "cpu"
) -> float:
    """Returns the top-1 accuracy on `test`; ties go to the lower class.

    Raises:
        ValueError: a label is missing, or k is not in 1..number of training vectors.
    """
    x, y = _tensors(train, classes, device)
    test_x, test_y = _tensors(test, classes, device)
    if not 1 <= k <= len(y):
        raise ValueError(f"k must be in 1..{len(y)}, the number of training vectors, got {k}")
    x, test_x = F.normalize(x, dim=1), F.normalize(test_x, dim=1)
    right = 0
    for start in range(0, len(test_y), _CHUNK):
        similarity, index = (test_x[start : start + _CHUNK] @ x.T).topk(k, dim=1)
        # the largest similarity is taken off before exp, which changes no comparison and cannot overflow
        weight = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = torch.zeros(len(index), classes, device=x.device).scatter_add_(1, y[index], weight)
        right += int((votes.argmax(dim=1) == test_y[start : start + _CHUNK]).sum())
    return right / len(test_y)


def held_out_mask(label: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns a bool [N]: every tenth vector of each class, by order."""
    mask = np.zeros(len(label), dtype=np.bool_)
    for value in np.unique(label):
        mask[np.flatnonzero(label == value)[_HELD_OUT - 1 :: _HELD_OUT]] = True
    return mask


def _tensors(features: Features, classes: int, device: str) -> tuple[Tensor, Tensor]:
    label = features.label
    if len(label) == 0 or label.min() < 0 or label.max() >= classes:
        raise ValueError(f"probes need images with a label in 0..{classes - 1} each")
    return torch.from_numpy(features.vector).to(device), torch.from_numpy(label).to(device)


def _fit(x: Tensor, y: Tensor, classes: int, strength: float) -> tuple[Tensor, Tensor]:
    """Returns weight [D, classes] and bias [classes] that minimise cross-entropy + strength / 2 · |weight|²."""
    weight = torch.zeros(x.shape[1], classes, device=x.device, requires_grad=True)
    bias = torch.zeros(classes, device=x.device, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimiser.zero_grad()
        value = F.cross_entropy(x @ weight + bias, y) + strength / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def _accuracy(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> float:
    return float(((x @ weight + bias).argmax(dim=1) == y).float().mean())

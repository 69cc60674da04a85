"""Two ways in which a training goes wrong without crashing: it diverges, or it learns nothing."""

import math

from selfie_data.errors import DivergedError
from selfie_model.config import TrainConfig
from selfie_model.training.evaluate import Metrics

_DIVERGED = 10.0  # times the larger of the first loss and chance's; the least that no learning run has come near
_CHANCE_MARGIN = 0.02  # two points
_CHANCE_AFTER = 0.25  # of the steps


class Sanity:
    """Judges the means of one window of steps after the other.

    Args:
        train: what is being trained, for the messages.
        chance: accuracy of guessing.
        first_loss: of the run's first window of steps, NaN if that is still to come.
    """

    def __init__(self, train: TrainConfig, *, chance: float, first_loss: float = math.nan) -> None:
        self._first_loss = first_loss
        self._train = train
        self._chance = chance
        self._warned = False

    def check_loss(self, step: int, loss: float) -> float:
        """Returns the loss of the first window.

        Raises:
            DivergedError: the loss is not finite, or ten times where it began.
        """
        if math.isnan(self._first_loss):
            self._first_loss = loss
        limit = _DIVERGED * max(self._first_loss, -math.log(self._chance))
        if math.isfinite(loss) and loss <= limit:
            return self._first_loss
        raise DivergedError(
            f"the loss is {loss:.3g} at step {step}, it began at {self._first_loss:.3g}: training has diverged; lower "
            f"the learning rate ({self._train.learning_rate:g}) or lengthen the warm-up ({self._train.warmup_steps})"
        )

    def chance_warning(self, step: int, metrics: Metrics) -> str:
        """Returns a warning, once, when a quarter of the steps is done and accuracy is within two points of chance."""
        early = step < _CHANCE_AFTER * self._train.steps
        if self._warned or early or metrics.accuracy > self._chance + _CHANCE_MARGIN:
            return ""
        self._warned = True
        return (
            f"warning: accuracy is {metrics.accuracy:.1%} after {step} of {self._train.steps} steps and chance is "
            f"{self._chance:.1%}: nothing is learned yet; try another learning rate, or more steps"
        )

"""Evaluation: every image once, padding never, the batch size changes nothing."""

import math

import pytest
import torch

from selfie_model.config import RuntimeConfig
from selfie_model.network.classifier import Classifier
from selfie_model.network.selfie import Selfie
from selfie_model.training.distributed import Ranks
from selfie_model.training.evaluate import add_totals, empty_totals, evaluate, means
from tests.selfie_model.memory import MemoryLoader, random_images, small_config

RUNTIME = RuntimeConfig()


@pytest.mark.parametrize("batch_size", [1, 4, 7, 23, 30])
def test_metrics_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    images, labels = random_images(23)
    config = small_config()
    torch.manual_seed(0)
    for model, cut in ((Classifier(config, 3), None), (Selfie(config), config.model)):
        loader = MemoryLoader(images, labels, batch_size=batch_size, model=cut, evaluation=True)
        whole = MemoryLoader(images, labels, batch_size=23, model=cut, evaluation=True)
        metrics = evaluate(model, loader, ranks=Ranks(), runtime=RUNTIME)
        output = model.eval()(whole.batch(0, 0))
        assert metrics.counted == output.counted.item() == (23 if cut is None else 23 * 4)
        assert metrics.loss == pytest.approx(output.loss.item(), abs=1e-5)
        assert metrics.accuracy == pytest.approx(output.accuracy.item())


def test_a_number_of_batches_is_the_first_ones() -> None:
    images, labels = random_images(20)
    model = Classifier(small_config(), 3)
    some = evaluate(
        model,
        MemoryLoader(images, labels, batch_size=5, model=None, evaluation=True),
        ranks=Ranks(),
        runtime=RUNTIME,
        batches=2,
    )
    first = evaluate(
        model,
        MemoryLoader(images[:10], labels[:10], batch_size=5, model=None, evaluation=True),
        ranks=Ranks(),
        runtime=RUNTIME,
    )
    assert some == first


def test_evaluation_changes_no_weight_and_no_statistic() -> None:
    model = Selfie(small_config())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    loader = MemoryLoader(*random_images(8), batch_size=4, model=model.config.model, evaluation=True)
    evaluate(model, loader, ranks=Ranks(), runtime=RUNTIME)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_nothing_to_count_is_an_error() -> None:
    images, labels = random_images(8)
    labels[:] = -1
    loader = MemoryLoader(images, labels, batch_size=4, model=None, evaluation=True)
    with pytest.raises(ValueError, match="nothing to evaluate: no image, or none with a label"):
        evaluate(Classifier(small_config(), 3), loader, ranks=Ranks(), runtime=RUNTIME)


def test_totals_weigh_every_prediction_the_same() -> None:
    model = Classifier(small_config(), 3).eval()
    totals = empty_totals(torch.device("cpu"))
    batch = MemoryLoader(*random_images(9), batch_size=9, model=None).batch(0, 0)
    for part in batch.split(2):
        add_totals(totals, model(part))
    whole = model(batch)
    metrics = means(totals)
    assert math.isclose(metrics.loss, whole.loss.item(), abs_tol=1e-6)
    assert metrics.counted == 9

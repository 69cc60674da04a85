"""Plans come back in order; what goes wrong closes the backend, and the next plan gets a new one."""

import numpy as np
import pytest

from pipelines.batch_plan import BackendOutput, BatchPlan
from pipelines.under_way import PlansUnderWay


class FakeBackend:
    """Answers in order; fails at the step it is told to."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.steps: list[int] = []
        self.closed = 0

    def submit(self, plan: BatchPlan) -> None:
        self.steps.append(plan.step)

    def result(self) -> BackendOutput:
        if self.steps[0] == self.fails_at:
            raise OSError("gone")
        self.steps.pop(0)
        return BackendOutput()

    def close(self) -> None:
        self.closed += 1


def plan(step: int) -> BatchPlan:
    return BatchPlan(epoch=0, step=step, sample_id=np.arange(1))


def test_a_backend_is_built_for_the_first_plan_and_serves_all() -> None:
    built: list[FakeBackend] = []
    plans = PlansUnderWay(lambda: built.append(FakeBackend()) or built[-1])
    assert plans.backend is None
    for step in range(3):
        plans.submit(plan(step))
    plans.result()
    assert len(built) == 1
    assert built[0].steps == [1, 2]
    plans.drop()
    assert built[0].steps == []
    plans.close()
    plans.close()
    assert built[0].closed == 1


def test_an_error_closes_the_backend_and_the_next_plan_gets_a_new_one() -> None:
    backends = iter([FakeBackend(fails_at=0), second := FakeBackend()])
    plans = PlansUnderWay(lambda: next(backends))
    plans.submit(plan(0))
    plans.submit(plan(1))
    with pytest.raises(OSError, match="gone"):
        plans.result()
    assert plans.backend is None
    plans.submit(plan(2))
    assert plans.backend is second
    assert second.steps == [2]


def test_errors_of_plans_that_nobody_asks_for_are_not_raised() -> None:
    first, second = FakeBackend(fails_at=1), FakeBackend()
    backends = iter([first, second])
    plans = PlansUnderWay(lambda: next(backends))
    for step in range(3):
        plans.submit(plan(step))
    plans.drop()
    assert first.closed == 1
    plans.submit(plan(3))
    assert second.steps == [3]


def test_another_process_has_the_plans_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    parents, childs = FakeBackend(), FakeBackend()
    backends = iter([parents, childs])
    plans = PlansUnderWay(lambda: next(backends))
    plans.submit(plan(0))
    plans.submit(plan(1))
    monkeypatch.setattr("os.getpid", lambda: -1)
    plans.result()
    assert (parents.steps, childs.steps) == ([0, 1], [1])
    assert parents.closed == 0
    plans.drop()
    assert childs.steps == []

"""The training loop that pretraining and finetuning share.

    for each step:  batch → (parts) → loss · share of the global batch → backward → rate → optimiser
    (every step:                   a digest of the global batch, if the journal is to have it)
    every log_every steps:         fetch the metrics, journal, progress, is the loss still sane?
    every validate_every steps:    the validation split; the best state so far is kept
    every checkpoint_every steps:  a checkpoint

Between two fetches the host never waits for the device. Dropout is drawn from (seed, step, rank), so that a run that
was interrupted goes on as if it had not been.
"""

import math
from collections.abc import Iterator
from typing import Any, Generic

import torch
from torch import nn

from pipelines.batch import BatchT
from pipelines.digest import BatchDigest
from selfie_data.errors import DivergedError, RunError
from selfie_data.files import write_output_json
from selfie_model.training.checkpoint import Checkpoints, State
from selfie_model.training.distributed import (
    Ranks,
    SharedFlag,
    begins_again,
    distribute,
    gradients_wait,
    share_buffers,
    sum_over_ranks,
)
from selfie_model.training.evaluate import Metrics, add_totals, empty_totals, evaluate, means
from selfie_model.training.journal import Journal
from selfie_model.training.monitor import Monitor, timing_event
from selfie_model.training.optimiser import learning_rate, make_optimiser, set_learning_rate
from selfie_model.training.precision import autocast, compiled, place
from selfie_model.training.run_folder import RESULT, Result, read_result
from selfie_model.training.snapshot import TrainingState, moved, restore_snapshot, take_snapshot
from selfie_model.training.stop_request import StopRequest
from selfie_model.training.task import Training

_OWN_SIGNAL_S = 5.0  # agents of `torchrun` that begin again, or end, signal theirs within a second of each other


def run_training(
    training: Training[BatchT],
    *,
    ranks: Ranks,
    resume: State | None = None,
    stop: StopRequest | None = None,
    this_epoch: bool = False,
    tensorboard: bool = False,
    quiet: bool = False,
) -> Result:
    """Trains to the end, or to where `stop` asks; leaves checkpoints, the journal and the result in the run's folder.

    Args:
        training: what to train on what.
        ranks: this process.
        resume: a checkpoint's content to go on from.
        stop: asked after every step; of many ranks all stop together, a step later.
        this_epoch: end, and save, with the epoch that is under way.
        tensorboard: also write TensorBoard's files.
        quiet: show no progress.

    Raises:
        DivergedError: the loss is not finite or far above where it began; the last checkpoint is from before that.
        RunError: the loader's batches are not what the configuration says.
    """
    trainer = _Trainer(training, ranks=ranks, resume=resume, tensorboard=tensorboard, quiet=quiet)
    try:
        if trainer.state.step >= training.train.steps and (ended := read_result(training.run)) is not None:
            return ended
        trainer.note_move(resume)
        return trainer.fit(stop if stop is not None else StopRequest(), this_epoch=this_epoch)
    finally:
        trainer.close()


class _Trainer(Generic[BatchT]):
    def __init__(
        self, training: Training[BatchT], *, ranks: Ranks, resume: State | None, tensorboard: bool, quiet: bool
    ) -> None:
        self.training: Training[BatchT] = training
        self.ranks = ranks
        self.runtime, self.train = training.config.runtime, training.train
        self.model = training.model
        place(self.model, ranks.device, self.runtime)
        self.model.eval()  # the first step enters training mode
        self.wrapped = distribute(self.model, ranks, sync_batch_norm=self.runtime.sync_batch_norm)
        self.forward = compiled(self.wrapped, ranks.device, self.runtime)
        self.optimiser = make_optimiser(self.model, self.train, transferred=training.transferred)
        self.state = TrainingState()
        if resume is not None:
            self.state = restore_snapshot(resume, training, self.optimiser, ranks.device)
        self.checkpoints = Checkpoints(training.run, keep_last=self.runtime.keep_last)
        self.journal = (
            Journal(training.run, after_step=self.state.step, tensorboard=tensorboard) if ranks.writes else None
        )
        self.monitor = Monitor(
            training.kind,
            self.train,
            chance=training.chance,
            first_step=self.state.step,
            first_loss=self.state.first_loss,
            visible=ranks.writes and not quiet,
            make_event=timing_event if ranks.device.type == "cuda" else None,
        )
        self.last = self.train.steps
        self.stops = SharedFlag(ranks)
        self.totals = empty_totals(ranks.device)
        self.window = Metrics(math.nan, math.nan, 0)

    def note_move(self, resume: State | None) -> None:
        """Saves and journals that a run goes on with another dataset than its checkpoint did: what that has become."""
        now = self.training.loader.state_dict()
        if resume is not None and moved(resume, now):
            self._save()
            self._write("moved", {"from": resume["loader"]["fingerprint"], "to": now["fingerprint"]})

    def fit(self, stop: StopRequest, *, this_epoch: bool) -> Result:
        """Runs the steps that are left, all or those of this epoch."""
        runtime, last = self.runtime, self.train.steps
        if this_epoch:
            length = len(self.training.loader)
            self.last = min(last, self.state.step + length - self.state.place(self.state.step, length)[1])
        reason = ""
        for batch in self._batches():
            if self.state.step == 0:
                self._check_batch_size(batch)
            self._train_step(batch)
            self.monitor.step()
            step = self.state.step
            if runtime.journal_batches:
                self._journal_batch(batch)
            fetch = _due(step, runtime.log_every, last)
            asked = self.stops.exchange(bool(stop))
            validate = self.training.validation is not None and _due(step, runtime.validate_every, last)
            save = asked or step == self.last or _due(step, runtime.checkpoint_every, last)
            if fetch or validate or save:  # the loss is judged before anything is kept
                self._report()
            if validate:
                self._validate()
            if save:
                self._save()
            if asked and step < self.last:
                reason = stop.reason or "another rank"
                break
        if this_epoch:  # nobody looks for the checkpoint before it is there
            sum_over_ranks(torch.zeros((), device=self.ranks.device), self.ranks)
        result = self._finish(reason)
        if reason and begins_again() and not stop.wait(_OWN_SIGNAL_S):
            raise RunError(
                f"another process was asked to stop, all did, and step {self.state.step} is saved; nobody asked this "
                "one: it ends with an error, for its launcher to begin again with those that are left"
            )
        return result

    def close(self) -> None:
        self.stops.close()
        self.monitor.close()
        if self.journal is not None:
            self.journal.close()

    def _batches(self) -> Iterator[BatchT]:
        """Yields this rank's batches for the steps that are left, counting the time spent waiting for them."""
        loader, last = self.training.loader, self.last
        length = len(loader)
        while self.state.step < last:
            epoch, inside = self.state.place(self.state.step, length)
            if inside == 0:
                loader.set_epoch(epoch)
            batches = iter(loader)
            before = self.state.step
            while self.state.step < last:
                with self.monitor.waiting():
                    batch = next(batches, None)
                if batch is None:
                    break
                yield batch.to(self.ranks.device, non_blocking=True)
            if self.state.step == before:
                raise RunError(f"the loader gave no batch in epoch {epoch}, it promises {length}")

    def _train_step(self, batch: BatchT) -> None:
        if not self.model.training:
            self._enter_training_mode()
        torch.manual_seed(dropout_seed(self.train.seed, self.state.step, self.ranks.rank))
        set_learning_rate(self.optimiser, learning_rate(self.state.step, self.train))
        self.optimiser.zero_grad(set_to_none=True)
        if len(batch) < self.train.accumulate:
            raise RunError(
                f"accumulate must be at most the images of a process's batch, {len(batch)}, got "
                f"{self.train.accumulate}; lower --accumulate"
            )
        parts = batch.split(self.train.accumulate) if self.train.accumulate > 1 else [batch]
        for number, part in enumerate(parts):
            with gradients_wait(self.wrapped, number < len(parts) - 1):
                with autocast(self.ranks.device, self.runtime):
                    output = self.forward(part)
                # DDP averages gradients over the ranks: times their number, and they are the global batch's mean
                (output.loss * (len(part) * self.ranks.size / self.train.batch_size)).backward()
            add_totals(self.totals, output)
        self.optimiser.step()
        self.state.step += 1

    def _enter_training_mode(self) -> None:
        self.wrapped.train()
        if self.train.batch_norm == "frozen":
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm):
                    module.eval()

    def _report(self) -> None:
        """Fetches the metrics since the last report, judges, writes and shows them."""
        self.window = means(sum_over_ranks(self.totals, self.ranks))
        self.totals.zero_()
        self._judge_loss()
        images_per_s, wait = self.monitor.lap(self.state.step, self.window)
        rate = learning_rate(self.state.step - 1, self.train)
        speed = {"images_per_s": round(images_per_s, 1), "data_wait": round(wait, 4)}
        values = {"loss": self.window.loss, "accuracy": self.window.accuracy, "learning_rate": rate, **speed}
        self._write("train", values)
        if message := self.monitor.chance_warning(self.state.step, self.window.accuracy):
            self._write("warning", {"message": message})
            self.monitor.say(message)

    def _judge_loss(self) -> None:
        try:
            self.state.first_loss = self.monitor.check_loss(self.state.step, self.window.loss)
        except DivergedError:
            self._write("diverged", {"loss": str(self.window.loss)})  # JSON has no NaN
            raise

    def _validate(self) -> None:
        loader = self.training.validation
        assert loader is not None
        share_buffers(self.model, self.ranks)  # what is measured is what rank 0 saves
        loader.set_epoch(0)  # the same crops and masks at every pass: a moving mask makes the best epoch a lottery
        metrics = evaluate(
            self.model, loader, ranks=self.ranks, runtime=self.runtime, batches=self.runtime.validation_batches
        )
        self.monitor.restart()
        state = self.state
        state.validation = metrics
        self._write("validation", metrics._asdict())
        self.monitor.say(
            f"step {state.step}: validation loss {metrics.loss:.3f}, accuracy {metrics.accuracy:.1%} "
            f"(chance {self.training.chance:.1%})"
        )
        if state.best is None or metrics.accuracy > state.best[0]:
            state.best = (metrics.accuracy, state.step)
            if self.ranks.writes:
                self.checkpoints.save_best(self._snapshot())

    def _save(self) -> None:
        if self.ranks.writes:
            self.checkpoints.save(self._snapshot())
            self.monitor.restart()

    def _snapshot(self) -> State:
        return take_snapshot(self.training, self.optimiser, self.state, self.ranks.device)

    def _journal_batch(self, batch: BatchT) -> None:
        digest = torch.tensor(BatchDigest.of(batch), device=self.ranks.device)
        total = BatchDigest.total(sum_over_ranks(digest, self.ranks))
        epoch, _ = self.state.place(self.state.step - 1, len(self.training.loader))
        self._write("batch", {"epoch": epoch, "ranks": self.ranks.size, **total.hex()})

    def _check_batch_size(self, batch: BatchT) -> None:
        sizes = sum_over_ranks(torch.tensor(float(len(batch)), device=self.ranks.device), self.ranks)
        if sizes.item() != self.train.batch_size:
            raise RunError(f"the loader gives {sizes.item():.0f} images a step, batch_size is {self.train.batch_size}")

    def _write(self, event: str, values: dict[str, Any]) -> None:
        if self.journal is not None:
            self.journal.write(event, self.state.step, values)

    def _finish(self, reason: str) -> Result:
        result = Result(
            step=self.state.step,
            finished=self.state.step >= self.train.steps,
            stopped_by=reason,
            loss=self.window.loss,
            accuracy=self.window.accuracy,
            validation=self.state.validation,
            best=self.state.best,
            images_per_s=round(self.monitor.overall(), 1),
        )
        if self.ranks.writes:
            write_output_json(self.training.run / RESULT, result.to_dict())
        return result


def _due(step: int, every: int, last: int) -> bool:
    return step == last or (every > 0 and step % every == 0)


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """Returns the seed of one step of one rank; odd multipliers (of SplitMix64) keep them apart."""
    return (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + rank * 0x94D049BB133111EB) % (1 << 63)

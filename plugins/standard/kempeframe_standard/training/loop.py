"""The loop over the steps of a fit, or of a stack of fits: schedule, snapshots, early stopping, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence, Set

import attrs
import torch
from torch import Tensor

from kempeframe.checkpoints import Checkpoints
from kempeframe.components import FitJob
from kempeframe.runs import stream_seed
from kempeframe.task import Snapshot
from kempeframe.trial import Fitted
from kempeframe_standard.training.divergence import Losses
from kempeframe_standard.training.engines import Engine
from kempeframe_standard.training.losses import correct
from kempeframe_standard.training.passes import Passes
from kempeframe_standard.training.sources import Source, settings, steps_of
from kempeframe_standard.training.stopping import Best, Watch

STREAMS = ("optimizer", "attack")  # kept in checkpoints; the data stream belongs to the passes
REPORT_SECONDS = 0.2  # between two live reports, at least
STEPS_UNSEEN = 50  # losses of so many steps are looked at together where one look would wait for a device


@attrs.define
class Result:
    """How one fit ended."""

    step: int
    loss: float
    weights: dict[str, Tensor] | None  # None: as the engine has them
    converged: bool = True
    diagnostics: dict[str, float] = attrs.field(factory=dict)


class Loop:
    """One fit, or several that go in step.

    `open` are the numbers of the jobs that still train, in the order in which the engine has them.
    """

    def __init__(self, jobs: Sequence[FitJob], engine: Engine, source: Source, checkpoints: Checkpoints):
        self.jobs, self.engine, self.source, self.checkpoints = jobs, engine, source, checkpoints
        self.optimizer = optimizer = settings(jobs[0])
        self.open = list(range(len(jobs)))
        self.ended: dict[int, Result] = {}
        self.step = 0
        self.steps = steps_of(jobs[0])
        self.on_cpu = jobs[0].run.device == "cpu"
        self.losses = Losses(1 if self.on_cpu else STEPS_UNSEEN)
        self.passes = self._passes()
        self.watch = Watch(optimizer.early_stopping) if optimizer.early_stopping else None
        self.validation = source.validation(self.open) if self.watch else None
        self.report_at = time.monotonic() + REPORT_SECONDS
        # Dropout draws from torch's global generator: seeded at each step, it depends on nothing that came before.
        self.seed = stream_seed(jobs[0].run.seed, "optimizer", "steps", engine.rank) >> 1

    def _passes(self) -> Passes:
        draw, runs = self.source.draw(self.open), [self.jobs[job].run for job in self.open]
        return Passes(draw, runs, self.optimizer.accumulate)

    # ---- from the first step to the last ---------------------------------------------------------------------------

    def snapshots(self) -> Iterator[tuple[int, Snapshot]]:
        """Train; yields the snapshots before the last, as (number of the job, snapshot)."""
        due = {step for step in self.optimizer.snapshot_steps if step < self.steps}
        self.engine.train(True)
        if not self._resume() and 0 in due:
            yield from self._shown()
        while self.open:
            with self.jobs[0].run.global_seed("optimizer"):  # puts the caller's state back
                self._advance(due)
            if self.open and self.step in due:
                yield from self._shown()
        self.engine.close()
        self.engine.train(False)

    def last(self, job: int) -> Snapshot:
        """The fit as it ended, in its network."""
        result = self.ended[job]
        network = self.jobs[job].network
        if result.weights is None:
            self.engine.install(job, network)
        else:
            network.load_state_dict(result.weights, strict=False)
        found = {"converged": result.converged, "training_loss": result.loss, **result.diagnostics}
        return Snapshot(result.step, network.eval(), found)

    def _shown(self) -> Iterator[tuple[int, Snapshot]]:
        """A snapshot of each open fit, in evaluation mode."""
        values = self.losses.look()
        self.engine.train(False)
        for row, job in enumerate(self.open):
            network = self.jobs[job].network
            self.engine.install(row, network)
            loss = {"training_loss": values[row]} if values else {}
            yield job, Snapshot(self.step, network.eval(), {"converged": False, **loss})
        self.engine.train(True)

    def _advance(self, due: set[int]) -> None:
        """Steps up to the next snapshot, or to the end."""
        engine, passes, losses = self.engine, self.passes, self.losses
        rule = self.optimizer.monitor or self.optimizer.early_stopping
        every = rule.every if rule else self.steps
        scheduled = not self.optimizer.constant_rate
        seed = torch.default_generator.manual_seed if self.on_cpu else _seed_all
        while True:
            if engine.rank == 0 and self.checkpoints.due():
                self._save()
            if scheduled:
                engine.set_rate(self.optimizer.rate_factor(self.step, self.steps))
            seed(self.seed + self.step)
            loss = engine.step(passes.step())
            self.step += 1
            losses.add(self.step, loss)
            if time.monotonic() >= self.report_at:
                self._report(loss)
            if self.step % every == 0 or self.step == self.steps:
                self._look()
                passes = self.passes
            if not self.open or self.step in due:
                return

    def _look(self) -> None:
        """On the validation split or through the monitor, and end the fits that are done."""
        losses = self.losses.look()
        done = set(self._reached()) if self.optimizer.monitor else set()
        if self.watch is not None:
            assert self.validation is not None
            metric = correct if self.watch.rule.metric == "accuracy" else self.engine.plain
            for row, value in enumerate(self.engine.mean(metric, self.validation)):
                job = self.open[row]
                if self.watch.better(job, value):
                    self.watch.best[job] = Best(value, self.step, losses[row], self.engine.weights(row))
                elif self.watch.over(job):
                    done.add(row)
        last = self.step == self.steps
        self._end(range(len(self.open)) if last else sorted(done), losses, done)

    def _reached(self) -> Iterator[int]:
        """Rows of the fits whose monitored metric has passed its level."""
        monitor = self.optimizer.monitor
        assert monitor is not None
        self.engine.train(False)
        for row, job in enumerate(self.open):
            fit = self.jobs[job]
            self.engine.install(row, fit.network)
            fitted = Fitted.in_training(fit, fit.network.eval(), self.step)
            value = monitor.evaluator.evaluate(fitted, fit.run)[monitor.column]
            if not isinstance(value, Sequence) and monitor.reached(float(value)):
                yield row
        self.engine.train(True)

    def _end(self, rows: Sequence[int], losses: Sequence[float], reached: Set[int]) -> None:
        """Keep the results of fits that are done, and go on with the others."""
        if self.optimizer.descends and self.optimizer.batch_size == "full":
            self.losses.must_have_fallen(rows, self.optimizer.learning_rate)
        for row in rows:
            job = self.open[row]
            if self.watch is not None:
                best = self.watch.best.pop(job)
                self.ended[job] = Result(best.step, best.loss, best.weights)
            elif self.optimizer.monitor is not None:
                self.ended[job] = Result(self.step, losses[row], self.engine.weights(row), row in reached)
            else:
                self.ended[job] = Result(self.step, losses[row], None)
            self.ended[job].diagnostics = dict(self.optimizer.diagnostics(self.engine.torch_optimizer, row))
        kept = [row for row in range(len(self.open)) if row not in set(rows)]
        if rows and kept:
            self._keep(kept)
        elif rows:
            self.open = []

    def _keep(self, rows: Sequence[int]) -> None:
        self.engine.keep(rows)
        self.losses.keep(rows)
        state = self.passes.state()
        state |= {name: [state[name][row] for row in rows] for name in ("start", "now")}
        self.open = [self.open[row] for row in rows]
        self.passes = self._passes()
        self.passes.resume(state)
        self.validation = self.source.validation(self.open) if self.watch else None

    def _report(self, loss: Tensor) -> None:
        self.jobs[0].run.report(self.step, {"loss": float(loss.mean()), "learning_rate": self.engine.rate})
        self.report_at = time.monotonic() + REPORT_SECONDS

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def _save(self) -> None:
        self.losses.look()
        streams = [{kind: self.jobs[j].run.generator(kind).get_state() for kind in STREAMS} for j in self.open]
        self.checkpoints.save(
            {
                "step": self.step,
                "open": self.open,
                "ended": {str(job): attrs.asdict(result, recurse=False) for job, result in self.ended.items()},
                "passes": self.passes.state(),
                "streams": streams,
                "engine": self.engine.state(),
                "losses": self.losses.state(),
                "watch": self.watch.state() if self.watch else {},
            }
        )

    def _resume(self) -> bool:
        """Go on from where an interrupted fit stopped; False where there is no such state."""
        state = self.checkpoints.load()
        if state is None:
            return False
        self.ended = {int(job): Result(**result) for job, result in state["ended"].items()}
        if len(state["open"]) < len(self.open):
            self.engine.keep(state["open"])
            self.open = list(state["open"])
            self.validation = self.source.validation(self.open) if self.watch else None
            self.passes = self._passes()
        self.step = state["step"]
        self.engine.resume(state["engine"])
        self.losses.resume(state["losses"])
        if self.watch is not None:
            self.watch.resume(state["watch"])
        self.passes.resume(state["passes"])
        for job, streams in zip(self.open, state["streams"], strict=True):
            for kind, position in streams.items():
                self.jobs[job].run.generator(kind).set_state(position)
        return True


def _seed_all(seed: int) -> None:
    """torch.manual_seed without its half a millisecond for backends that are not in use."""
    torch.default_generator.manual_seed(seed)
    torch.cuda.manual_seed(seed)

"""The commands `run` and `check`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from kempeframe import ranks
from kempeframe.console import ProgressBar, Several, verdict_table
from kempeframe.execution import check_device, executor_of, options_of
from kempeframe.interrupt import Interrupted, before_hard_exit
from kempeframe.only import only_command
from kempeframe.outputs import RunDirectory
from kempeframe.plan import Plan, certificate_key
from kempeframe.spec import Spec
from kempeframe.status import StatusFile
from kempeframe.store import Store
from kempeframe.study import Study, run_study
from kempeframe.tracking import LiveEvents


def run_command(spec: Spec, arguments: argparse.Namespace) -> int:
    """Run a spec, write its run directory, print its verdicts."""
    start = time.perf_counter()
    if arguments.only is not None:
        return only_command(spec, arguments)
    if ranks.world()[1] > 1:
        arguments.device = ranks.join_world(arguments.device)
    else:
        check_device(arguments.device)
    plan, store = Plan.of(spec), Store(arguments.store)
    options = options_of(arguments, plan)
    if ranks.world()[0] > 0:
        ranks.follow(plan, store, options)
        return 0
    before_hard_exit(store.flush)
    console = Console(quiet=arguments.quiet, soft_wrap=False)
    errors = Console(stderr=True)
    paper = f"  ({escape(spec.paper)})" if spec.paper else ""
    console.print(f"[bold]{escape(spec.title)}[/]{paper}", highlight=False)
    console.print(size_text(spec))
    out = arguments.out or Path("runs") / (spec.name + ("-smoke" if arguments.smoke else ""))
    executor, words = executor_of(arguments, out)
    directory = RunDirectory(out)
    directory.begin(spec, plan, store)
    on_cluster = arguments.executor is not None
    status = StatusFile(out, spec.title, spec.path, words, on_cluster, getattr(arguments, "argv", None))
    ended = "broken"
    live = LiveEvents(plan, out / "tensorboard")
    try:
        with ProgressBar(errors, arguments.argv) as bar:
            study = run_study(spec, store, options, Several(bar, status, live), executor, plan)
        trials_done = time.perf_counter()
        directory.write(study)
        ended = "done"
    except (KeyboardInterrupt, Interrupted):
        ended = "stopped"
        raise
    finally:
        live.close()
        status.end(ended)
    _report(study, console, out, trials_done - start, time.perf_counter() - start)
    for remark in directory.remarks:
        errors.print(f"[yellow]not drawn[/] {escape(remark)}", highlight=False)
    return _exit_code(study, arguments.strict, out, errors)


def _exit_code(study: Study, strict: bool, out: Path, errors: Console) -> int:
    if study.failures:
        failures = out / "failures.json"
        errors.print(f"[red]{len(study.failures)} trials failed[/]: {failures}; the next run tries them again")
        return 3
    unexpected = [verdict for verdict in study.claims if not verdict.expected]
    if strict and unexpected:
        differ = "verdict differs" if len(unexpected) == 1 else "verdicts differ"
        errors.print(f"[red]{len(unexpected)} {differ} from what is expected[/]")
        return 1
    return 0


def _report(study: Study, console: Console, out: Path, trial_seconds: float, seconds: float) -> None:
    others = "all" if not study.failures else "all others" if "done" in study.rows.columns["status"] else ""
    stored = f", {others} from the store" if others else ""
    if study.computed:
        stored = f", {study.computed:,} fits computed"
    console.print(f"trials {trial_seconds:.1f} s{stored}; everything {seconds:.1f} s\n", highlight=False)
    for reason, trials in study.not_covered.items():
        console.print(f"{escape(reason)} ({trials:,} trials)", highlight=False)
    if unfinished := sum(value is not None and not value for value in study.rows.columns.get("converged", ())):
        remark = f"{unfinished:,} of {len(study.rows):,} trials rest on fits that did not converge"
        console.print(f"[yellow]{remark}[/]: column converged", highlight=False)
    if study.claims:
        console.print(verdict_table(study.claims))
    figures = [("figure", out / "figures" / f"{figure.name}.png") for figure in study.spec.figures]
    for label, path in [("table", out / "table.csv"), *figures, ("claims", out / "claims.json")]:
        if path.exists():
            console.print(f"{label:<8}{path}", highlight=False, soft_wrap=True)
    console.print(f"look    tensorboard --logdir {out / 'tensorboard'}", highlight=False, soft_wrap=True)


def size_text(spec: Spec) -> str:
    """`1,100 trials: 55 configurations x 20 seeds`."""
    configurations, seeds = len(spec.configurations), len(spec.seeds)
    return f"{spec.trial_count:,} trials: {configurations:,} configurations x {seeds:,} seeds"


def check_command(spec: Spec, arguments: argparse.Namespace) -> int:
    """Say what a run would do."""
    store = Store(arguments.store)
    plan = Plan.of(spec)
    keys = {cell.key for cells in plan.cells for cell in cells}
    stored_results = sum(key in store.results for key in keys)
    stored_fits = [key for key in plan.fits if key in store.fits]
    print(f"{spec.path}: sound")
    print(f"  {size_text(spec)}")
    print(f"  {len(plan.fits):,} distinct fits, {len(stored_fits):,} of them stored")
    print(f"  {len(keys):,} distinct results, {stored_results:,} of them stored")
    print(f"  {len(spec.claims)} claims, {len(spec.figures)} figures")
    print(f"  {_estimate(plan, store, stored_fits)}")
    sys.stdout.flush()
    return 0


def _estimate(plan: Plan, store: Store, stored: list[str]) -> str:
    missing = len(plan.fits) - len(stored)
    if not missing:
        return "nothing to fit"
    seconds = []
    for key in stored[:200]:
        payload = store.results.get(certificate_key(key))
        if payload is not None:
            seconds.append(float(json.loads(payload).get("fit_seconds", 0.0)))
    if not seconds:
        return f"{missing:,} fits to compute; how long they take is known once some are stored"
    total = missing * sum(seconds) / len(seconds)
    return f"{missing:,} fits to compute, about {total:.0f} s going by those stored"

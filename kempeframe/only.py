"""`kempeframe run SPEC --only TRIAL`: one trial again, alone, in this process; nothing of it is stored.

Alone means without the stack that a study computes it in, so that an error is raised where its author can look at it.
"""

from __future__ import annotations

import argparse
import pdb
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from kempeframe.computing import Options, label
from kempeframe.limits import limited_threads
from kempeframe.locks import Locks
from kempeframe.plan import Plan
from kempeframe.problems import Problem, SpecError
from kempeframe.spec import Spec
from kempeframe.store import Namespace, Store
from kempeframe.study import InProcess, Study, run_study

ELSEWHERE = {"--jobs": 1, "--processes": 1, "--executor": 1, "--trials-per-job": 1, "--max-jobs": 1, "--slurm": 1}


def only_command(spec: Spec, arguments: argparse.Namespace) -> int:
    """Run one trial of a spec and print what was measured; where it raises, its traceback, or the debugger."""
    chosen = one_trial(spec, arguments.only)
    real = Store(arguments.store)
    print(f"trial {arguments.only}: {label(Plan.of(chosen).trials[0])}", flush=True)
    options = Options(device=arguments.device, fresh=arguments.fresh, threads=arguments.threads, raises=True)
    with tempfile.TemporaryDirectory(prefix="kempeframe-only-") as folder:
        try:
            with limited_threads(arguments.threads):
                study = run_study(chosen, ScratchStore(Path(folder), real), options, None, InProcess())
        except (KeyboardInterrupt, SpecError):
            raise
        except Exception as error:
            sys.excepthook(type(error), error, error.__traceback__)
            if arguments.pdb:
                pdb.post_mortem(error.__traceback__)
            return 3
    for name, value in metrics_of(study):
        print(f"  {name}: {value}")
    return 0


def one_trial(spec: Spec, row: int) -> Spec:
    """The spec of one row of the table.

    Raises:
        SpecError: the table has no such row.
    """
    if not 0 <= row < spec.trial_count:
        message = f"the table of {spec.path} has rows 0 to {spec.trial_count - 1}"
        raise SpecError("command line", [Problem(f"--only {row}", "", message)])
    configuration, seed = divmod(row, len(spec.seeds))
    return attrs.evolve(
        spec,
        configurations=(spec.configurations[configuration],),
        seeds=(spec.seeds[seed],),
        claims=(),
        figures=(),
    )


def metrics_of(study: Study) -> Iterator[tuple[str, Any]]:
    """The columns of the one row that were measured."""
    for name, values in study.rows.columns.items():
        if name not in (*study.spec.axes, "seed", "status", "error") and values[0] is not None:
            yield name, values[0]


def command_for(argv: Sequence[str], row: int) -> str:
    """The command that runs just this trial again under the debugger, from the command that ran them all."""
    kept, skip = [], 0
    for argument in argv:
        name, equals, _ = argument.partition("=")
        if skip:
            skip -= 1
        elif name in ELSEWHERE:
            skip = 0 if equals else ELSEWHERE[name]
        elif argument not in ("--quiet", "--strict"):
            kept.append(argument)
    return shlex.join(["kempeframe", *kept, "--only", str(row), "--pdb"])


class Overlay(Namespace):
    """What a store has, and above it what is put: the store below stays as it is."""

    def __init__(self, root: Path, below: Namespace):
        super().__init__(root)
        self.below = below

    def __contains__(self, key: str) -> bool:
        return super().__contains__(key) or key in self.below

    def get(self, key: str) -> bytes | None:
        own = super().get(key)
        return self.below.get(key) if own is None else own


class ScratchStore(Store):
    """A store in a folder that goes, above one that stays."""

    def __init__(self, root: Path, below: Store):
        self.root = root
        self.fits = Overlay(root / "fits", below.fits)
        self.results = Overlay(root / "results", below.results)
        self.checkpoints = Namespace(root / "checkpoints", large=-1)
        self.locks = Locks(root / "locks")


__all__ = ["Overlay", "ScratchStore", "command_for", "metrics_of", "one_trial", "only_command"]

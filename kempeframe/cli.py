"""argv -> the study.

Exit codes: 0 done, 1 an unexpected verdict (with --strict), 2 bad input, 3 a trial failed, 4 the run broke down
(a full disk, say), 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kempeframe import __version__
from kempeframe.argument_types import assignment, count, folder, hours, row, seconds

WIDTH = 78  # of text that argparse leaves as it is
DESCRIPTION = """\
Run experiments that TOML files describe, and hold a paper's claims against
what they measure. Such a file, a spec, names components of plugins (data, a
model, an optimizer, an attack, evaluators), the axes of a sweep, figures, and
claims. Results are stored: what was computed once is not computed again.
"""
EXAMPLES = """`kempeframe COMMAND --help` shows the options of a command.

examples:
  kempeframe run specs/strong_collapse.toml
  kempeframe run specs/strong_collapse.toml --set data.quality=0.1 --seeds 5
  kempeframe run specs/strong_collapse.toml --smoke
  kempeframe check specs/strong_collapse.toml
  kempeframe list
  kempeframe show strong_collapse.gaussian_mixture
"""
EXIT_CODES = """exit codes:
  0    done
  1    with --strict: a verdict is not the one that its claim expects
  2    bad input; nothing was written
  3    a trial failed; the others are stored, the next run tries it again
  4    the run broke down (a full disk, say); what was finished is stored
  130  stopped by Ctrl-C; the next run goes on from there

"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    arguments.argv = list(sys.argv[1:] if argv is None else argv)
    from kempeframe.problems import Breakdown, SpecError

    try:
        return int(arguments.command(arguments))
    except SpecError as error:
        print(error, file=sys.stderr)
        return 2
    except Breakdown as error:
        print(f"{error}\nWhat was finished is stored; the same command goes on from there.", file=sys.stderr)
        return 4
    except BrokenPipeError:  # the reader of a pipe has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        print(f"{error.filename or 'the run directory'} can't be written: {error.strerror}", file=sys.stderr)
        return 4


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kempeframe",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kempeframe {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_check(commands)
    _add_information(commands)
    _add_new(commands)
    return parser


def _command(
    commands: Any, name: str, help_text: str, examples: Sequence[str], more: str = "", codes: str = ""
) -> argparse.ArgumentParser:
    lines = "".join(f"  kempeframe {name} {example}".rstrip() + "\n" for example in examples)
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_text,
        description=textwrap.fill(f"{help_text[0].upper()}{help_text[1:]}. {more}".strip(), WIDTH),
        epilog=f"{codes}examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # else --seed 3 would be --seeds 3
    )
    return made


def _add_spec_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="the spec, a TOML file")
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="set a key as if the value (TOML; quotes may be left out) stood in the file, say data.n_train=500; "
        "a key that the sweep varies is no longer swept; may be given several times",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="run N seeds, whatever the spec says")
    parser.add_argument("--smoke", action="store_true", help="run the spec's smallest version, its [smoke] table")
    parser.add_argument(
        "--store",
        type=folder,
        metavar="DIR",
        help="where results are kept and found again (default: $KEMPEFRAME_STORE, else the user's cache)",
    )


def _add_run(commands: Any) -> None:
    run = _command(
        commands,
        "run",
        "run a spec; write its table, figures, verdicts on its claims, and TensorBoard logs",
        [
            "specs/strong_collapse.toml",
            "specs/strong_collapse.toml --set data.n_train=500 --seeds 3",
            "specs/strong_collapse.toml --smoke --out /tmp/look --strict",
            "my_spec.toml --jobs 8",
            "my_spec.toml --only 12 --pdb",
            "my_spec.toml --processes 2 --device cuda",
            "my_spec.toml --executor slurm --trials-per-job 20 --slurm partition=gpu",
        ],
        "What the store has is not computed again, so that an interrupted run goes on where it stopped.",
        EXIT_CODES,
    )
    _add_spec_arguments(run)
    run.add_argument("--out", type=folder, metavar="DIR", help="where to write (default: runs/NAME of the spec)")
    run.add_argument("--fresh", action="store_true", help="compute everything anew, also what is stored")
    run.add_argument("--strict", action="store_true", help="exit with 1 where a verdict is not what its claim expects")
    run.add_argument("--device", default="cpu", help="where to compute: cpu, cuda, cuda:1 or mps (default: cpu)")
    _add_execution(run)
    run.add_argument("--time-limit", type=seconds, metavar="SECONDS", help="a trial that takes longer fails")
    run.add_argument(
        "--only",
        type=row,
        metavar="TRIAL",
        help="one trial again (a row of the table, from 0), alone in this process; keeps nothing",
    )
    run.add_argument("--pdb", action="store_true", help="with --only: where the trial raises, open the debugger there")
    run.add_argument("--quiet", action="store_true", help="print nothing but problems and failures")
    run.set_defaults(command=_run)


def _add_execution(run: argparse.ArgumentParser) -> None:
    group = run.add_argument_group("processes and machines", "Results are the same whatever is chosen here.")
    group.add_argument(
        "--jobs",
        type=count,
        metavar="N",
        help="trials side by side, each in a process of its own (default: one for each core, or for each GPU; "
        "with --smoke one)",
    )
    group.add_argument(
        "--threads",
        type=count,
        metavar="N",
        help="threads of each process (default: 1, or more where the spec has fewer trials than there are cores)",
    )
    group.add_argument(
        "--processes",
        type=count,
        metavar="N",
        help="train each large network in N processes together, under Accelerate; with --device cuda one for each GPU",
    )
    group.add_argument("--executor", choices=["slurm", "local"], help="run trials as jobs: on Slurm, or as local ones")
    group.add_argument("--trials-per-job", type=count, default=50, metavar="N", help="(default: 50)")
    group.add_argument("--max-jobs", type=count, default=100, metavar="N", help="jobs at once (default: 100)")
    group.add_argument(
        "--slurm",
        type=assignment,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="what Slurm should be asked for, say time=120 (minutes), partition=gpu; may be given several times",
    )


def _add_check(commands: Any) -> None:
    check = _command(
        commands,
        "check",
        "check a spec and say what a run would compute; run and write nothing",
        ["specs/strong_collapse.toml", "specs/strong_collapse.toml --seeds 100"],
        codes="exit codes:\n  0  the spec is sound\n  2  it is not; every problem is printed\n\n",
    )
    _add_spec_arguments(check)
    check.set_defaults(command=_check)


def _add_information(commands: Any) -> None:
    status = _command(
        commands,
        "status",
        "say what a run is at: trials done, running and failed; from any shell that sees its directory",
        ["runs/strong_collapse"],
        codes="exit codes:\n  0  it runs, or is done\n  3  trials failed\n  4  its process is gone\n\n",
    )
    status.add_argument("run", metavar="RUN", type=Path, help="a run directory")
    status.set_defaults(command=_status)
    report = _command(
        commands,
        "report",
        "write one self-contained page of runs: claims, figures, table, spec and environment",
        ["runs/strong_collapse --out report.html", "runs/a runs/b"],
        "Several runs are shown side by side. The file needs nothing else: it can be sent.",
    )
    report.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="a run directory")
    report.add_argument("--out", metavar="FILE", type=Path, default=Path("report.html"), help="(default: report.html)")
    report.set_defaults(command=_report)
    store = _command(
        commands,
        "store",
        "show the store: its size, what is in it, and which run directories need it",
        ["", "prune", "prune --yes"],
        "`prune` says what no run directory needs, and removes it with --yes.",
    )
    store.add_argument("action", metavar="prune", nargs="?", choices=["prune"], help="what no run directory needs")
    store.add_argument("--yes", action="store_true", help="remove it (without: only say what would be removed)")
    store.add_argument(
        "--keep-hours", type=hours, default=1.0, metavar="H", help="leave what is newer than this (default: 1)"
    )
    store.add_argument("--store", type=folder, metavar="DIR", help="where (default: as for `run`)")
    store.set_defaults(command=_store)
    listed = _command(
        commands,
        "list",
        "list the installed plugins and their components",
        ["", "standard", "my_idea.py", "--check"],
        'A spec uses a component by its name here: use = "PLUGIN.COMPONENT".',
    )
    listed.add_argument("plugin", metavar="PLUGIN", nargs="?", help="only this one; or a file, say my_idea.py")
    listed.add_argument("--check", action="store_true", help="import them and say all that is wrong with them")
    listed.set_defaults(command=_list)
    show = _command(
        commands,
        "show",
        "show a component: what it does, its fields with types, ranges and defaults, its source",
        ["standard.ridge", "strong_collapse.theory"],
    )
    show.add_argument("component", metavar="PLUGIN.COMPONENT", help="a name that `kempeframe list` prints")
    show.set_defaults(command=_show)
    schema = _command(
        commands,
        "schema",
        "print a JSON Schema of specs, with which editors complete keys and show their documentation",
        ["> kempeframe.schema.json"],
        'A spec whose first line is "#:schema ./kempeframe.schema.json" is checked by editors that know Taplo.',
    )
    schema.set_defaults(command=_schema)


def _add_new(commands: Any) -> None:
    kinds = ["data", "model", "optimizer", "attack", "evaluator"]
    new = _command(
        commands,
        "new",
        "write a component or a plugin of your own to start from: it runs as it is",
        ["component optimizer my_idea.py", "plugin my_paper --kinds data optimizer evaluator"],
        "A component is one file, with a spec beside it that runs it against a built-in one. A plugin is a "
        "distribution: a package, an entry point, specs, tests on the conformance kit, a README.",
    )
    what = new.add_subparsers(title="what", metavar="WHAT", required=True)
    component = what.add_parser("component", help="one file, and a spec that runs it", allow_abbrev=False)
    component.add_argument("kind", metavar="KIND", choices=kinds, help=", ".join(kinds))
    component.add_argument("file", metavar="FILE.py", type=Path, help="its name is the plugin's and the component's")
    component.set_defaults(command=_new_component)
    plugin = what.add_parser("plugin", help="a distribution of its own", allow_abbrev=False)
    plugin.add_argument("name", metavar="NAME", help="as specs will name it, say my_paper")
    plugin.add_argument("--kinds", nargs="+", choices=kinds, default=kinds, metavar="KIND", help="(default: all five)")
    plugin.add_argument("--out", type=folder, metavar="DIR", help="where its folder goes (default: here)")
    plugin.set_defaults(command=_new_plugin)


def _load(arguments: argparse.Namespace) -> Any:
    from kempeframe.spec import load_spec

    return load_spec(arguments.spec, arguments.overrides, smoke=arguments.smoke, seeds=arguments.seeds)


def _run(arguments: argparse.Namespace) -> int:
    from kempeframe.interrupt import Interrupted, stop_on_interrupt
    from kempeframe.problems import Problem, SpecError
    from kempeframe.ranks import check_time_limit, launch, leave_exit_code
    from kempeframe.running import run_command

    try:
        with stop_on_interrupt():
            spec = _load(arguments)
            if arguments.pdb and arguments.only is None:
                raise SpecError("command line", [Problem("--pdb", "", "says which trial to look into: --only TRIAL")])
            check_time_limit(arguments)
            if arguments.processes is None or arguments.only is not None or "RANK" in os.environ:
                return leave_exit_code(run_command(spec, arguments))
            return launch(arguments.argv, arguments.processes, arguments.device == "cpu")
    except (KeyboardInterrupt, Interrupted):
        print("\nstopped. What was finished is stored; the same command goes on from there.", file=sys.stderr)
        return 130


def _check(arguments: argparse.Namespace) -> int:
    from kempeframe.running import check_command

    return check_command(_load(arguments), arguments)


def _status(arguments: argparse.Namespace) -> int:
    from kempeframe.status import status_command

    return status_command(arguments.run)


def _report(arguments: argparse.Namespace) -> int:
    from kempeframe.report import report_command

    return report_command(arguments.runs, arguments.out)


def _store(arguments: argparse.Namespace) -> int:
    from kempeframe.stored import prune_command, store_command

    if arguments.action is None:
        return store_command(arguments.store)
    return prune_command(arguments.store, arguments.yes, 3600 * arguments.keep_hours)


def _new_component(arguments: argparse.Namespace) -> int:
    from kempeframe.new import new_component

    return new_component(arguments.kind, arguments.file)


def _new_plugin(arguments: argparse.Namespace) -> int:
    from kempeframe.new import new_plugin

    return new_plugin(arguments.name, arguments.kinds, arguments.out)


def _list(arguments: argparse.Namespace) -> int:
    from kempeframe.listing import list_command

    return list_command(arguments.plugin, arguments.check)


def _show(arguments: argparse.Namespace) -> int:
    from kempeframe.information import show_command

    return show_command(arguments.component)


def _schema(arguments: argparse.Namespace) -> int:
    from kempeframe.information import schema_command

    return schema_command()

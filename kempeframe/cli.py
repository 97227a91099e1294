"""argv -> the study. Exit codes: 0 done, 1 an unexpected verdict with --strict, 2 bad input, 3 a trial failed, 130 Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kempeframe import __version__

EXAMPLES = """examples:
  kempeframe run specs/strong_collapse.toml
  kempeframe run specs/strong_collapse.toml --set data.quality=0.1 --seeds 5
  kempeframe run specs/strong_collapse.toml --smoke
  kempeframe check specs/strong_collapse.toml
  kempeframe show strong_collapse.gaussian_mixture
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    from kempeframe.problems import SpecError

    try:
        return int(arguments.command(arguments))
    except SpecError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kempeframe",
        description="Run experiments that TOML specs describe, and hold papers' claims against what they measure.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"kempeframe {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    _add_check(commands)
    _add_information(commands)
    return parser


def _command(commands: Any, name: str, help_text: str, examples: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help_text,
        description=help_text[0].upper() + help_text[1:] + ".",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made


def _add_spec_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="a TOML spec")
    parser.add_argument(
        "--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[], help="override a key of the spec"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="override the number of seeds")
    parser.add_argument("--smoke", action="store_true", help="apply the spec's [smoke] table: its smallest version")
    parser.add_argument("--store", type=Path, metavar="DIR", help="where results are kept (default: the user's cache)")


def _add_run(commands: Any) -> None:
    run = _command(
        commands,
        "run",
        "run a spec: table, figures, verdicts on its claims, TensorBoard",
        "  kempeframe run specs/strong_collapse.toml\n"
        "  kempeframe run specs/strong_collapse.toml --set data.n_train=500 --seeds 3\n"
        "  kempeframe run specs/strong_collapse.toml --smoke --out /tmp/look --strict\n",
    )
    _add_spec_arguments(run)
    run.add_argument("--out", type=Path, metavar="DIR", help="run directory (default: runs/NAME)")
    run.add_argument("--fresh", action="store_true", help="compute everything anew, also what is stored")
    run.add_argument("--strict", action="store_true", help="exit 1 where a verdict differs from what its claim expects")
    run.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, mps (default: cpu)")
    run.add_argument("--time-limit", type=_positive, metavar="SECONDS", help="end a trial that takes longer; it fails")
    run.add_argument("--quiet", action="store_true", help="print nothing but problems and failures")
    run.set_defaults(command=_run)


def _add_check(commands: Any) -> None:
    check = _command(
        commands,
        "check",
        "validate a spec and say what would run",
        "  kempeframe check specs/strong_collapse.toml\n  kempeframe check specs/strong_collapse.toml --seeds 100\n",
    )
    _add_spec_arguments(check)
    check.set_defaults(command=_check)


def _add_information(commands: Any) -> None:
    listed = _command(commands, "list", "list plugins and their components", "  kempeframe list\n  kempeframe list standard\n")
    listed.add_argument("plugin", nargs="?", help="only this plugin")
    listed.set_defaults(command=_list)
    show = _command(
        commands, "show", "show a component: fields, types, defaults, ranges, source", "  kempeframe show standard.ridge\n"
    )
    show.add_argument("component", metavar="PLUGIN.COMPONENT")
    show.set_defaults(command=_show)
    schema = _command(
        commands, "schema", "print a JSON Schema of specs, for editors", "  kempeframe schema > kempeframe.schema.json\n"
    )
    schema.set_defaults(command=_schema)


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def _load(arguments: argparse.Namespace) -> Any:
    from kempeframe.spec import load_spec

    return load_spec(arguments.spec, arguments.overrides, smoke=arguments.smoke, seeds=arguments.seeds)


def _run(arguments: argparse.Namespace) -> int:
    from kempeframe.interrupt import Interrupted, stop_on_interrupt
    from kempeframe.running import run_command

    try:
        with stop_on_interrupt():
            return run_command(_load(arguments), arguments)
    except (KeyboardInterrupt, Interrupted):
        print("\nstopped. What was finished is stored; the same command goes on from there.", file=sys.stderr)
        return 130


def _check(arguments: argparse.Namespace) -> int:
    from kempeframe.running import check_command

    return check_command(_load(arguments), arguments)


def _list(arguments: argparse.Namespace) -> int:
    from kempeframe.information import list_command

    return list_command(arguments.plugin)


def _show(arguments: argparse.Namespace) -> int:
    from kempeframe.information import show_command

    return show_command(arguments.component)


def _schema(arguments: argparse.Namespace) -> int:
    from kempeframe.information import schema_command

    return schema_command()

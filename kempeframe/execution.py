"""What the command line says about processes and machines -> options and an executor."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from kempeframe.computing import Options
from kempeframe.plan import Plan
from kempeframe.problems import Problem, SpecError
from kempeframe.study import Executor, InProcess


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def options_of(arguments: argparse.Namespace, plan: Plan) -> Options:
    """Options of a run.

    The number of threads follows from the spec and the machine, not from --jobs or from what is stored already: results
    may depend on it in their last bits.
    """
    threads = arguments.threads or max(1, cores() // max(1, plan.size))
    return Options(device=arguments.device, fresh=arguments.fresh, time_limit=arguments.time_limit, threads=threads)


def executor_of(arguments: argparse.Namespace, out: Path) -> tuple[Executor, str]:
    """Where units are computed, and that in words."""
    from kempeframe import ranks

    processes = ranks.world()[1]
    if processes > 1:
        return ranks.Ranks(), f"{processes} processes under Accelerate"
    if arguments.executor is not None:
        from kempeframe.cluster import Cluster
        from kempeframe.jobs import JobExecutor

        parameters = dict(text.split("=", 1) for text in arguments.slurm)
        where = "Slurm" if arguments.executor == "slurm" else "submitit's local jobs"
        jobs = JobExecutor(out / "jobs", arguments.executor, arguments.trials_per_job, arguments.max_jobs, parameters)
        packing = f"{arguments.trials_per_job} trials a job, at most {arguments.max_jobs} jobs at once"
        return Cluster(jobs), f"{where}, {packing}"
    devices = _devices(arguments.device)
    # A smoke version is over before further processes have loaded torch.
    default = 1 if arguments.smoke else devices if arguments.device == "cuda" else cores()
    jobs_wanted = arguments.jobs or default
    if jobs_wanted == 1:
        return InProcess(), "1 process"
    from kempeframe.pool import WorkerPool

    return WorkerPool(jobs_wanted, devices), f"{jobs_wanted} processes"


def _devices(device: str) -> int:
    """How many GPUs are dealt out to processes."""
    if device != "cuda":
        return 1
    import torch

    return max(1, torch.cuda.device_count())


def check_device(name: str) -> None:
    """A device that this machine does not have is bad input, said before anything runs."""
    if name == "cpu":
        return
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        problem = Problem(f"--device {name}", "", f"can't be used here: {reason}")
        raise SpecError("command line", [problem]) from None

"""Units as jobs on a cluster: those that can be computed now are submitted, then those that depend on them."""

from __future__ import annotations

import time
from typing import Any

from kempeframe.jobs import JobExecutor
from kempeframe.pool import fail_unit
from kempeframe.queues import Queue
from kempeframe.study import Work
from kempeframe.workers import request_of, unit_as_data


class Cluster:
    """An executor on top of submitit. Nothing is loaded where jobs are submitted; the store is all that they share."""

    def __init__(self, jobs: JobExecutor):
        self.jobs = jobs
        self.processes = jobs.max_jobs

    def execute(self, queue: Queue, work: Work) -> None:
        request = request_of(work.spec, work.plan, work.session.store.root, work.options)
        while queue:
            units = list(iter(queue.take, None))
            if not units:
                time.sleep(0.1)
                continue

            def on_event(index: int, event: list[Any], units: list[Any] = units) -> None:
                if work.collector.hear(event, index):
                    return
                name, *arguments = event
                if name == "unit":
                    work.collector.current("", -1, index)
                    queue.done(units[index])
                elif name == "lost":
                    fail_unit(work, queue, units[index], str(arguments[-1]))

            self.jobs.execute(request, [unit_as_data(unit, work.plan) for unit in units], on_event)

"""The study that tools/chaos.py runs, and the rows of its tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

SPEC = """
seeds = 5
plugins = ["chaos_plugin.py"]
data = { use = "chaos_plugin.number" }
model = { use = "chaos_plugin.weights" }
optimizer = { use = "chaos_plugin.pull" }
[[evaluator]]
use = "chaos_plugin.weight"
[[evaluator]]
use = "chaos_plugin.truth"
[[evaluator]]
use = "chaos_plugin.prediction"
[fit.first]
data = { use = "chaos_plugin.number", shift = 100.0 }
model = { use = "chaos_plugin.weights" }
optimizer = { use = "chaos_plugin.pull", seconds = 0.1 }
[fit.second]
data = { use = "chaos_plugin.number", shift = 1000.0, teacher = "first" }
model = { use = "chaos_plugin.weights" }
optimizer = { use = "chaos_plugin.pull", seconds = 0.1 }
[sweep]
"evaluator.weight.offset" = [0.0, 1.0]
[sweep.setting]
failing = { optimizer.failing_seed = 1 }
"""
SETTINGS = {  # name -> how many for a study of size 1, what differs; those that can go on from a checkpoint first
    "long": (1, 'optimizer = { use = "chaos_plugin.long" }'),
    "trajectory": (1, 'optimizer = { use = "chaos_plugin.long", every = 8 }'),
    "quick": (12, ""),
    "slow": (2, "optimizer.seconds = 0.1"),
    "stacked": (5, 'optimizer = { use = "chaos_plugin.stacked" }'),
    "joined": (3, 'optimizer = { use = "chaos_plugin.joined", seconds = 0.1 }'),
    "nested": (3, 'data.teacher = "second"'),
    "large": (1, "model.size = 300000"),
}


def spec_text(size: float) -> str:
    """The spec: trials of every sort."""
    lines = [
        f"{name}_{i} = {{ {', '.join(filter(None, [f'data.shift = {i}.0', what]))} }}"
        for name, (count, what) in SETTINGS.items()
        for i in range(max(1, round(count * size)))
    ]
    return SPEC + "\n".join(lines) + "\n"


def tables(out: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The rows of a run directory's tables by what names them, without the times."""
    import pyarrow.parquet

    with (out / "table.csv").open(newline="", encoding="utf-8") as file:
        found = {"table.csv": [*csv.DictReader(file)]}
    for name in ("table", "history"):
        found[f"{name}.parquet"] = pyarrow.parquet.read_table(out / f"{name}.parquet").to_pylist()
    named = ("setting", "evaluator.weight.offset", "seed", "step")
    return {
        name: {
            " ".join(str(row.get(part, "")) for part in named): {k: v for k, v in row.items() if k != "fit_seconds"}
            for row in rows
        }
        for name, rows in found.items()
    }

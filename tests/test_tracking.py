"""TensorBoard: what its own reader finds in the event files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kempeframe.cli import main
from kempeframe.tracking import run_names

FLAGSHIP = Path(__file__).parents[1] / "specs" / "strong_collapse.toml"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    places = ["--store", str(folder / "store"), "--out", str(folder / "out")]
    assert main(["run", str(FLAGSHIP), "--smoke", "--quiet", *places]) == 0
    return folder / "out" / "tensorboard"


def reader(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_figures_and_claims_are_in_the_root_run(logs: Path) -> None:
    root = reader(logs)
    assert set(root.Tags()["images"]) == {"(study)/scaling", "(study)/claims"}
    (image,) = root.Images("(study)/scaling")
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert image.width > image.height > 100
    (text,) = root.Tensors("(study)/claims")
    assert b"1 % of synthetic data" in text.tensor_proto.string_val[0]


def test_one_run_for_each_trial_and_no_other(logs: Path) -> None:
    runs = {str(file.parent.relative_to(logs)) for file in logs.rglob("events*")}
    assert len(runs) == 6 * 4 + 1
    assert "synthetic_fraction=0.01 n_train=1e5/seed 3" in runs


def test_scalars_are_those_of_the_table(logs: Path) -> None:
    import csv

    rows = list(csv.DictReader((logs.parent / "table.csv").read_text().splitlines()))
    wanted = {"data.synthetic_fraction": "0.01", "data.n_train": "100000", "seed": "2"}
    row = next(r for r in rows if wanted.items() <= r.items())
    trial = reader(logs / "synthetic_fraction=0.01 n_train=1e5" / "seed 2")
    (event,) = trial.Scalars("excess_risk/test_error")
    assert event.value == pytest.approx(float(row["excess_risk.test_error"]), rel=1e-6)


def test_hparams_are_declared_once_with_one_group_for_each_configuration(logs: Path) -> None:
    from tensorboard.plugins.hparams import metadata

    root = reader(logs)
    content = root.summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    experiment = metadata.parse_experiment_plugin_data(content)
    assert [info.name for info in experiment.hparam_infos] == ["data.synthetic_fraction", "data.n_train"]
    assert "excess_risk/test_error" in [info.name.tag for info in experiment.metric_infos]
    groups = set()
    for file in logs.rglob("events*"):
        if file.parent != logs:
            found = reader(file.parent).summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
            groups.add(metadata.parse_session_start_info_plugin_data(found).group_name)
    assert len(groups) == 6


def test_run_names_are_short_and_distinct() -> None:
    class Configuration:
        def __init__(self, **axes: object):
            self.axes = axes

    configurations: Any = [Configuration(a=1.0), Configuration(a=1e-7), Configuration(a=1.0), Configuration()]
    names = list(run_names(configurations).values())
    assert len(set(names)) == 4
    assert names[0] == "a=1"
    assert json.dumps(names)

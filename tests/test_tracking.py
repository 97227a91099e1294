"""TensorBoard: what its own reader finds in the event files."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kempeframe.cli import main
from kempeframe.tracking_events import EventFile, events_of, scalar
from kempeframe.tracking_layout import band, layout_of
from kempeframe.tracking_live import LiveEvents, clear, live_ending, wanted
from kempeframe.tracking_names import STUDY, metrics_by_importance, run_names, short_names
from kempeframe.tracking_pictures import CARD, small_claims

ROOT = Path(__file__).parents[1]
FLAGSHIP = ROOT / "specs" / "strong_collapse.toml"
CURVES = """
title = "Small networks"
seeds = 3
[data]
use = "standard.digits"
n_train = 100
[model]
use = "standard.mlp"
width = 4
[optimizer]
use = "standard.adamw"
learning_rate = 1e-2
epochs = 2
snapshots = [1, 3]
[[evaluator]]
use = "standard.accuracy"
[sweep]
"model.width" = [4, 8]
"optimizer.learning_rate" = [1e-2, 1e-3]
[[figure]]
name = "width"
x = "model.width"
y = "accuracy"
[[claim]]
statement = "better than nothing"
threshold = { of = "accuracy" }
above = 0.0
"""


def run(spec: Path, out: Path, *more: str) -> Path:
    places = ["--store", str(out.parent / "store"), "--out", str(out)]
    assert main(["run", str(spec), "--quiet", "--jobs", "1", *places, *more]) == 0
    return out / "tensorboard"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(FLAGSHIP, tmp_path_factory.mktemp("run") / "out", "--smoke")


@pytest.fixture(scope="module")
def curves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curves")
    (folder / "curves.toml").write_text(CURVES)
    return run(folder / "curves.toml", folder / "out")


def reader(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def runs_of(logs: Path) -> set[str]:
    return {str(file.parent.relative_to(logs)) for file in logs.rglob("events*")}


def table_of(logs: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((logs.parent / "table.csv").read_text().splitlines()))


def experiment_of(logs: Path) -> Any:
    from tensorboard.plugins.hparams import metadata

    content = reader(logs / STUDY).summary_metadata[metadata.EXPERIMENT_TAG].plugin_data.content
    return metadata.parse_experiment_plugin_data(content)


def layout(logs: Path) -> dict[str, list[Any]]:
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    (event,) = reader(logs / STUDY).Tensors(metadata.CONFIG_SUMMARY_TAG)
    found = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    return {category.title: list(category.chart) for category in found.category}


def test_figures_and_claims_come_first(logs: Path) -> None:
    root = reader(logs / STUDY)
    images = sorted(root.Tags()["images"])
    assert images == ["(study)/claims", "(study)/figure 1: scaling", "in full size/claims", "in full size/scaling"]
    scalars = reader(logs / "synthetic_fraction=0.01 n_train=1e5").Tags()["scalars"]
    assert images[0] < min(scalars), "TensorBoard opens the groups of cards that sort first"
    for tag in images[:2]:
        (image,) = root.Images(tag)
        assert image.encoded_image_string.startswith(b"\x89PNG")
        assert 100 < image.width <= CARD[0] and 100 < image.height <= CARD[1]
    (large,) = root.Images("in full size/scaling")
    assert large.width > 2 * CARD[0]
    (text,) = root.Tensors("claims")
    assert b"1 % of synthetic data" in text.tensor_proto.string_val[0]


def test_no_tag_has_two_kinds_of_content(curves: Path) -> None:
    """TensorBoard shows neither: a claim's picture and its text once shared a tag, and both were missing."""
    for folder in {file.parent for file in curves.rglob("events*")}:
        kinds: dict[str, set[str]] = {}
        for path in folder.glob("events*"):
            for event in events_of(path):
                for value in event.summary.value:
                    kinds.setdefault(value.tag, set()).add(str(value.WhichOneof("value")))
        assert kinds and all(len(found) == 1 for found in kinds.values())


def test_one_run_for_each_configuration_and_no_other(logs: Path) -> None:
    assert len(runs_of(logs)) == 6 + 1
    assert {STUDY, "synthetic_fraction=0.01 n_train=1e5"} <= runs_of(logs)


def test_scalars_are_those_of_the_table(logs: Path) -> None:
    wanted = {"data.synthetic_fraction": "0.01", "data.n_train": "100000"}
    rows = [r for r in table_of(logs) if wanted.items() <= r.items()]
    values = {int(r["seed"]): float(r["excess_risk.test_error"]) for r in rows}
    assert len(values) == 4
    configuration = reader(logs / "synthetic_fraction=0.01 n_train=1e5")
    (mean,) = configuration.Scalars("excess_risk/test_error")
    assert mean.value == pytest.approx(sum(values.values()) / 4, rel=1e-6)
    by_seed = {event.step: event.value for event in configuration.Scalars("by seed/excess_risk.test_error")}
    assert by_seed == pytest.approx(values, rel=1e-6)


def test_hparams_are_declared_once_with_one_session_for_each_configuration(logs: Path) -> None:
    from tensorboard.plugins.hparams import metadata

    experiment = experiment_of(logs)
    assert [info.name for info in experiment.hparam_infos] == ["data.synthetic_fraction", "data.n_train"]
    assert [info.display_name for info in experiment.hparam_infos] == ["synthetic_fraction", "n_train"]
    assert experiment.metric_infos[0].name.tag == "excess_risk/test_error", "what the claims are about"
    groups = set()
    for folder in runs_of(logs) - {STUDY}:
        found = reader(logs / folder)
        content = found.summary_metadata[metadata.SESSION_START_INFO_TAG].plugin_data.content
        groups.add(metadata.parse_session_start_info_plugin_data(content).group_name)
        assert {info.name.tag for info in experiment.metric_infos} <= set(found.Tags()["scalars"])
    assert len(groups) == 6


def test_curves_have_intervals_and_every_trial_its_own(curves: Path) -> None:
    configuration = reader(curves / "width=4 learning_rate=0.01")
    tags = set(configuration.Tags()["scalars"])
    assert {f"seeds/accuracy.accuracy, seed {seed}" for seed in range(3)} <= tags
    mean, low, high = (configuration.Scalars(tag) for tag in band("where width=4/accuracy.accuracy"))
    assert [e.step for e in mean] == [e.step for e in low] == [e.step for e in high]
    assert len(mean) == 3, "two snapshots and the last"
    for middle, lower, upper in zip(mean, low, high, strict=True):
        assert lower.value <= middle.value <= upper.value
    assert any(lower.value < upper.value for lower, upper in zip(low, high, strict=True))
    each = [configuration.Scalars(f"seeds/accuracy.accuracy, seed {seed}")[-1].value for seed in range(3)]
    assert mean[-1].value == pytest.approx(sum(each) / 3, rel=1e-5)


def test_every_chart_of_the_layout_finds_its_curves(curves: Path) -> None:
    tags = {run: set(reader(curves / run).Tags()["scalars"]) for run in runs_of(curves)}
    found = {}
    for category, charts in layout(curves).items():
        for chart in charts:
            if chart.HasField("margin"):
                (series,) = chart.margin.series
                needed = {series.value, series.lower, series.upper}
                lines = [run for run, own in tags.items() if needed <= own]
                assert all(needed <= own or not needed & own for own in tags.values()), "else 'Missing Tags' is shown"
            else:
                lines = [t for own in tags.values() for t in own if re.match(chart.multiline.tag[0], t)]
            found[category.partition(":")[0], chart.title] = len(lines)
    assert found == {
        ("All configurations", "accuracy"): 4,
        ("A chart for each width", "accuracy where width=8"): 2,
        ("A chart for each width", "accuracy where width=4"): 2,
        ("A chart for each learning rate", "accuracy where learning_rate=0.001"): 2,
        ("A chart for each learning rate", "accuracy where learning_rate=0.01"): 2,
        ("Every trial", "accuracy, every seed"): 12,
    }


def test_without_curves_there_is_no_layout_and_with_one_axis_no_chart_for_each_value(logs: Path) -> None:
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    assert metadata.CONFIG_SUMMARY_TAG not in reader(logs / STUDY).Tags()["tensors"]
    found = layout_pb2.Layout.FromString(layout_of({"a.b": [1, 2]}, {"x.y": "y"}, 1, trained=True))
    assert [category.title.partition(":")[0] for category in found.category] == ["All configurations", "While training"]
    assert found.category[0].chart[0].multiline.tag == ["x/y$"]


def test_another_spec_in_the_same_directory_leaves_nothing_of_the_first(curves: Path, tmp_path: Path) -> None:
    shutil.copytree(curves.parent.parent, tmp_path / "again")
    spec, out = tmp_path / "again" / "curves.toml", tmp_path / "again" / "out"
    before = runs_of(out / "tensorboard")
    file = EventFile(out / "tensorboard" / "width=8 learning_rate=0.01", 1.0, ".of-another-fit.live")
    file.close()
    stale = file.path
    spec.write_text(CURVES.replace("[4, 8]", "[8, 16]").replace("epochs = 2", "epochs = 3"))
    again = run(spec, out)
    assert runs_of(again) - before == {"width=16 learning_rate=0.01", "width=16 learning_rate=0.001"}
    assert before - runs_of(again) == {"width=4 learning_rate=0.01", "width=4 learning_rate=0.001"}
    assert not stale.exists(), "the curve of a fit that this study does not have"
    files = {file.name: file.read_bytes() for file in again.rglob("events*")}
    assert {file.name: file.read_bytes() for file in run(spec, out).rglob("events*")} == files


def plan_of(*widths: int) -> Any:
    configurations = [SimpleNamespace(axes={"model.width": w}, fit=None) for w in widths]
    return SimpleNamespace(trials=[SimpleNamespace(configuration=c, seed=0) for c in configurations])


def test_live_curves_go_on_after_a_checkpoint_and_start_again_without_one(tmp_path: Path) -> None:
    plan = plan_of(4, 8)

    def train(*steps: int) -> list[int]:
        live = LiveEvents(plan, tmp_path)
        live.current("fit", 1)
        for step in steps:
            live.report(step, {"loss": 1.0 / step})
        live.current("")
        events = reader(tmp_path / "width=8").Scalars("training/loss, seed 0")
        times = [event.wall_time for event in events]
        assert times == sorted(set(times)), "each point says when it was, for TensorBoard's axes of time"
        return [event.step for event in events]

    assert train(1, 2, 3) == [1, 2, 3]
    assert train(3, 4) == [1, 2, 3, 4], "resumed"
    assert train(1, 2) == [1, 2], "begun again"
    assert len(list(tmp_path.rglob("events*"))) == 1


def test_only_live_curves_of_this_study_are_kept(tmp_path: Path) -> None:
    plan = plan_of(4, 8)
    names = run_names([trial.configuration for trial in plan.trials])
    for name, ending in [("width=4", live_ending(plan.trials[0])), ("width=4", ".other.live"), ("width=9", ".x")]:
        EventFile(tmp_path / name, 1.0, ending).close()
    clear(tmp_path, wanted(plan, names))
    (kept,) = tmp_path.rglob("events*")
    assert kept.parent.name == "width=4" and kept.name.endswith(live_ending(plan.trials[0]))
    assert [path.name for path in tmp_path.iterdir()] == ["width=4"]


def test_a_file_that_was_cut_off_is_read_up_to_there(tmp_path: Path) -> None:
    file = EventFile(tmp_path, 1.0)
    for step in range(3):
        file.summary([scalar("a", step)], step)
    file.close()
    file.path.write_bytes(file.path.read_bytes()[:-5])
    assert [event.step for event in events_of(file.path)] == [0, 1]


def configuration(**axes: object) -> Any:
    return SimpleNamespace(axes={name.replace("__", "."): value for name, value in axes.items()})


def test_run_names_are_short_and_distinct() -> None:
    several = [configuration(a=1.0), configuration(a=1e-7), configuration(a=1.0), configuration()]
    names = list(run_names(several).values())
    assert len(set(names)) == 4
    assert names[0] == "a=1"
    assert json.dumps(names)


def test_run_names_leave_out_what_tells_nothing_apart() -> None:
    same = [configuration(data__n_train=100, model__width=w) for w in (4, 8)]
    assert list(run_names(same).values()) == ["width=4", "width=8"]
    zipped = [
        configuration(data__first="a long name of data", model__width=w, model__other=f"{w} " * 20) for w in (4, 8)
    ]
    assert list(run_names(zipped).values()) == ["width=4", "width=8"]
    assert list(run_names([configuration(a=1)]).values()) == ["all"]
    assert list(run_names([configuration(a="x/y"), configuration(a="z")]).values()) == ["a=x_y", "a=z"]


def test_short_names_are_as_long_as_they_must_be() -> None:
    names = ["model.width", "fit.big.model.width", "data.n_train", "seed"]
    assert list(short_names(names).values()) == ["model.width", "big.model.width", "n_train", "seed"]


def test_metrics_of_claims_come_before_those_of_figures() -> None:
    known = {"a.x": ("a", "x"), "b.y": ("b", "y"), "y": ("b", "y"), "c.z": ("c", "z"), "d.w": ("d", "w")}
    claim, figure = SimpleNamespace(columns=lambda: ["c.z", "model.width"]), SimpleNamespace(y="y")
    spec: Any = SimpleNamespace(claims=[claim], figures=[figure], evaluator_columns=known)
    assert metrics_by_importance(spec, excluded=["a.x"]) == ["c.z", "b.y", "d.w"]


@pytest.mark.parametrize("count", [1, 4, 40])
def test_the_card_of_claims_has_room_for_any_number(count: int) -> None:
    claim = SimpleNamespace(statement="A statement of $many$ words that goes on and on " * 3, source="", expect="holds")
    verdict: Any = SimpleNamespace(claim=claim, decision="undecided", decisive=None, reason="too few seeds")
    png = small_claims([verdict] * count)
    assert (int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")) == CARD


@pytest.mark.skipif(not (shutil.which("chromium") and shutil.which("chromedriver")), reason="no chromium here")
def test_the_first_page_shows_claims_and_figures(curves: Path, tmp_path: Path) -> None:
    pytest.importorskip("selenium")
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import look_at_tensorboard as look
    finally:
        sys.path.pop(0)
    with look.server(curves, 5) as (address, _), look.browser() as driver:
        look.open_page(driver, address)
        cards = driver.find_elements("css selector", "card-view")
        assert driver.current_url.endswith("#timeseries")
        shown = [card.text.replace("\n", " ") for card in cards]
    assert "claims" in shown[0] and "figure 1: width" in shown[1] and "accuracy" in shown[2], shown

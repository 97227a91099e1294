"""Everything -> TensorBoard event files, written with TensorBoard's own protocol buffers (torch is not needed)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kempeframe.console import interval_text
from kempeframe.figures import number
from kempeframe.study import Progress

if TYPE_CHECKING:
    from kempeframe.claims import Verdict
    from kempeframe.plan import Plan
    from kempeframe.study import Study
    from kempeframe.sweep import Configuration

MOST_CONFIGURATIONS = 200  # beyond, the HParams tab is of no use to anybody
LIVE = ".live"  # ending of event files that are written while a study runs
MOST_RUNS = 400  # TensorBoard starts with all runs switched off where there are more than 500


class EventFile:
    """One event file of one TensorBoard run."""

    def __init__(self, folder: Path, stamp: float, ending: str = ".kempeframe"):
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._event = event_pb2.Event
        self._stamp = stamp
        self._file = (folder / f"events.out.tfevents.{int(stamp)}{ending}").open("wb")
        self._writer = RecordWriter(self._file)
        self._writer.write(self._event(wall_time=stamp, file_version="brain.Event:2").SerializeToString())

    def summary(self, values: Iterable[Any], step: int = 0) -> None:
        """One event that holds Summary.Value messages."""
        from tensorboard.compat.proto import summary_pb2

        event = self._event(wall_time=self._stamp, step=step, summary=summary_pb2.Summary(value=list(values)))
        self._writer.write(event.SerializeToString())

    def flush(self) -> None:
        """Let readers see what was written."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def write(study: Study, verdicts: Sequence[Verdict], pictures: Sequence[Path], folder: Path) -> None:
    """Figures, claims and the HParams experiment in the root run; below it a run for each trial.

    A configuration is a session group and its seeds are the sessions; where that makes too many runs, a configuration
    is one session that holds the means over its seeds.
    """
    _clear(folder)
    stamp = time.time()
    root = EventFile(folder, stamp)
    for picture in pictures:
        root.summary([_image(f"(study)/{picture.stem}", picture)])
    root.summary([_text("(study)/claims", claims_as_markdown(verdicts))])
    configurations = study.spec.configurations
    if len(configurations) <= MOST_CONFIGURATIONS:
        root.summary([_experiment(study, [f"{name}/{metric}" for name, metric in _metrics(study)], stamp)])
        names = run_names(configurations)
        by_seed = len(study.plan.trials) <= MOST_RUNS
        members: dict[tuple[int, int], list[int]] = {}
        for index, trial in enumerate(study.plan.trials):
            members.setdefault((id(trial.configuration), trial.seed if by_seed else -1), []).append(index)
        for (configuration, seed), indices in members.items():
            name = names[configuration]
            _session(study, indices, run_folder(folder, name, seed if by_seed else None), name, stamp)
    root.close()


def run_folder(folder: Path, name: str, seed: int | None) -> Path:
    """The run of a configuration, or of one of its seeds."""
    return folder / name if seed is None else folder / name / f"seed {seed}"


def _clear(folder: Path) -> None:
    """Remove what an earlier run wrote, but what was written while networks trained: nothing else has that."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_file() and not path.name.endswith(LIVE):
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()


class LiveEvents(Progress):
    """Training losses and learning rates, as they come: an event file in the run of each trial that trains."""

    def __init__(self, plan: Plan, folder: Path):
        self.plan, self.folder = plan, folder
        configurations = list({id(t.configuration): t.configuration for t in plan.trials}.values())
        self.names = run_names(configurations) if len(plan.trials) <= MOST_RUNS else {}
        self.rows: dict[int, int] = {}  # worker -> row of the trial it is at
        self.files: dict[int, EventFile] = {}

    def current(self, label: str, row: int = -1, worker: int = 0) -> None:
        self.rows[worker] = row
        done = self.files.pop(worker, None)
        if done is not None:
            done.close()

    def report(self, step: int, metrics: Mapping[str, float], worker: int = 0) -> None:
        row = self.rows.get(worker, -1)
        if row < 0 or not self.names:
            return
        if worker not in self.files:
            trial = self.plan.trials[row]
            name = self.names[id(trial.configuration)]
            self.files[worker] = EventFile(run_folder(self.folder, name, trial.seed), time.time(), LIVE)
        self.files[worker].summary([_scalar(f"training/{name}", value) for name, value in metrics.items()], step)
        self.files[worker].flush()


def run_names(configurations: Sequence[Configuration]) -> dict[int, str]:
    """A short readable name for each configuration: its swept values."""
    names: dict[int, str] = {}
    for index, configuration in enumerate(configurations):
        parts = [f"{name.rpartition('.')[2]}={number(value)}" for name, value in configuration.axes.items()]
        name = " ".join(parts).replace("/", "_")[:150] or "all"
        names[id(configuration)] = name if name not in names.values() else f"{name} #{index}"
    return names


def _metrics(study: Study) -> list[tuple[str, str]]:
    """Evaluators and their metrics; those that are lists of numbers are left to figures."""
    found = sorted(set(study.spec.evaluator_columns.values()))
    columns = study.rows.columns
    return [
        (name, metric) for name, metric in found if not any(isinstance(v, list) for v in columns[f"{name}.{metric}"])
    ]


def _session(study: Study, indices: Sequence[int], folder: Path, group: str, stamp: float) -> None:
    """One run: the mean metrics of the rows, and the hyperparameters they share."""
    file = EventFile(folder, stamp)
    columns = study.rows.columns
    history = study.snapshots.columns
    steps: dict[int, list[int]] = {}  # step -> rows of the history
    for i in indices:
        for row in study.history_rows[i]:
            steps.setdefault(history["step"][row], []).append(row)
    axes = study.plan.trials[indices[0]].configuration.axes
    file.summary([_session_start(axes, group, stamp)])
    for step, rows in sorted(steps.items()):
        values = []
        for name, metric in _metrics(study):
            found = [history[f"{name}.{metric}"][row] for row in rows]
            numbers = [float(v) for v in found if v is not None and not math.isnan(v)]
            if numbers:
                values.append(_scalar(f"{name}/{metric}", sum(numbers) / len(numbers)))
        file.summary(values, step)
    file.summary([_session_end(all(columns["status"][i] == "done" for i in indices), stamp)])
    file.close()


def _scalar(tag: str, value: float) -> Any:
    from tensorboard.compat.proto import summary_pb2

    return summary_pb2.Summary.Value(tag=tag, simple_value=value)


def _image(tag: str, picture: Path) -> Any:
    from tensorboard.compat.proto import summary_pb2

    data = picture.read_bytes()
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")  # a PNG's header
    image = summary_pb2.Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=data)
    return summary_pb2.Summary.Value(tag=tag, image=image)


def _text(tag: str, markdown: str) -> Any:
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

    shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=1)])
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[markdown.encode()], tensor_shape=shape)
    metadata = summary_pb2.SummaryMetadata(plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name="text"))
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)


def claims_as_markdown(verdicts: Sequence[Verdict]) -> str:
    """The claims as a table."""
    lines = ["| verdict | claim | measured, 95 % interval | source |", "| --- | --- | --- | --- |"]
    for verdict in verdicts:
        part = verdict.decisive
        measured = interval_text(part) if part else verdict.reason
        lines.append(f"| **{verdict.decision}** | {verdict.claim.statement} | {measured} | {verdict.claim.source} |")
    return "\n".join(lines)


def _hparams(tag: str, **content: Any) -> Any:
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString())
    return summary_pb2.Summary.Value(
        tag=tag, metadata=summary_pb2.SummaryMetadata(plugin_data=plugin), tensor=metadata.NULL_TENSOR
    )


def _experiment(study: Study, tags: Sequence[str], stamp: float) -> Any:
    """All hyperparameters and metrics of the study, declared once."""
    from google.protobuf import struct_pb2
    from tensorboard.plugins.hparams import api_pb2, metadata

    axes = {a: [c.axes.get(a) for c in study.spec.configurations] for a in study.spec.axes}
    infos = []
    for name, values in axes.items():
        info = api_pb2.HParamInfo(name=name, type=_type(values))
        domain = [_struct_value(v) for v in dict.fromkeys(values)]
        info.domain_discrete.CopyFrom(struct_pb2.ListValue(values=domain))
        infos.append(info)
    metrics = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag.replace("/", ".")) for tag in tags]
    experiment = api_pb2.Experiment(
        description=study.spec.title, hparam_infos=infos, metric_infos=metrics, time_created_secs=stamp
    )
    return _hparams(metadata.EXPERIMENT_TAG, experiment=experiment)


def _type(values: Sequence[Any]) -> int:
    from tensorboard.plugins.hparams import api_pb2

    if all(isinstance(v, bool) for v in values):
        return int(api_pb2.DATA_TYPE_BOOL)
    numeric = all(isinstance(v, (int, float)) for v in values)
    return int(api_pb2.DATA_TYPE_FLOAT64 if numeric else api_pb2.DATA_TYPE_STRING)


def _struct_value(value: Any) -> Any:
    from google.protobuf import struct_pb2

    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, (int, float)):
        return struct_pb2.Value(number_value=value)
    return struct_pb2.Value(string_value=str(value))


def _session_start(values: dict[str, Any], group: str, stamp: float) -> Any:
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

    info = SessionStartInfo(group_name=group, start_time_secs=stamp)
    for name, value in values.items():
        info.hparams[name].CopyFrom(_struct_value(value))
    return _hparams(metadata.SESSION_START_INFO_TAG, session_start_info=info)


def _session_end(done: bool, stamp: float) -> Any:
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

    status = api_pb2.STATUS_SUCCESS if done else api_pb2.STATUS_FAILURE
    return _hparams(metadata.SESSION_END_INFO_TAG, session_end_info=SessionEndInfo(status=status, end_time_secs=stamp))

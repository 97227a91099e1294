"""The HParams tab: every axis and metric declared once, and what a session starts and ends with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kempeframe.tracking_names import short_names


def experiment(title: str, axes: Mapping[str, Sequence[Any]], metrics: Mapping[str, str], stamp: float) -> Any:
    """The declaration: `axes` to their values, `metrics` from tag to name, both in the order of the columns."""
    from google.protobuf import struct_pb2
    from tensorboard.plugins.hparams import api_pb2, metadata

    short = short_names(axes)
    infos = []
    for name, values in axes.items():
        info = api_pb2.HParamInfo(name=name, display_name=short[name], type=_type(values))
        info.domain_discrete.CopyFrom(struct_pb2.ListValue(values=[_value(v) for v in dict.fromkeys(values)]))
        infos.append(info)
    shown = [api_pb2.MetricInfo(name=api_pb2.MetricName(tag=t), display_name=name) for t, name in metrics.items()]
    declared = api_pb2.Experiment(description=title, hparam_infos=infos, metric_infos=shown, time_created_secs=stamp)
    return _summary(metadata.EXPERIMENT_TAG, experiment=declared)


def session_start(values: Mapping[str, Any], group: str, stamp: float) -> Any:
    """The hyperparameters of a run."""
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionStartInfo

    info = SessionStartInfo(group_name=group, start_time_secs=stamp)
    for name, value in values.items():
        info.hparams[name].CopyFrom(_value(value))
    return _summary(metadata.SESSION_START_INFO_TAG, session_start_info=info)


def session_end(done: bool, stamp: float) -> Any:
    """Whether all of its trials are done."""
    from tensorboard.plugins.hparams import api_pb2, metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import SessionEndInfo

    status = api_pb2.STATUS_SUCCESS if done else api_pb2.STATUS_FAILURE
    return _summary(metadata.SESSION_END_INFO_TAG, session_end_info=SessionEndInfo(status=status, end_time_secs=stamp))


def _summary(tag: str, **content: Any) -> Any:
    from tensorboard.compat.proto import summary_pb2
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    data = HParamsPluginData(version=metadata.PLUGIN_DATA_VERSION, **content)
    plugin = summary_pb2.SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=data.SerializeToString())
    return summary_pb2.Summary.Value(
        tag=tag, metadata=summary_pb2.SummaryMetadata(plugin_data=plugin), tensor=metadata.NULL_TENSOR
    )


def _type(values: Sequence[Any]) -> int:
    from tensorboard.plugins.hparams import api_pb2

    if all(isinstance(v, bool) for v in values):
        return int(api_pb2.DATA_TYPE_BOOL)
    numeric = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return int(api_pb2.DATA_TYPE_FLOAT64 if numeric else api_pb2.DATA_TYPE_STRING)


def _value(value: Any) -> Any:
    from google.protobuf import struct_pb2

    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, (int, float)):
        return struct_pb2.Value(number_value=value)
    return struct_pb2.Value(string_value=str(value))

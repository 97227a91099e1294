"""Event files, written with TensorBoard's own protocol buffers (torch is not needed), and what they can hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ENDING = ".kempeframe"  # of event files that are written when a study is over


class EventFile:
    """One event file of one TensorBoard run."""

    def __init__(self, folder: Path, stamp: float, ending: str = ENDING):
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"events.out.tfevents.{int(stamp)}{ending}"
        self._event = event_pb2.Event
        self._stamp = stamp
        self._file = self.path.open("wb")
        self._writer = RecordWriter(self._file)
        self._writer.write(self._event(wall_time=stamp, file_version="brain.Event:2").SerializeToString())

    def summary(self, values: Iterable[Any], step: int = 0, at: float | None = None) -> None:
        """One event that holds Summary.Value messages; `at`: when, in seconds of the epoch (the file's time)."""
        from tensorboard.compat.proto import summary_pb2

        when = self._stamp if at is None else at
        self.event(self._event(wall_time=when, step=step, summary=summary_pb2.Summary(value=list(values))))

    def event(self, event: Any) -> None:
        """An event as it is, such as one of another file."""
        self._writer.write(event.SerializeToString())

    def flush(self) -> None:
        """Let readers see what was written."""
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def events_of(path: Path) -> Iterator[Any]:
    """The events of a file that hold values; one whose end was cut off ends where it is whole."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto import event_pb2

    for record in RawEventFileLoader(str(path)).Load():
        event = event_pb2.Event.FromString(record)
        if event.HasField("summary"):
            yield event


def scalar(tag: str, value: float) -> Any:
    """A number."""
    from tensorboard.compat.proto import summary_pb2

    return summary_pb2.Summary.Value(tag=tag, simple_value=value)


def image(tag: str, png: bytes) -> Any:
    """A picture, of the bytes of a PNG."""
    from tensorboard.compat.proto import summary_pb2

    width, height = int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")  # a PNG's header
    picture = summary_pb2.Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
    return summary_pb2.Summary.Value(tag=tag, image=picture)


def text(tag: str, markdown: str) -> Any:
    """Markdown."""
    return _string(tag, "text", markdown.encode(), [1])


def layout(content: bytes) -> Any:
    """A layout of custom scalars, serialized."""
    from tensorboard.plugins.custom_scalar import metadata

    return _string(metadata.CONFIG_SUMMARY_TAG, metadata.PLUGIN_NAME, content, [])


def _string(tag: str, plugin: str, content: bytes, sizes: list[int]) -> Any:
    from tensorboard.compat.proto import summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2

    shape = tensor_shape_pb2.TensorShapeProto(dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=n) for n in sizes])
    tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=[content], tensor_shape=shape)
    metadata = summary_pb2.SummaryMetadata(
        plugin_data=summary_pb2.SummaryMetadata.PluginData(plugin_name=plugin),
        data_class=summary_pb2.DATA_CLASS_TENSOR,
    )
    return summary_pb2.Summary.Value(tag=tag, metadata=metadata, tensor=tensor)

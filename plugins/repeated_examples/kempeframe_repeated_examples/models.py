"""Models: the paper's encoder-decoder transformer, and a compact encoder for answers of one class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from kempeframe import Model, component, field

if TYPE_CHECKING:
    from torch import nn

    from kempeframe import Fit
    from kempeframe.runs import Run
    from kempeframe.task import Task

ONE_CLASS = 'compact_encoder gives one class an answer: the data needs answer = "class"'
WRITTEN = 'seq2seq_transformer writes its answers: the data needs answer = "sequence"'


@component
class CompactEncoder(Model):
    """An encoder-only transformer that classifies: pre-norm, GELU, hidden width 4 d, learned positions.

    The answer is read at a token in front, of which alone the last block computes anything. Embeddings and positions
    start as N(0, 1 / d), linear layers as torch's do. For tasks with answer = "class".
    """

    width: int = field(64, "d, of the residual stream", ge=1)
    heads: int = field(4, "of each attention; a divisor of width", ge=1)
    layers: int = field(2, "blocks", ge=1)
    dropout: float = field(0.0, "share of entries dropped in training", ge=0, lt=1)

    def __attrs_post_init__(self) -> None:
        _check_heads(self.width, self.heads)

    @property
    def stackable(self) -> bool:
        return self._encoder(2).stackable

    @property
    def seeds_together(self) -> int:
        return self._encoder(2).seeds_together

    def check_with(self, fit: Fit) -> None:
        if getattr(fit.data, "answer", "class") != "class":
            raise ValueError(ONE_CLASS)

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe.task import CannotGive

        if task.classes is None:
            raise CannotGive(ONE_CLASS)
        return self._encoder(len(task.truth.layout.vocabulary)).build(task, run)

    def _encoder(self, vocabulary: int) -> Model:
        from kempeframe_standard.models_text import Encoder

        settings: dict[str, Any] = dict(
            width=self.width,
            heads=self.heads,
            depth=self.layers,
            dropout=self.dropout,
            vocabulary=vocabulary,
            init_scale="fan_in",
            embedding_scale=self.width**-0.5,
        )
        return Encoder(**settings)


@component
class Seq2seqTransformer(Model):
    """The paper's encoder-decoder transformer (Int2Int): post-norm, ReLU, hidden width 4 d, learned positions.

    A norm stands after the embeddings too; norms have epsilon 1e-12. Embeddings and positions start as N(0, 1 / d),
    linear layers as torch's do. The output layer has the decoder's embedding as its weight, and a bias; encoder and
    decoder have embeddings of their own. For tasks with answer = "sequence".
    """

    width: int = field(512, "d, of the residual stream", ge=1)
    heads: int = field(8, "of each attention; a divisor of width", ge=1)
    encoder_layers: int = field(4, "blocks that read", ge=1)
    decoder_layers: int = field(4, "blocks that write", ge=1)
    norm: Literal["pre", "post"] = field("post", "before each part, or after each sum")
    activation: Literal["relu", "gelu"] = field("relu", "of the feed-forward part")
    dropout: float = field(0.0, "share of entries dropped in training", ge=0, lt=1)
    tie_embeddings: bool = field(True, "the decoder's embedding is the output layer's weight")

    def __attrs_post_init__(self) -> None:
        _check_heads(self.width, self.heads)

    @property
    def stackable(self) -> bool:
        return self._transformer().stackable

    @property
    def seeds_together(self) -> int:
        return self._transformer().seeds_together

    def check_with(self, fit: Fit) -> None:
        if getattr(fit.data, "answer", "sequence") != "sequence":
            raise ValueError(WRITTEN)

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe.task import CannotGive

        if task.classes is not None or len(task.output_shape) != 2:
            raise CannotGive(WRITTEN)
        return self._transformer().build(task, run)

    def _transformer(self) -> Model:
        from kempeframe_standard.models_text import EncoderDecoder

        from kempeframe_repeated_examples.integers import PAD

        settings: dict[str, Any] = dict(
            width=self.width,
            heads=self.heads,
            encoder_depth=self.encoder_layers,
            decoder_depth=self.decoder_layers,
            norm_position=self.norm,
            norm_epsilon=1e-12,
            activation=self.activation,
            dropout=self.dropout,
            tie_embeddings=self.tie_embeddings,
            output_bias=True,
            pad=PAD,
            init_scale="fan_in",
            embedding_scale=self.width**-0.5,
        )
        return EncoderDecoder(**settings)


def _check_heads(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"heads = {heads}: expected a divisor of width = {width}")

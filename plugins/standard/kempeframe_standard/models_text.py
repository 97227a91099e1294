"""Models for sequences of tokens: decoder-only, encoder-decoder and encoder-only transformers.

Inputs are int64 tokens (n, length). A task of sequences has input_shape (length,) and output_shape (positions, tokens):
one row of logits for each position that is predicted. Targets are (n, positions), -100 where nothing is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from kempeframe import Model, component, field

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.task import Task

STACKABLE_WIDTH = 64


@component
class Transformer(Model):
    """What the transformers share (Vaswani et al., 2017).

    Weight matrices start as N(0, init_scale^2), those that write into the residual stream divided by the root of the
    number of such matrices (Radford et al., 2019), biases at 0; with "fan_in" as torch's linear layers start. They
    start from the same numbers in every dtype. Dropout is that of embeddings and of what is added to the stream.
    """

    stacks: ClassVar[bool] = True

    width: int = field(64, "of the residual stream", ge=1)
    heads: int = field(4, "of each attention; a divisor of width", ge=1)
    mlp_ratio: float = field(4.0, "hidden width of the feed-forward part, over width", gt=0)
    positions: Literal["learned", "rotary", "none"] = field(
        "learned", "a table added to the embeddings; rotations of queries and keys (Su et al., 2021); or nothing"
    )
    norm: Literal["layer", "rms"] = field("layer", "LayerNorm or RMSNorm")
    norm_position: Literal["pre", "post"] = field(
        "pre", "of the input of each part, and once at the end; or after each sum, and once after the embeddings"
    )
    norm_epsilon: float | None = field(None, "added to the variance; not given: 1e-5, of RMSNorm 1e-6", gt=0)
    activation: Literal["gelu", "relu"] = field("gelu", "of the feed-forward part")
    bias: bool = field(True, "whether linear layers and norms have biases; the last layer of language models has none")
    dropout: float = field(0.0, "share of entries dropped in training", ge=0, lt=1)
    init_scale: float | Literal["fan_in"] = field(0.02, "standard deviation of the initial weight matrices", gt=0)
    embedding_scale: float = field(0.02, "standard deviation of the initial embeddings and positions", gt=0)
    vocabulary: int | None = field(None, "number of input tokens; not given: as many as output tokens", ge=1)

    def __attrs_post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"heads = {self.heads}: expected a divisor of width = {self.width}")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError(f'positions = "rotary" needs an even width / heads, not {self.width // self.heads}')

    @property
    def stackable(self) -> bool:
        # Measured on the CPU (tools/benchmark_repeated_examples.py), stacks of two blocks, 4 tokens and batches of 64.
        return type(self).stacks and self.width <= STACKABLE_WIDTH and self.dropout == 0

    @property
    def seeds_together(self) -> int:
        return 1  # 8 fits are a stack as fast as any larger one: processes can share a spec's seeds


@component
class Decoder(Transformer):
    """A decoder-only transformer: logits for the next token, at every position, from the tokens up to there.

    Padding comes after a sequence: no token looks at it, so that it needs no mask. The network keeps keys and values
    while it generates (`generation.generate`).
    """

    stacks: ClassVar[bool] = False  # long sequences: one network keeps a core busy

    depth: int = field(2, "number of blocks", ge=1)
    context: int | None = field(None, "longest sequence; not given: that of the task's inputs", ge=1)
    prefix: int = field(0, "so many tokens in front see each other; every later one sees what is before it", ge=0)
    tie_embeddings: bool = field(False, "use the token embedding as the last layer")

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_standard.decoder import DecoderNetwork

        return DecoderNetwork(self, task.input_shape, task.output_shape).to(task.dtype)


@component
class Encoder(Transformer):
    """An encoder-only transformer: all tokens see each other; outputs are read at a token of its own in front.

    Of the last block only that token is computed. For tasks with one output per sequence (classes, or numbers).
    """

    vocabulary: int = field(doc="number of input tokens", ge=1)
    depth: int = field(2, "number of blocks", ge=1)
    pad: int | None = field(None, "the token that nothing looks at, wherever it stands", ge=0)

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_standard.encoder import EncoderNetwork

        return EncoderNetwork(self, task.input_shape, task.outputs).to(task.dtype)


@component
class EncoderDecoder(Transformer):
    """A transformer that reads a source and writes a target.

    Inputs hold both, end to end: (n, source + target) tokens; the target part is shifted right by one (it starts with a
    beginning token). The task's output_shape is (target, tokens), so that the source is what the inputs are longer by.
    Source padding is the token `pad`; target padding comes after the target and needs no mask. Source and target have
    embeddings of their own. Rotary positions are those of self-attention; what reads the source has none besides.
    """

    encoder_depth: int = field(2, "number of blocks that read", ge=1)
    decoder_depth: int = field(2, "number of blocks that write", ge=1)
    pad: int | None = field(None, "the source token that nothing looks at; each source has another one too", ge=0)
    tie_embeddings: bool = field(False, "use the target's token embedding as the last layer")
    output_bias: bool = field(False, "whether the last layer has a bias")

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_standard.encoder import EncoderDecoderNetwork

        return EncoderDecoderNetwork(self, task.input_shape, task.output_shape).to(task.dtype)

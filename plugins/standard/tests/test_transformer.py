"""Transformers: how many parameters, who sees whom, that padding changes nothing, and torch's own layer beside them."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from kempeframe_standard.attention import Rotary, rotated
from kempeframe_standard.decoder import DecoderNetwork
from kempeframe_standard.encoder import EncoderDecoderNetwork, EncoderNetwork
from kempeframe_standard.models_text import Decoder, Encoder, EncoderDecoder, Transformer
from kempeframe_standard.transformer import Block
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from kempeframe.runs import Run
from kempeframe.task import CannotGive, Task

TOKENS = 11
LENGTH = 9
VARIANTS = [
    {},
    {"positions": "rotary"},
    {"positions": "none", "norm": "rms", "bias": False},
    {"norm_position": "post", "activation": "relu", "init_scale": "fan_in"},
]
POSITIONS = VARIANTS[:3]


def decoder(run: Run, length: int = LENGTH, tokens: int = TOKENS, **fields: Any) -> DecoderNetwork:
    task = Task({}, (length,), (length, tokens), dtype=torch.float64, classes=tokens)
    return _built(Decoder(**{"width": 12, "heads": 2, "init_scale": 0.3, "embedding_scale": 1.0, **fields}), task, run)


def encoder(run: Run, length: int = LENGTH, **fields: Any) -> EncoderNetwork:
    task = Task({}, (length,), (5,), dtype=torch.float64, classes=5)
    small = {"width": 12, "heads": 2, "vocabulary": TOKENS, "init_scale": 0.3, "embedding_scale": 1.0}
    return _built(Encoder(**{**small, **fields}), task, run)


def encoder_decoder(run: Run, source: int = 6, target: int = 5, **fields: Any) -> EncoderDecoderNetwork:
    task = Task({}, (source + target,), (target, TOKENS), dtype=torch.float64, classes=TOKENS)
    small = {"width": 12, "heads": 2, "init_scale": 0.3, "embedding_scale": 1.0}
    return _built(EncoderDecoder(**{**small, **fields}), task, run)


def _built(model: Transformer, task: Task, run: Run) -> Any:
    with run.global_seed("model"):
        return model.build(task, run)


def tokens(*shape: int, seed: int = 0, most: int = TOKENS) -> Tensor:
    return torch.randint(0, most, shape, generator=torch.Generator().manual_seed(seed))


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# ---- parameters ------------------------------------------------------------------------------------------------------


def test_a_decoder_has_as_many_parameters_as_the_formula_says(run: Run) -> None:
    d, layers, vocabulary, length = 12, 2, TOKENS, LENGTH
    block = 12 * d * d + 9 * d + 4 * d  # matrices, their biases, two norms
    embeddings = (vocabulary + length) * d
    assert count(decoder(run)) == embeddings + layers * block + 2 * d + vocabulary * d
    assert count(decoder(run, tie_embeddings=True)) == embeddings + layers * block + 2 * d
    plain = decoder(run, bias=False, norm="rms", positions="rotary")
    assert count(plain) == vocabulary * d + layers * (12 * d * d + 2 * d) + d + vocabulary * d


def test_the_papers_models_have_the_parameters_they_report(run: Run) -> None:
    """repeated_examples: 102,983 of the compact encoder, 34.67 M and 22.35 M of the encoder-decoders."""
    compact = Encoder(vocabulary=32, width=64, heads=4, depth=2)
    assert count(compact.build(Task({}, (4,), (7,), classes=7), run)) == 102_983
    for depth, words, millions in ((4, 1019, 34.67), (1, 1306, 22.35)):
        model = EncoderDecoder(
            width=512, heads=8, encoder_depth=4, decoder_depth=depth, norm_position="post", tie_embeddings=True
        )
        with torch.device("meta"):
            network = model.build(Task({}, (2 * 4096,), (4096, words), classes=words), run)
        assert count(network) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize("fields", VARIANTS)
def test_gradient_flows_to_every_parameter(run: Run, fields: dict[str, Any]) -> None:
    several = (decoder(run, **fields), tokens(4, LENGTH)), (encoder(run, pad=0, **fields), tokens(4, LENGTH))
    for network, inputs in (*several, (encoder_decoder(run, **fields), tokens(4, 11))):
        outputs = network(inputs)
        assert outputs.dtype == torch.float64
        (outputs * torch.randn(outputs.shape, dtype=torch.float64)).sum().backward()
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None and parameter.grad.any(), name


def test_weights_start_as_they_should(run: Run) -> None:
    """Each standard deviation within 4.5 of its standard errors, sd / sqrt(2 entries)."""
    task = Task({}, (64,), (64, 500), classes=500)
    network = _built(Decoder(width=128, depth=3, embedding_scale=0.5), task, run)
    expected = {"stack.tokens.weight": 0.5, "stack.positions": 0.5, "head.weight": 0.02}
    for layer, (part, scale) in itertools.product(range(3), (("inwards", 0.02), ("outwards", 0.02 / 6**0.5))):
        for where in ("attention", "feedforward"):
            expected[f"stack.blocks.{layer}.{where}.{part}.weight"] = scale
    matrices = {name: p for name, p in network.named_parameters() if p.dim() == 2}
    assert matrices.keys() == expected.keys()
    for name, parameter in matrices.items():
        assert float(parameter.detach().std()) == pytest.approx(
            expected[name], rel=4.5 / (2 * parameter.numel()) ** 0.5
        ), name
    assert not any(p.any() for name, p in network.named_parameters() if name.endswith("bias"))
    double = _built(Decoder(width=128, depth=3, embedding_scale=0.5), Task({}, (64,), (64, 500), torch.float64), run)
    assert torch.equal(double.head.weight, network.head.weight.double())


# ---- who sees whom ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", VARIANTS)
def test_a_changed_token_changes_no_logits_before_it(run: Run, fields: dict[str, Any]) -> None:
    network, inputs = decoder(run, **fields), tokens(3, LENGTH)
    for place in (1, 5, LENGTH - 1):
        changed = inputs.clone()
        changed[:, place] = (changed[:, place] + 1) % TOKENS
        difference = (network(changed) - network(inputs)).detach().abs().amax(dim=(0, 2))
        assert float(difference[:place].max()) == 0
        assert float(difference[place:].min()) > 1e-6


def test_tokens_of_the_prefix_see_each_other(run: Run) -> None:
    network, inputs = decoder(run, prefix=4), tokens(3, LENGTH)
    for place, seen_from in ((3, 0), (0, 0), (4, 4), (6, 6)):
        changed = inputs.clone()
        changed[:, place] = (changed[:, place] + 1) % TOKENS
        difference = (network(changed) - network(inputs)).detach().abs().amax(dim=(0, 2))
        assert float(difference[:seen_from].sum()) == 0
        assert float(difference[seen_from:].min()) > 1e-6
    torch.testing.assert_close(decoder(run, prefix=1)(inputs), decoder(run)(inputs))


def test_without_positions_the_order_of_what_is_before_does_not_matter(run: Run) -> None:
    inputs = tokens(3, LENGTH)
    order = torch.tensor([3, 0, 7, 1, 2, 6, 5, 4])
    permuted = torch.cat([inputs[:, order], inputs[:, -1:]], dim=1)
    alone = decoder(run, depth=1, positions="none")
    torch.testing.assert_close(alone(permuted)[:, -1], alone(inputs)[:, -1])
    for positions in ("learned", "rotary"):
        placed = decoder(run, depth=1, positions=positions)
        assert not torch.allclose(placed(permuted)[:, -1], placed(inputs)[:, -1])


def test_rotations_see_distances_alone(run: Run) -> None:
    """<R_a q, R_b k> depends on a - b; the norm stays; position 0 turns nothing."""
    rotary = Rotary(6, 40)
    query, key = (torch.randn(6, dtype=torch.float64) for _ in range(2))

    def turned(vector: Tensor, position: int) -> Tensor:
        return rotated(vector[None], (rotary.cosine[position], rotary.sine[position]))[0]

    products = [turned(query, 5 + shift) @ turned(key, 2 + shift) for shift in (0, 1, 30)]
    torch.testing.assert_close(torch.stack(products), products[0].expand(3))
    assert abs(float(products[0] - turned(query, 6) @ turned(key, 2))) > 1e-6
    torch.testing.assert_close(turned(query, 17).norm(), query.norm())
    assert torch.equal(turned(query, 0), query)


def test_a_shifted_sequence_is_the_same_to_rotary_positions(run: Run) -> None:
    """Seen from the last token, with what it sees bounded: leading tokens of weight 0 change nothing but positions."""
    network, inputs = decoder(run, depth=1, positions="rotary"), tokens(2, 6)
    rotation = network.stack.rotary
    assert rotation is not None
    expected = network(inputs)
    with torch.no_grad():
        rotation.cosine, rotation.sine = rotation.cosine.roll(-3, 0), rotation.sine.roll(-3, 0)
    torch.testing.assert_close(network(inputs), expected)


# ---- padding ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", VARIANTS)
def test_padding_behind_a_sequence_changes_nothing_for_a_decoder(run: Run, fields: dict[str, Any]) -> None:
    network, short = decoder(run, **fields), tokens(3, 5)
    padded = torch.cat([short, tokens(3, 4, seed=1)], dim=1)
    torch.testing.assert_close(network(padded)[:, :5], network(short), rtol=0, atol=1e-12)


@pytest.mark.parametrize("fields", VARIANTS)
def test_padding_changes_nothing_for_an_encoder(run: Run, fields: dict[str, Any]) -> None:
    network, short = encoder(run, pad=0, length=40, **fields), tokens(3, 5, most=TOKENS - 1) + 1
    for length in (9, 40):  # attention written out, and the fused kernel
        padded = nn.functional.pad(short, (0, length - 5), value=0)
        torch.testing.assert_close(network(padded), network(short), rtol=0, atol=1e-12)
    blind = encoder(run, length=40, **fields)
    assert not torch.allclose(blind(nn.functional.pad(short, (0, 4))), blind(short))


@pytest.mark.parametrize("fields", VARIANTS)
def test_padding_changes_nothing_for_an_encoder_decoder(run: Run, fields: dict[str, Any]) -> None:
    """Whatever the padding's embedding is, and whatever stands behind the target."""
    network = encoder_decoder(run, source=6, pad=0, **fields)
    inputs = tokens(3, 11, most=TOKENS - 1) + 1
    inputs[:, 4:6] = 0
    expected = network(inputs)
    with torch.no_grad():
        network.encoder.tokens.weight[0] += 1
    torch.testing.assert_close(network(inputs), expected, rtol=0, atol=1e-12)
    changed = inputs.clone()
    changed[:, 9:] = 1
    torch.testing.assert_close(network(changed)[:, :3], expected[:, :3], rtol=0, atol=1e-12)
    changed[:, 2] = 1 + changed[:, 2] % (TOKENS - 1)
    assert float((network(changed) - expected)[:, :3].detach().abs().amax(dim=2).min()) > 1e-6  # the source is read


# ---- beside torch's own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("position", "activation"), [("pre", "gelu"), ("post", "relu")])
def test_a_block_is_torchs_encoder_layer(position: Any, activation: Any) -> None:
    settings = Transformer(width=12, heads=3, norm_position=position, activation=activation)
    block = Block(settings, 0).double()
    theirs = nn.TransformerEncoderLayer(
        12, 3, 48, dropout=0, activation=activation, batch_first=True, norm_first=position == "pre", dtype=torch.float64
    )
    pairs = {
        "self_attn.in_proj_": block.attention.inwards,
        "self_attn.out_proj.": block.attention.outwards,
        "linear1.": block.feedforward.inwards,
        "linear2.": block.feedforward.outwards,
        "norm1.": block.attention_norm,
        "norm2.": block.feedforward_norm,
    }
    state = {f"{name}{end}": layer.state_dict()[end] for name, layer in pairs.items() for end in ("weight", "bias")}
    theirs.load_state_dict(state)
    stream = torch.randn(4, 7, 12, dtype=torch.float64)
    from kempeframe_standard.attention import Sight

    torch.testing.assert_close(block(stream, Sight()), theirs(stream), rtol=0, atol=1e-12)
    hidden = ~torch.ones(7, 7, dtype=torch.bool).tril()
    torch.testing.assert_close(block(stream, Sight(causal=True)), theirs(stream, hidden), rtol=0, atol=1e-12)


def test_the_last_block_of_an_encoder_computes_one_token_of_the_whole(run: Run) -> None:
    for fields in VARIANTS:
        network = encoder(run, pad=0, **fields)
        inputs = tokens(3, LENGTH)
        expected = network(inputs)
        for block in network.stack.layers:
            block.first = block.forward  # type: ignore[method-assign]
        torch.testing.assert_close(network(inputs), expected, rtol=0, atol=1e-12)


# ---- training --------------------------------------------------------------------------------------------------------


def test_one_block_learns_to_copy(run: Run) -> None:
    """Six random tokens, a mark, the same six again: the second half is predicted."""
    network = _built(Decoder(width=32, heads=2, depth=1, embedding_scale=0.3), Task({}, (12,), (12, 9), classes=9), run)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, weight_decay=0)
    generator = torch.Generator().manual_seed(0)

    def batch(n: int) -> Tensor:
        words = torch.randint(0, 8, (n, 6), generator=generator)
        return torch.cat([words, torch.full((n, 1), 8), words], dim=1)

    for step in range(400):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(1, (step + 1) / 40) * min(1, (400 - step) / 200)
        sequences = batch(64)
        optimizer.zero_grad()
        logits = network(sequences[:, :-1])[:, 6:]
        nn.functional.cross_entropy(logits.flatten(0, 1), sequences[:, 7:].flatten()).backward()
        optimizer.step()
    sequences = batch(500)
    with torch.no_grad():
        guesses = network(sequences[:, :-1])[:, 6:].argmax(dim=2)
    assert float((guesses == sequences[:, 7:]).double().mean()) >= 0.99


def test_encoders_as_a_stack_are_what_they_are_alone(run: Run) -> None:
    """Outputs and gradients; what vmap has no rule for would warn, and warnings are errors here."""
    networks = [encoder(Run(seed, run.session), pad=0) for seed in range(3)]
    parameters, buffers = stack_module_state(networks)
    inputs = tokens(3, 4, LENGTH)
    call = vmap(lambda own, fixed, x: functional_call(networks[0], (own, fixed), (x,)), randomness="error")
    outputs = call(parameters, buffers, inputs)
    outputs.square().sum().backward()
    for fit, network in enumerate(networks):
        alone = network(inputs[fit])
        torch.testing.assert_close(alone, outputs[fit], rtol=0, atol=1e-12)
        alone.square().sum().backward()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(parameter.grad, parameters[name].grad[fit], rtol=0, atol=1e-10)


def test_dropout_drops_in_training_alone(run: Run) -> None:
    network, inputs = decoder(run, dropout=0.5), tokens(2, LENGTH)
    assert not torch.equal(network(inputs), network(inputs))
    network.eval()
    torch.testing.assert_close(network(inputs), decoder(run)(inputs))


# ---- refusals --------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="divisor of width"):
        Decoder(width=10, heads=3)
    with pytest.raises(ValueError, match="even width / heads"):
        Decoder(width=9, heads=3, positions="rotary")
    with pytest.raises(CannotGive, match="positions for 9"):
        decoder(run)(tokens(1, 10))
    with pytest.raises(CannotGive, match="positions for 9"):
        decoder(run, positions="rotary")(tokens(1, 10))
    assert decoder(run, positions="none")(tokens(1, 10)).shape == (1, 10, TOKENS)
    assert decoder(run, context=20)(tokens(1, 20)).shape == (1, 20, TOKENS)
    with pytest.raises(CannotGive, match="20 input tokens and 11 output"):
        decoder(run, vocabulary=20, tie_embeddings=True)
    with pytest.raises(CannotGive, match="inputs of tokens"):
        Decoder().build(Task({}, (1, 8, 8), (10,)), run)
    with pytest.raises(CannotGive, match=r"source \+ target"):
        EncoderDecoder().build(Task({}, (8,), (8, 11)), run)

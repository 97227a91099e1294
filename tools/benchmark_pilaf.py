"""PILAF beside its peers: DPO's loss and online DPO beside TRL's, tilted generation beside `generate`, time of studies.

    python tools/benchmark_pilaf.py              # TRL where it is installed; else only what needs it not
    python tools/benchmark_pilaf.py --studies    # bandit study, default spec and its smoke version, from nothing

Everything is measured in one process, in turn with its peer: medians of processor time, which a busy machine changes
least; the ratios are what to look at.
TRL: pip install 'kempeframe-pilaf[benchmark]' (in an environment of its own: it brings much with it).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from kempeframe_pilaf import grammar
from kempeframe_pilaf.data import Grammar
from kempeframe_pilaf.data_pairs import Pilaf, Preferences, Vanilla
from kempeframe_pilaf.models import HuggingfaceChat, ImplicitReward
from kempeframe_pilaf.networks import ImplicitRewardNetwork
from kempeframe_pilaf.pairs import labelled_pairs
from kempeframe_standard.optimizers_gradient import Adamw
from kempeframe_standard.training.losses import logistic

from kempeframe import Fit
from kempeframe.checkpoints import Checkpoints
from kempeframe.registry import Registry
from kempeframe.runs import Run
from kempeframe.store import Store
from kempeframe.trial import Session, fit_stack

ROOT = Path(__file__).parent.parent
BETA, PAIRS = 0.1, 64
SOURCE = Grammar(n_train=10_000, n_test=8)
LLAMA = HuggingfaceChat(width=64, depth=2, heads=4)
SFT = Fit(  # so that responses have the lengths of a real run
    data=SOURCE, model=LLAMA, optimizer=Adamw(learning_rate=3e-3, steps=150, batch_size=128), seed=0, stream="sft"
)


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", action="store_true", help="time whole studies, from an empty store")
    parser.add_argument("--steps", type=int, default=12, help="online steps that are timed")
    arguments = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads")
    if arguments.studies:
        studies()
        return
    with tempfile.TemporaryDirectory() as folder:
        for plugin in ("standard", "pilaf"):
            Registry().load(plugin)
        session = Session(Store(Path(folder)))
        tilted_generation(session)
        try:
            trainer = trl_trainer(session, folder, steps=1)
        except ImportError as error:
            print(f"TRL can't be imported ({error}): pip install 'kempeframe-pilaf[benchmark]'")
            return
        equal_loss(session, trainer)
        online(session, folder, arguments.steps)


def implicit_reward(session: Session, scheme: Preferences) -> ImplicitRewardNetwork:
    """The network at its start, and the task's data."""
    run = Run(0, session)
    network = ImplicitReward(reference=SFT, beta=BETA).build(session.task(scheme, run), run)
    assert isinstance(network, ImplicitRewardNetwork)
    return network


# ---- TRL -----------------------------------------------------------------------------------------------------------


def words() -> Any:
    """The tiny language's words as a tokenizer of transformers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel(dict(grammar.NUMBER), unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")


def trl_trainer(session: Session, folder: str, steps: int, callbacks: Any = None) -> Any:
    """TRL's online DPO on the same Llama, prompts, oracle, optimizer and batch."""
    from datasets import Dataset
    from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

    network: Any = implicit_reward(session, Vanilla(source=SOURCE, reference=SFT)).policy
    prompts = [" ".join(grammar.VOCABULARY[token] for token in row) for row in grammar.prompts()]
    settings = OnlineDPOConfig(
        output_dir=folder,
        per_device_train_batch_size=PAIRS,
        max_steps=steps,
        learning_rate=1e-3,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        beta=[BETA],
        temperature=1.0,
        max_new_tokens=grammar.RESPONSE_LENGTH,
        max_length=64,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    return OnlineDPOTrainer(
        model=network.model,
        reward_funcs=oracle,
        args=settings,
        train_dataset=Dataset.from_dict({"prompt": prompts * (PAIRS * (steps + 1) // len(prompts) + 1)}),
        processing_class=words(),
        callbacks=callbacks,
    )


def oracle(prompts: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
    """The tiny language's reward, with the noise that makes the larger one win by Bradley and Terry's model."""
    import numpy as np

    asked = np.array([[grammar.NUMBER[word] for word in prompt.split()] for prompt in prompts])
    length = grammar.RESPONSE_LENGTH
    said = np.array([row[:length] + [grammar.PAD] * (length - len(row)) for row in completion_ids])
    noise = np.random.default_rng().gumbel(size=len(prompts))
    return (grammar.rewards(asked, said) + noise).tolist()


def equal_loss(session: Session, trainer: Any) -> None:
    """DPO's loss and gradient on one batch, away from the reference: ours, and what TRL's training step computes."""
    scheme = Vanilla(source=SOURCE, reference=SFT)
    network = implicit_reward(session, scheme)
    world = session.task(scheme, Run(0, session)).truth
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for own, other in zip(network.policy.parameters(), trainer.model.parameters(), strict=True):
            own.add_(0.05 * torch.randn(own.shape, generator=generator))
            other.copy_(own)
    batch, _ = labelled_pairs(scheme, world, network.policies, 0, torch.arange(PAIRS))
    prompts, first, second, _ = world.space.unpacked(batch.inputs)
    assert batch.targets is not None
    targets = batch.targets
    responses = torch.cat([first, second])
    masks = world.space.mask(responses).long()
    twice = torch.cat([prompts, prompts])
    trainer._generate = lambda *_: (twice, torch.ones_like(twice), responses, masks, None)
    trainer._calculate_rewards_from_functions = lambda **_: torch.cat([targets, 1 - targets]).float()

    def theirs() -> float:
        trainer.model.zero_grad()
        return float(trainer.training_step(trainer.model, {"prompt": ["x"] * PAIRS}))

    def ours() -> float:
        network.zero_grad()
        loss = logistic(network(batch.inputs), targets).mean()
        loss.backward()
        return float(loss.detach())

    losses = ours(), theirs()
    gradients = zip(network.policy.parameters(), trainer.model.parameters(), strict=True)
    largest = max(
        float((a.grad - b.grad).abs().max()) for a, b in gradients if a.grad is not None and b.grad is not None
    )
    seconds = in_turn(ours, theirs)
    print(
        f"DPO on {PAIRS} pairs: loss {losses[0]:.8f}, TRL {losses[1]:.8f}, differ by {abs(losses[0] - losses[1]):.1e}"
    )
    print(f"  gradients differ by at most {largest:.1e}; ours {1e3 * seconds[0]:.0f} ms, TRL {1e3 * seconds[1]:.0f} ms")
    print(
        f"  ratio {seconds[0] / seconds[1]:.2f}; TRL's step has the reference's pass too, ours has had it at the draw"
    )


def online(session: Session, folder: str, steps: int) -> None:
    """Seconds per 1,000 online pairs: generation, oracle, reference, step."""
    from transformers import TrainerCallback

    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.process_time())

    def theirs() -> float:
        times.clear()
        trl_trainer(session, folder, steps + 1, [Clock()]).train()
        return statistics.median(b - a for a, b in itertools.pairwise(times))

    def ours(scheme: Preferences) -> float:
        clock: list[float] = []
        optimizer = Adamw(
            loss="logistic", learning_rate=1e-3, weight_decay=0.0, beta2=0.95, gradient_clipping=1.0, steps=steps + 2,
            batch_size=PAIRS, snapshots=tuple(range(1, steps + 2)),
        )  # fmt: skip
        fit = Fit(data=scheme, model=ImplicitReward(reference=SFT, beta=BETA), optimizer=optimizer)
        for _ in fit_stack([(fit, 0)], session, Checkpoints()):
            clock.append(time.process_time())
        return statistics.median(b - a for a, b in itertools.pairwise(clock))

    schemes = {"vanilla": Vanilla(source=SOURCE, reference=SFT), "PILAF": Pilaf(source=SOURCE, reference=SFT)}
    found: dict[str, list[float]] = {"TRL": [], **{name: [] for name in schemes}}
    for _ in range(7):
        found["TRL"].append(theirs())
        for name, scheme in schemes.items():
            found[name].append(ours(scheme))
    for name, values in found.items():
        seconds = min(values) * 1000 / PAIRS
        ratio = statistics.median(v / t for v, t in zip(values, found["TRL"], strict=True))
        print(
            f"online DPO, tiny Llama, {PAIRS} pairs a step: {name} {seconds:.2f} s per 1,000 pairs, ratio {ratio:.2f}"
        )


# ---- without TRL ---------------------------------------------------------------------------------------------------


def tilted_generation(session: Session) -> None:
    """512 responses by logits (1 + c) h - c h_ref: two caches; `generate` with a processor that has none."""
    from transformers import LogitsProcessor, LogitsProcessorList

    network = implicit_reward(session, Pilaf(source=SOURCE, reference=SFT))
    policy: Any = network.policy
    world = session.task(Pilaf(source=SOURCE, reference=SFT), Run(0, session)).truth
    prompts = world.train_prompts[torch.arange(512) % 24]
    uniforms = torch.rand(512, grammar.RESPONSE_LENGTH, dtype=torch.float64)
    c = 0.5

    class Guided(LogitsProcessor):  # type: ignore[misc]
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                return (1 + c) * scores - c * network.reference(input_ids)[:, -1]

    def ours() -> None:
        network.sample(prompts, torch.full((512,), c), uniforms)

    def theirs() -> None:
        policy.model.generate(
            input_ids=prompts, attention_mask=torch.ones_like(prompts), do_sample=True, top_k=0, pad_token_id=0,
            max_new_tokens=grammar.RESPONSE_LENGTH, logits_processor=LogitsProcessorList([Guided()]),
        )  # fmt: skip

    seconds = in_turn(ours, theirs)
    print(f"512 tilted responses: {seconds[0]:.3f} s, generate with a processor {seconds[1]:.3f} s, ", end="")
    print(f"ratio {seconds[0] / seconds[1]:.2f}")


def in_turn(*calls: Callable[[], object], rounds: int = 7) -> list[float]:
    """Median seconds of each, called in turn."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, seconds in zip(calls, found, strict=True):
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
    return [statistics.median(seconds) for seconds in found]


def studies() -> None:
    """Wall time of whole studies, process start included."""
    for name, extra in (("pilaf/bandit", []), ("pilaf", ["--smoke"]), ("pilaf", [])):
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "kempeframe",
                "run",
                f"specs/{name}.toml",
                "--out",
                f"{folder}/out",
                *extra,
            ]
            start = time.perf_counter()
            before = os.times()
            subprocess.run([*command, "--store", f"{folder}/store"], cwd=ROOT, check=True, capture_output=True)
            after = os.times()
            used = after.children_user + after.children_system - before.children_user - before.children_system
            shown = " ".join([name, *extra])
            print(
                f"{shown}: {time.perf_counter() - start:.1f} s, processors {used:.1f} s, load {os.getloadavg()[0]:.1f}"
            )


if __name__ == "__main__":
    main()

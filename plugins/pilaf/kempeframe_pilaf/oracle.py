"""The oracle: a reward model of the Hugging Face hub, as a scorer that sources hold and as an evaluator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kempeframe import Evaluator, component, field

if TYPE_CHECKING:
    from torch import Tensor

    from kempeframe.components import Measured
    from kempeframe.runs import Run
    from kempeframe.trial import Fitted

Scorer = Callable[[Sequence[str], Sequence[str]], "Tensor"]


@component
class RewardOracle(Evaluator):
    """A sequence classifier with one logit: the true reward of a response to a prompt.

    Without a name it is a tiny Llama with random weights, on bytes, for tests of the whole path. As an evaluator it
    scores the human comparisons of the test split, one value for each chosen response.
    """

    name: str | None = field(None, "on the hub, OWNER/NAME; not given: a tiny one with random weights")
    chat_template: bool = field(True, "whether prompt and response are put into the model's chat template")
    batch_size: int = field(16, "texts scored at a time", ge=1)
    max_tokens: int = field(1024, "longer texts are cut off in front", ge=1)
    seed: int = field(0, "of the random weights", ge=0)

    def columns(self) -> Mapping[str, str]:
        return {
            "scores": "of the chosen response of each comparison of the test split",
            "agreement": "share of them in which it prefers the response that the human chose",
        }

    def evaluate(self, fitted: Fitted, run: Run) -> Mapping[str, Measured]:
        from kempeframe.task import CannotGive
        from kempeframe_pilaf.worlds_text import ComparedWorld

        world = fitted.task.truth
        if not isinstance(world, ComparedWorld):
            raise CannotGive("reward_oracle scores the comparisons of pilaf.hh_rlhf, which this task has not")
        prompts = [world.decode(tokens) for tokens in world.test.prompts]
        score = self.scorer(run.device)
        chosen, rejected = (
            score(prompts, [world.decode(tokens) for tokens in side]).cpu()
            for side in (world.test.chosen, world.test.rejected)
        )
        return {"scores": chosen.tolist(), "agreement": float((chosen > rejected).double().mean())}

    def scorer(self, device: str) -> Scorer:
        """(prompts, responses) -> scores (n,); the model is loaded when it is first asked, once a process."""

        def score(prompts: Sequence[str], responses: Sequence[str]) -> Tensor:
            import torch

            model, tokens = self._loaded(device)
            found = []
            for at in range(0, len(prompts), self.batch_size):
                part = slice(at, at + self.batch_size)
                rows = [tokens(p, r) for p, r in zip(prompts[part], responses[part], strict=True)]
                found.append(_scores(model, rows, device))
            return torch.cat(found)

        return score

    def _loaded(self, device: str) -> tuple[Any, Callable[[str, str], list[int]]]:
        if device not in _MODELS.setdefault(self, {}):
            from kempeframe_pilaf.conversations import ByteTokenizer
            from kempeframe_pilaf.huggingface import classifier

            model, tokenizer = classifier(self.name, ByteTokenizer.size, self.seed)
            _MODELS[self][device] = model.to(device), tokenizer
        model, tokenizer = _MODELS[self][device]
        return model, lambda prompt, response: self._tokens(tokenizer, prompt, response)

    def _tokens(self, tokenizer: Any, prompt: str, response: str) -> list[int]:
        from kempeframe_pilaf.conversations import turns

        if tokenizer is None:
            return list((prompt + response).encode())[-self.max_tokens :]
        if not self.chat_template:
            return list(tokenizer.encode(prompt + response))[-self.max_tokens :]
        messages = [*turns(prompt), {"role": "assistant", "content": response.strip()}]
        return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))[-self.max_tokens :]


_MODELS: dict[RewardOracle, dict[str, tuple[Any, Any]]] = {}


def _scores(model: Any, rows: Sequence[Sequence[int]], device: str) -> Tensor:
    """The logit of each row of tokens, (n,), float32. Rows are padded in front, with a mask."""
    import torch

    longest = max(len(row) for row in rows)
    pad = model.config.pad_token_id or 0
    tokens = torch.tensor([[pad] * (longest - len(row)) + list(row) for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    with torch.no_grad():
        logits: Tensor = model(input_ids=tokens, attention_mask=mask).logits
    return logits[:, 0].float()

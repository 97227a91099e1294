"""Models: the network whose output is the DPO margin, the log-linear policy, and policies of the Hugging Face hub."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kempeframe import Fit, Model, component, field

if TYPE_CHECKING:
    from torch import nn

    from kempeframe.runs import Run
    from kempeframe.task import Task


@component
class ImplicitReward(Model):
    """A policy as its own reward model: pairs -> margins beta (log-ratio of the first - log-ratio of the second).

    Logistic loss on it is DPO, squared and hinge loss are its relatives. The policy starts as a copy of `start`'s, of
    the reference's where there is none; on a bandit, which has its own reference, `policy` builds it.
    """

    reference: Fit | None = field(None, "the fit that training is kept near to; a bandit has its own")
    start: Fit | None = field(None, "the fit that training starts from; not given: the reference")
    policy: Model | None = field(None, "builds the policy where neither fit gives one: pilaf.log_linear_policy")
    beta: float = field(0.1, "temperature: how dear a nat of KL to the reference is", gt=0)

    def __attrs_post_init__(self) -> None:
        if self.reference is None and self.start is None and self.policy is None:
            raise ValueError("expected reference, start or policy: nothing says which policy is trained")
        if self.policy is not None and (self.start is not None or self.reference is not None):
            raise ValueError("policy builds a new one: it does not go with reference or start")

    @property
    def stackable(self) -> bool:
        return self.policy is not None  # on a bandit: 16 fits as one take a seventh of the time

    def build(self, task: Task, run: Run) -> nn.Module:
        import copy

        from kempeframe_pilaf.networks import ImplicitRewardNetwork, policy_of
        from kempeframe_pilaf.worlds import World

        world = task.truth
        if not isinstance(world, World) or task.output_shape != (1,):
            raise ValueError("implicit_reward is for pairs: data such as pilaf.pilaf")
        digest = "" if self.reference is None else self.reference.digest
        if digest != world.reference_digest:
            raise ValueError("reference: the data's pairs compare with another reference; give both the same fit")
        own_beta = getattr(world, "beta", self.beta)
        if own_beta != self.beta:
            raise ValueError(f"beta = {self.beta:g}: the bandit's is {own_beta:g}, and its reward goes with it")
        if self.reference is not None:
            reference = policy_of(run.fit(self.reference).network)
        else:
            reference = copy.deepcopy(world.reference)  # type: ignore[attr-defined]
        if self.policy is not None:
            policy = self.policy.build(task, run)
        else:
            start = self.start or self.reference
            assert start is not None
            policy = copy.deepcopy(policy_of(run.fit(start).network))
        return ImplicitRewardNetwork(policy.requires_grad_(True), reference, self.beta, world.space).train()


@component
class LogLinearPolicy(Model):
    """pi ~ ref exp(phi . theta) on a bandit. Implicit rewards are linear in theta up to a number for each prompt."""

    init_scale: float = field(0.0, "standard deviation of theta at the start; 0: the reference", ge=0)
    start: Literal["random", "truth"] = field("random", "where theta starts; the truth is theta*")

    def __attrs_post_init__(self) -> None:
        if self.start == "truth" and self.init_scale:
            raise ValueError('init_scale is for start = "random"')

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_pilaf import networks
        from kempeframe_pilaf.worlds import bandit_world

        world = bandit_world(task.truth, "log_linear_policy")
        drawn = self.init_scale * run.rng("model", "theta").standard_normal(world.theta.shape)
        theta = world.theta if self.start == "truth" else drawn
        return networks.LogLinearPolicy(world.features, world.log_reference, theta)


@component
class HuggingfaceChat(Model):
    """A causal language model of the Hugging Face hub, or one of a Llama configuration with random weights.

    Needs `transformers` (extra `kempeframe-pilaf[llm]`). Tokens are the data's: its tokenizer must be the model's.
    """

    name: str | None = field(None, "on the hub, OWNER/NAME; not given: random weights")
    dtype: Literal["float32", "bfloat16"] = field("float32", "of the weights; logarithms are in float32 anyway")
    width: int = field(64, "hidden size, of random weights", ge=1)
    depth: int = field(2, "layers, of random weights", ge=1)
    heads: int = field(4, "attention heads, of random weights; a divisor of width", ge=1)
    gradient_checkpointing: bool = field(False, "compute activations again instead of keeping them")

    def __attrs_post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(f"heads = {self.heads}: expected a divisor of width = {self.width} with an even quotient")

    def build(self, task: Task, run: Run) -> nn.Module:
        from kempeframe_pilaf.huggingface import causal_network

        return causal_network(self, task.input_shape[0], task.output_shape[-1])

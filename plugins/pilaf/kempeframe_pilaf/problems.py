"""A fitted network as the theory wants it: tables of log-probabilities, and the gradient of its implicit reward."""

from __future__ import annotations

import torch
from torch import nn

from kempeframe.task import CannotGive
from kempeframe_pilaf.networks import ImplicitRewardNetwork
from kempeframe_pilaf.spaces import at_rest, log_table
from kempeframe_pilaf.theory import Array
from kempeframe_pilaf.worlds import Problem


def fitted_problem(network: nn.Module, rho: Array) -> Problem:
    """Of an implicit reward whose responses can be listed; the gradient is automatic, entry by entry of the table.

    Raises:
        CannotGive: another network.
    """
    if not isinstance(network, ImplicitRewardNetwork):
        raise CannotGive(f"this is about an implicit reward, not about a {type(network).__name__}")
    parameters = [p for p in network.policy.parameters() if p.requires_grad]
    table = log_table(network.policy)
    rows = []
    for entry in table.flatten():
        parts = torch.autograd.grad(entry, parameters, retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    g = network.beta * torch.stack(rows).view(*table.shape, -1)
    with at_rest(network.reference):
        reference = log_table(network.reference)
    own, other, gradient = (part.detach().double().cpu().numpy() for part in (table, reference, g))
    return Problem(own, other, gradient, network.beta, rho)

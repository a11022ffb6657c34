"""The selective scan of Mamba: a linear recurrence whose coefficients depend on the token."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CHUNK = 2**17
"""Numbers of the state that are held at a time: few enough for a processor's cache."""


def selective_scan(
    x: Tensor,
    step: Tensor,
    into: Tensor,
    out_of: Tensor,
    gate: Tensor,
    *,
    rate: Tensor,
    skip: Tensor,
    step_bias: Tensor,
) -> Tensor:
    """Run a linear recurrence whose coefficients depend on the token.

    With d = softplus(step + step_bias), the state of a channel is ``h[t] = exp(d[t] rate) h[t - 1] + d[t] into[t]
    x[t]``, and its output ``(out_of[t] . h[t] + skip x[t]) silu(gate[t])``. The kernel of the package mamba_ssm is used
    for tensors on a CUDA device where it is installed. Elsewhere, states are held for a few tokens at a time, so memory
    is bounded by the inputs; all tokens' factors and products are computed together, and one operation per token is
    left for the recurrence.

    Parameters
    ----------
    x, step, gate
        Shape (batch, token, channel), of one floating dtype, as all others.
    into, out_of
        Shape (batch, token, state).
    rate
        Shape (channel, state), negative.
    skip, step_bias
        Shape (channel,).

    Returns
    -------
    Tensor
        Shape (batch, token, channel).

    References
    ----------
    Gu and Dao 2023, Mamba, arXiv:2312.00752, algorithm 2.
    """
    kernel = _kernel(x.device)
    if kernel is not None:
        channels_first = (x, step, rate, into, out_of, skip, gate)
        u, delta, A, B, C, D, z = (t.transpose(1, 2) if t.ndim == 3 else t for t in channels_first)
        y: Tensor = kernel(u, delta, A, B, C, D=D, z=z, delta_bias=step_bias, delta_softplus=True)
        return y.transpose(1, 2)
    state = x.new_zeros(len(x), rate.shape[1], rate.shape[0])
    tokens = max(1, CHUNK // state.numel())
    rate = rate.T.contiguous()
    outputs = []
    # Time first, so that one token's numbers lie together.
    for parts in zip(*(torch.split(t.transpose(0, 1), tokens) for t in (x, step, into, out_of, gate)), strict=True):
        chunk_x, chunk_step, chunk_into, chunk_out_of, chunk_gate = parts
        chunk_step = functional.softplus(chunk_step + step_bias)
        # The factors in the published order: in another one, roundings grow to 1e-5 over a few hundred tokens.
        inflow = (chunk_step[:, :, None] * chunk_into[..., None]).mul_(chunk_x[:, :, None])
        states = _states(chunk_step, inflow, rate, state)
        state = states[-1]
        output = (chunk_out_of[:, :, None] @ states)[:, :, 0]
        outputs.append((output + skip * chunk_x) * functional.silu(chunk_gate))
    return torch.cat(outputs).transpose(0, 1)


def _states(step: Tensor, inflow: Tensor, rate: Tensor, state: Tensor) -> Tensor:
    """Return the states after each of some tokens, shape (token, batch, state, channel), as are inflows."""
    factors = torch.exp(step[:, :, None] * rate)
    if torch.is_grad_enabled() and inflow.requires_grad:
        kept = []
        for factor, added in zip(factors, inflow, strict=True):
            state = torch.addcmul(added, factor, state)
            kept.append(state)
        return torch.stack(kept)
    for factor, added in zip(factors, inflow, strict=True):
        state = added.addcmul_(factor, state)
    return inflow


def _kernel(device: torch.device) -> Callable[..., Any] | None:
    """Return the scan of the package mamba_ssm, for CUDA devices and where it is installed."""
    if device.type != "cuda" or importlib.util.find_spec("mamba_ssm") is None:
        return None
    scan: Callable[..., Any] = importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    return scan

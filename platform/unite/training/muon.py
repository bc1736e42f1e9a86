"""Muon with batched Newton-Schulz, and the pair of optimisers of a run (METHOD 3; paper Table 8).

Muon (momentum, Nesterov, orthogonalised updates) trains the hidden matrices, AdamW the rest; the
groups are those of the released checkpoints (`unite.models.groups`). The update rule, precision
and constants are those of `torch.optim.Muon`, which runs one matrix at a time; here all matrices
of one shape, and the transposes of that shape, go through one chain of batched products, in stacks
of at most STACK_VALUES numbers. Ranks share the stacks: each orthogonalises its own, and all gather
the results in bfloat16, which is what orthogonalisation gives. Stacks do not depend on the number
of ranks, so the weights are those of one rank to the bit. Momentum is kept by every rank: it costs
little beside the products, and a checkpoint of rank 0 holds all of it.

State travels as tensors under parameter names ("muon.momentum_buffer.<name>"), never as a pickle.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unite.config.schema import OptimConfig
from unite.models.groups import optimizer_group
from unite.training.shares import gathered, owners_of

# Quintic Newton-Schulz: x <- a x + b (x x^T) x + c (x x^T)^2 x.
NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NS_STEPS = 5
STACK_VALUES = 2**23
"""Numbers of a stack: four matrices of UNITE-B fill a GPU, and small models go through at once."""
NORM_EPS = 1e-7
"""Smallest norm that an update is divided by before Newton-Schulz, as in torch."""


class Eager(torch.optim.Optimizer):
    """torch's optimiser outside of compiled code, where this package always calls it.

    torch wraps these methods, and AdamW's step, in guards for callers that are compiled. The first
    call of each imports the compiler, which takes seconds at every start of a worker.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)


class Muon(Eager):
    """torch.optim.Muon(nesterov, adjust_lr_fn="match_rms_adamw"), batched over equal shapes.

    Parameters must be matrices; lr is that of AdamW, since every update is rescaled to AdamW's
    RMS (0.2 sqrt(max(rows, columns))). State per parameter: `momentum_buffer`, its shape.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float = 1e-4,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        eps: float = NORM_EPS,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """`rank` of `world` ranks with the same parameters and gradients."""
        self.rank, self.world = rank, world
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, defaults)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(
                        f"Muon trains matrices only and was given shape {tuple(parameter.shape)}; "
                        "put that parameter in the adamw group"
                    )

    @torch.no_grad()
    def step(
        self, closure: Callable[[], Tensor] | None = None, *, skip: Tensor | None = None
    ) -> Tensor | None:
        """One update. `skip` is a bool () tensor on the device: when true nothing changes."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group, skip)
        return loss

    def _update(
        self, parameters: list[Tensor], group: dict[str, float], skip: Tensor | None
    ) -> None:
        lr, momentum = group["lr"], group["momentum"]
        buffers = [self._momentum(p) for p in parameters]
        gradients = [p.grad for p in parameters if p.grad is not None]
        keep: Any = 1.0
        if skip is not None:
            # A skipped gradient may hold NaN, which no factor of 0 removes: the momentum takes
            # its place, which leaves the momentum as it is, and the update is scaled to 0.
            gradients = [torch.where(skip, b, g) for b, g in zip(buffers, gradients, strict=True)]
            keep = (~skip).float()
        torch._foreach_lerp_(buffers, gradients, 1.0 - momentum)
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1.0 - lr * group["weight_decay"] * keep)
        stacks = _stacks(parameters)
        shapes = [_stack_shape([parameters[i] for i in indices]) for indices in stacks]
        owners = owners_of(shapes, self.world)
        found = {
            number: self._directions(indices, gradients, buffers, group, skip, keep)
            for number, indices in enumerate(stacks)
            if owners[number] == self.rank
        }
        if self.world > 1:
            found = gathered(found, shapes, owners, self.rank, self.world, parameters[0].device)
        for number, indices in enumerate(stacks):
            stack_BRC = found[number]
            scale = 0.2 * max(stack_BRC.shape[1:]) ** 0.5
            directions = [
                _wide(direction_RC, parameters[i])
                for i, direction_RC in zip(indices, stack_BRC.unbind(), strict=True)
            ]
            torch._foreach_add_([parameters[i] for i in indices], directions, alpha=-lr * scale)

    def _directions(
        self,
        indices: list[int],
        gradients: list[Tensor],
        buffers: list[Tensor],
        group: dict[str, float],
        skip: Tensor | None,
        keep: Any,
    ) -> Tensor:
        """Orthogonalised Nesterov updates of a stack (B, rows, columns), 0 where `skip`."""
        chosen = [gradients[i] for i in indices], [buffers[i] for i in indices]
        updates = torch._foreach_lerp(*chosen, group["momentum"])
        stack_BRC = orthogonalize(_stack(list(updates)), group["eps"])
        return stack_BRC if skip is None else stack_BRC.mul_(keep)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


class AdamW(Eager, torch.optim.AdamW):
    """torch's fused AdamW, whose step can be skipped on the device."""

    found_inf: Tensor | None = None

    @torch.no_grad()
    def step(
        self, closure: Callable[[], Tensor] | None = None, *, skip: Tensor | None = None
    ) -> Tensor | None:
        """One update. `skip` is a bool () tensor on the device: when true nothing changes."""
        # The protocol of torch.amp.GradScaler, which the fused kernel obeys.
        self.found_inf = None if skip is None else skip.float()
        return inspect.unwrap(torch.optim.AdamW.step)(self, closure)


def orthogonalize(stack_BRC: Tensor, eps: float = NORM_EPS) -> Tensor:
    """Approximate U V^T of every matrix of a stack (rows <= columns), in bfloat16.

    A matrix whose Frobenius norm is under `eps` is divided by `eps`, and shrinks with it.

    The singular values of the result lie around 0.7..1.2, not at 1: the coefficients trade
    exactness for speed, and Muon does not mind.
    """
    a, b, c = NS_COEFFICIENTS
    x_BRC = stack_BRC.bfloat16()
    norm_B11 = torch.linalg.vector_norm(x_BRC, dim=(1, 2), keepdim=True)
    x_BRC = x_BRC / norm_B11.clamp(min=eps)
    for _ in range(NS_STEPS):
        gram_BRR = torch.bmm(x_BRC, x_BRC.mT)
        poly_BRR = torch.baddbmm(gram_BRR, gram_BRR, gram_BRR, beta=b, alpha=c)
        x_BRC = torch.baddbmm(x_BRC, poly_BRR, x_BRC, beta=a)
    return x_BRC


def _stacks(parameters: list[Tensor]) -> list[list[int]]:
    """Positions of the parameters of each stack: of one shape up to transposition, and not more
    than STACK_VALUES numbers."""
    groups: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for position, parameter in enumerate(parameters):
        groups[(*sorted(parameter.shape), parameter.device)].append(position)
    stacks = []
    for indices in groups.values():
        most = max(1, STACK_VALUES // parameters[indices[0]].numel())
        stacks += [indices[start : start + most] for start in range(0, len(indices), most)]
    return stacks


def _stack_shape(matrices: list[Tensor]) -> tuple[int, int, int]:
    rows, columns = sorted(matrices[0].shape)
    return len(matrices), rows, columns


def _wide(matrix: Tensor, like: Tensor) -> Tensor:
    """The transpose where `like` is tall, else the matrix: its own inverse."""
    return matrix.mT if like.shape[0] > like.shape[1] else matrix


def _stack(matrices: list[Tensor]) -> Tensor:
    """Matrices of one shape up to transposition -> (B, rows, columns) bfloat16, rows <= columns."""
    wide = [_wide(matrix, matrix) for matrix in matrices]
    shape = _stack_shape(wide)
    stack_BRC = torch.empty(shape, dtype=torch.bfloat16, device=wide[0].device)
    torch._foreach_copy_(list(stack_BRC.unbind()), wide)
    return stack_BRC


@dataclass(frozen=True)
class Optimizers:
    """The optimisers of a run as one: same learning rate, state by parameter name."""

    members: dict[str, Muon | AdamW]
    """"muon" and "adamw", without those that have no parameter."""
    names: dict[str, list[str]]
    """Parameter names of each member, in its own order."""

    def step(self, skip: Tensor | None = None) -> None:
        """Update every parameter once. `skip`: bool () on the device; true changes nothing."""
        for optimizer in self.members.values():
            optimizer.step(skip=skip)

    def zero_grad(self) -> None:
        """Drop all gradients."""
        for optimizer in self.members.values():
            optimizer.zero_grad(set_to_none=True)

    def set_lr(self, lr: float) -> None:
        """Learning rate of the next step, before Muon's rescaling."""
        for optimizer in self.members.values():
            for group in optimizer.param_groups:
                group["lr"] = lr

    def parameters(self) -> dict[str, nn.Parameter]:
        """Trained parameters by name."""
        return {
            name: parameter
            for member in self.members
            for name, parameter in self._parameters(member).items()
        }

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything the next step needs beside weights: "<member>.<entry>.<parameter name>".

        Live tensors, not copies. Parameters that never had a gradient have no entry.
        """
        return {
            f"{member}.{entry}.{name}": value
            for member, optimizer in self.members.items()
            for name, parameter in self._parameters(member).items()
            for entry, value in optimizer.state.get(parameter, {}).items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take state saved by `state_tensors` (copied); ValueError names a wrong key."""
        entries: dict[str, dict[int, dict[str, Tensor]]] = {m: {} for m in self.members}
        for key, value in tensors.items():
            member, entry, name = _split_key(key)
            parameter = self._parameters(member).get(name) if member in self.members else None
            if parameter is None:
                raise ValueError(
                    f"optimiser state {key!r} belongs to no parameter of this run: resume with "
                    "the checkpoint's model and optim.muon, or start a new run from its weights"
                )
            if value.ndim and value.shape != parameter.shape:
                raise ValueError(
                    f"optimiser state {key!r} has shape {tuple(value.shape)}, the parameter "
                    f"{tuple(parameter.shape)}: the checkpoint is of another model"
                )
            index = self.names[member].index(name)
            entries[member].setdefault(index, {})[entry] = value.detach().clone()
        for member, optimizer in self.members.items():
            # torch's own loader decides on which device each entry (such as "step") belongs.
            optimizer.load_state_dict({**optimizer.state_dict(), "state": entries[member]})

    def _parameters(self, member: str) -> dict[str, nn.Parameter]:
        parameters = [p for group in self.members[member].param_groups for p in group["params"]]
        return dict(zip(self.names[member], parameters, strict=True))


def build_optimizers(
    model: nn.Module, config: OptimConfig, *, rank: int = 0, world: int = 1
) -> Optimizers:
    """Muon and AdamW over the trainable parameters of the bare model (no wrappers), on one of
    `world` ranks that hold the same."""
    groups: dict[str, dict[str, nn.Parameter]] = {"muon": {}, "adamw": {}}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = optimizer_group(name, parameter) if config.muon else "adamw"
            groups[group][name] = parameter
    members: dict[str, Muon | AdamW] = {}
    if groups["muon"]:
        members["muon"] = Muon(
            groups["muon"].values(),
            lr=config.lr,
            momentum=config.muon_momentum,
            weight_decay=config.weight_decay,
            eps=config.muon_eps,
            rank=rank,
            world=world,
        )
    if groups["adamw"]:
        members["adamw"] = AdamW(
            groups["adamw"].values(),
            lr=config.lr,
            betas=config.betas,
            eps=config.eps,
            weight_decay=config.weight_decay,
            fused=True,
        )
    return Optimizers(members, {member: list(groups[member]) for member in members})


def _split_key(key: str) -> tuple[str, str, str]:
    """Member, entry and name: muon.momentum_buffer.a.b -> (muon, momentum_buffer, a.b)."""
    member, _, rest = key.partition(".")
    entry, _, name = rest.partition(".")
    return member, entry, name

"""Room for a step: how many slots of a state may pass through the network together."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from tensordict import TensorDictBase

from v2w_gym.world_model import memory
from v2w_gym.world_model.footprint import Need, measure, readable
from v2w_gym.world_model.parts import USABLE, in_parts, overhead, rows_at_once
from v2w_gym.world_model.state import WorldState
from v2w_gym.world_model.unet import VideoUNet


@dataclass(frozen=True)
class SlotMemory:
    """What every further episode of a batch takes.

    Attributes:
        state_bytes: of its state. A step holds two, the given one and the new one.
        step_bytes: of the tensors at work in a step, beside states.
        decode_bytes: of the tensors at work in decoding a frame.
    """

    state_bytes: int
    step_bytes: int
    decode_bytes: int


def state_bytes(state: WorldState) -> int:
    """Bytes of a state."""
    held: TensorDictBase = state.to_tensordict()  # type: ignore[attr-defined]
    return sum(leaf.numel() * leaf.element_size() for leaf in held.values(True, True))


class Room:
    """Measures what a step needs, once for every length of history that makes a difference.

    Args:
        unet: the network.
        one_pass: takes a slot through the network once, as a step does, and may write into it.
        history: how many frames of a state's slots a pass reads at most; 0 where that makes no difference.
    """

    def __init__(
        self,
        unet: VideoUNet,
        one_pass: Callable[[WorldState], object],
        history: Callable[[WorldState], int],
    ) -> None:
        self._unet, self._one_pass, self._history = unet, one_pass, history
        self._needs: dict[tuple[object, ...], tuple[int, Need]] = {}
        self._tried: dict[tuple[object, ...], int] = {}
        self._told: set[int] = set()
        self._admitted = 0

    def admit(self, slots: int, size: int, beside: int, device: torch.device) -> None:
        """See that the states of new episodes fit into memory, and the copy that a step makes of them.

        Once a batch was let in, another of that many slots needs no room for the copy: it comes in place of
        the first, or it is in the way of its steps, which say so.

        Args:
            slots: how many episodes.
            size: bytes of a slot's state.
            beside: bytes of what they are made from.
            device: where they will live.

        Raises:
            MemoryError: they do not fit.
        """
        copies, free = 1 if slots <= self._admitted else 2, memory.free_bytes(device)
        if copies * slots * size + beside > USABLE * free:
            fit = int(USABLE * free / (copies * size + beside / slots))
            raise MemoryError(
                f"the state of a slot takes {readable(size)}, a step makes a second copy, and "
                f"{readable(free)} are free on {device}: {slots} slots do not fit, {fit} would; "
                + (f"num_envs={fit}" if fit else "free some memory, or take a smaller world")
            )
        self._admitted = max(self._admitted, slots)

    def need(self, state: WorldState) -> tuple[int, Need]:
        """Bytes of one slot's state, and what a pass needs beside it."""
        kind = self._kind(state)
        if kind not in self._needs:
            oldest = int(state.frame_index.argmax())
            slot: WorldState = state[oldest : oldest + 1].clone()  # type: ignore[index]
            size, weights = state_bytes(slot), [*self._unet.parameters(), *self._unet.buffers()]
            self._needs[kind] = size, measure(lambda: self._one_pass(slot), weights)
        return self._needs[kind]

    def _kind(self, state: WorldState) -> tuple[object, ...]:
        return state.latent.shape[1:], state.latent.device, self._history(state)

    def at_once(self, state: WorldState, copies: int = 1) -> int:
        """How many slots of ``state`` to step at once, with that many copies of all of them in memory.

        Raises:
            MemoryError: there is no room for the copies and one slot more.
        """
        slots, device = len(state.seed), state.latent.device
        if slots == 1:
            return 1
        size, need = self.need(state)
        free = memory.free_bytes(device)
        copied = copies * slots * size
        if copied + need.of(1) > free:
            raise MemoryError(
                f"a step of {slots} slots copies their state, {readable(copied)}, and needs "
                f"{readable(need.of(1))} more for each slot at work; {readable(free)} are free: "
                f"step fewer slots, num_envs={max(1, int(free * USABLE / 2 / (size + need.per_row)))}"
            )
        fit = max(1, rows_at_once(need, slots, USABLE * free - copied, device))
        at_once = min(fit, self._tried.get((slots, *self._kind(state)), fit))
        if at_once < slots:
            whole = copied + overhead(device) * need.of(slots)
            self._tell(slots, at_once, f"needs {readable(whole)} of memory and {readable(free)} are free")
        return at_once

    def run(
        self,
        state: WorldState,
        at_once: int,
        work: Callable[[slice], object],
        undo: Callable[[slice], object] | None = None,
    ) -> None:
        """``in_parts`` over the slots of ``state``; what fitted in the end is where the next step begins."""
        slots = len(state.seed)
        fitted = in_parts(slots, at_once, work, undo)
        if fitted < at_once:
            self._tried[(slots, *self._kind(state))] = fitted
            self._tell(slots, fitted, f"ran out of memory with {at_once} of them at once")

    def _tell(self, slots: int, at_once: int, why: str) -> None:
        if slots not in self._told:
            self._told.add(slots)
            warnings.warn(
                f"a step of {slots} slots {why}: it runs in {math.ceil(slots / at_once)} parts, at most "
                f"{at_once} slots at once, and gives the same up to rounding",
                stacklevel=5,  # who called the world model
            )

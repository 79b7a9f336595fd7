"""Which rows make which batch: a function of seed, epoch and step, of nothing else.

The number of workers, the number of processes, where the matrix lies and whether a run was interrupted do not come in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import DataLoader, Sampler

from perturbfm.errors import BadValue, CheckpointMismatch

T = TypeVar("T", covariant=True)

BUFFERED_BLOCKS = 64
"""Blocks that are mixed with each other in a shuffle by blocks."""


class IndexBatches(Sampler[np.ndarray]):
    """Arrays of indices, reshuffled every epoch from the seed alone, or in order.

    A batch of the whole is dealt to processes in runs whose lengths differ by one at most: the shares of a step, in the
    order of ranks, are the batch that one process alone would take. Every rank takes the same number of steps;
    where the last batch has fewer rows than there are ranks, the last ranks get none of it.

    Args:
        index: What to deal out.
        batch_size: Most indices per batch, over all processes.
        seed: Seed of the shuffling; None keeps the order.
        shuffle_block: 0 shuffles everything with everything. Otherwise runs of so many neighbouring indices are dealt
            in random order and mixed within `BUFFERED_BLOCKS` of them: less random, but neighbours are read at once.
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(
        self,
        index: np.ndarray,
        batch_size: int,
        seed: int | None,
        shuffle_block: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0 <= rank < world_size:
            raise BadValue(
                "A process has no place among the processes",
                given=f"rank {rank} of {world_size}",
                expected="a rank from 0 to one less than their number",
                fix="Take both from the trainer.",
            )
        self.index, self.batch_size, self.seed, self.shuffle_block = index, batch_size, seed, shuffle_block
        self.rank, self.world_size = rank, world_size
        self.epoch, self.first_step = 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.index) // self.batch_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Batches from `first_step` on; the epoch after begins at its beginning."""
        first, self.first_step = self.first_step, 0
        index = self._order()
        for step in range(first, len(self)):
            batch = index[step * self.batch_size : (step + 1) * self.batch_size]
            yield np.array_split(batch, self.world_size)[self.rank] if self.world_size > 1 else batch

    def _order(self) -> np.ndarray:
        if self.seed is None:
            return self.index
        rng = np.random.Generator(np.random.PCG64([self.seed, self.epoch]))
        if not self.shuffle_block:
            return rng.permutation(self.index)
        blocks = np.split(self.index, range(self.shuffle_block, len(self.index), self.shuffle_block))
        order = rng.permutation(len(blocks))
        mixed = [
            rng.permutation(np.concatenate([blocks[b] for b in order[start : start + BUFFERED_BLOCKS]]))
            for start in range(0, len(order), BUFFERED_BLOCKS)
        ]
        return np.concatenate(mixed) if mixed else self.index


class ResumableLoader(DataLoader[T]):
    """A loader that knows how far its epoch is, and goes on from there. Lightning keeps its state in checkpoints.

    Batches are counted as they are handed out, not as workers fetch them ahead. It draws nothing from the
    generator that models use, which would make their numbers depend on the number of workers.
    """

    sampler: IndexBatches
    handed_out = 0

    def __iter__(self) -> Iterator[T]:  # type: ignore[override]
        self.handed_out = self.sampler.first_step
        for batch in super().__iter__() if self.num_workers else self._in_turn():
            self.handed_out += 1
            yield batch

    def _in_turn(self) -> Iterator[T]:
        """Batches cut by this very thread when they are asked for.

        Not ahead in a thread of their own: whatever allocates may run finalisers, and those of HDF5 objects wait for a
        lock that another thread may hold, so such a thread can wait for ever. Who wants batches ahead takes workers.
        """
        for rows in self.sampler:
            yield self.dataset[rows]

    def state_dict(self) -> dict[str, Any]:
        """Place in the epoch, and what decides which batches there are."""
        return {**self._decided(), "epoch": self.sampler.epoch, "step": self.handed_out}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another loader stood; the number of workers and processes may be another.

        Raises:
            CheckpointMismatch: That loader dealt other batches.
        """
        mine = self._decided()
        for key, value in mine.items():
            if state.get(key) != value:
                raise CheckpointMismatch(
                    f"The checkpoint stands in the middle of batches with another {key}",
                    given=state.get(key),
                    expected=value,
                    fix="Resume with the settings that the checkpoint was made with.",
                )
        self.sampler.set_epoch(int(state["epoch"]))
        step = int(state["step"])
        self.sampler.first_step = step if step < len(self.sampler) else 0  # an epoch that was over stays over

    def _decided(self) -> dict[str, Any]:
        s = self.sampler
        return {"batch_size": s.batch_size, "seed": s.seed, "shuffle_block": s.shuffle_block, "rows": len(s.index)}

"""The same batches bit for bit: any number of workers, in memory or mapped, resumed or straight, one process or two."""

import multiprocessing
import sys
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from anndata import AnnData

from perturbfm.data.csr_cache import cached_csr, open_csr
from perturbfm.errors import BadValue, CheckpointMismatch
from perturbfm.train.buffers import MOST, Buffers
from perturbfm.train.datamodule import PerturbDataModule
from perturbfm.train.sampler import BUFFERED_BLOCKS, IndexBatches

INDEX = np.arange(100, 203)


def dealt(loader, epochs=1):
    """All tensors of all batches, as bytes."""
    found = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            found.append({name: value.numpy().tobytes() for name, value in vars(batch).items()})
    return found


def module(dataset, split, workers=0, **options):
    return PerturbDataModule(dataset, split, 16, seed=3, num_workers=workers, **options)


# --- workers, and where the matrix lies ------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_deals_the_same_batches(dataset, split, workers):
    alone, helped = (module(dataset, split, n).train_dataloader() for n in (0, workers))
    first = dealt(alone, 2)
    assert first == dealt(helped, 2)
    assert len(first) == 2 * len(alone)
    assert first[: len(alone)] != first[len(alone) :]


@pytest.mark.parametrize("match", ["context", "context_batch", "draw"])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_mapped_matrix_gives_the_batches_of_one_in_memory(tiny, tmp_path, monkeypatch, match, workers):
    monkeypatch.setenv("PERTURBFM_CACHE", str(tmp_path / "cache"))
    adata = tiny.adata()
    tiny.adata().write_h5ad(tmp_path / "file.h5ad")
    mapped = AnnData(open_csr(cached_csr([tmp_path / "file.h5ad"])), obs=adata.obs, var=adata.var)
    held, read = tiny.data(adata, match=match), tiny.data(mapped, match=match)
    assert held.fingerprint == read.fingerprint
    modules = [module(d, tiny.split(d), w) for d, w in ((held, 0), (read, workers))]
    for name in ("train_dataloader", "val_dataloader"):
        first, second = (dealt(getattr(m, name)()) for m in modules)
        assert first == second


def test_a_dense_matrix_gives_the_batches_of_a_sparse_one(tiny):
    adata = tiny.adata()
    dense = AnnData(adata.X.toarray(), obs=adata.obs, var=adata.var)
    first, second = (module(d, tiny.split(d)) for d in (tiny.data(adata), tiny.data(dense)))
    for a, b in zip(first.train_dataloader(), second.train_dataloader(), strict=True):
        assert torch.equal(a.delta_ng, b.delta_ng)
        assert torch.equal(a.row_n, b.row_n)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_draws_nothing_from_the_generator_of_models(dataset, split, workers):
    """Else a model that draws (dropout) would get other numbers with another number of workers."""
    loader = module(dataset, split, workers).train_dataloader()
    torch.manual_seed(5)
    dealt(loader, 2)
    found = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(found, torch.rand(3))


def test_without_workers_no_thread_cuts_batches(dataset, split):
    """A thread that compiles or allocates may run the finaliser of an HDF5 object, and wait for ever for its lock."""
    loader = module(dataset, split).train_dataloader()
    before = threading.active_count()
    batches = iter(loader)
    next(batches)
    assert threading.active_count() == before
    batches.close()
    assert loader.state_dict()["step"] == 1


def test_a_batch_that_cannot_be_cut_is_an_error_at_its_place(dataset, split, monkeypatch):
    data = module(dataset, split)
    cut, loader = type(data.rows).__getitem__, data.train_dataloader()
    broken = list(loader.sampler)[2]

    def fails(self, rows):
        if np.array_equal(rows, broken):
            raise OSError("the disk is gone")
        return cut(self, rows)

    monkeypatch.setattr(type(data.rows), "__getitem__", fails)
    batches = iter(loader)
    assert [len(next(batches).row_n) for _ in range(2)] == [16, 16]
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)


# --- several processes -----------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [10, 17, 103, 500])
@pytest.mark.parametrize("block", [0, 5])
def test_the_shares_of_a_step_are_the_batch_of_one_process(world, size, block):
    whole = IndexBatches(INDEX, size, 1, block)
    shares = [IndexBatches(INDEX, size, 1, block, rank, world) for rank in range(world)]
    for epoch in range(2):
        for sampler in (whole, *shares):
            sampler.set_epoch(epoch)
        steps = [list(sampler) for sampler in shares]
        assert {len(s) for s in steps} == {len(whole)}
        for step, batch in enumerate(whole):
            parts = [s[step] for s in steps]
            np.testing.assert_array_equal(np.concatenate(parts), batch)
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (0, 0)])
def test_a_rank_that_is_none_is_refused(rank, world):
    with pytest.raises(BadValue, match="A process has no place among the processes"):
        IndexBatches(INDEX, 8, 1, 0, rank, world)


def _share(rank, world, address, queue):
    """What one process of a real group deals to its model, gathered by the group."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{address}", rank=rank, world_size=world)
    sampler = IndexBatches(INDEX, 20, 5, 0, torch.distributed.get_rank(), torch.distributed.get_world_size())
    for batch in sampler:
        parts = [None] * world
        torch.distributed.all_gather_object(parts, batch.tolist())
        if rank == 0:
            queue.put(parts)
    torch.distributed.destroy_process_group()


def test_two_real_processes_take_the_steps_of_one_together():
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads: these only shuffle and send
        address = Path(folder) / "meet"
        processes = [context.Process(target=_share, args=(r, 2, address, queue)) for r in range(2)]
        [p.start() for p in processes]
        whole = list(IndexBatches(INDEX, 20, 5))
        found = [queue.get(timeout=60) for _ in whole]
        [p.join(60) for p in processes]
    assert [p.exitcode for p in processes] == [0, 0]
    assert [a + b for a, b in found] == [batch.tolist() for batch in whole]
    assert [len(a) for a, _ in found] == [10, 10, 10, 10, 10, 2]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("match", ["context", "context_batch", "draw"])
def test_the_batches_of_two_processes_are_together_those_of_one_bit_for_bit(tiny, match, workers):
    data = tiny.data(match=match)
    split = tiny.split(data)
    one = module(data, split).train_dataloader()
    ranks = [module(data, split, workers) for _ in range(2)]
    for rank, its in enumerate(ranks):
        its.trainer = SimpleNamespace(global_rank=rank, world_size=2)
    loaders = [its.train_dataloader() for its in ranks]
    for loader in (one, *loaders):
        loader.sampler.set_epoch(1)
    for whole, *shares in zip(one, *loaders, strict=True):
        assert len(shares[0].row_n) < len(whole.row_n)
        for name in ("row_n", "delta_ng", "x_ng", "x_var_ng", "intervention_n", "context_n", "batch_n", "parts_np"):
            together = torch.cat([getattr(share, name) for share in shares])
            assert together.numpy().tobytes() == getattr(whole, name).numpy().tobytes(), name


# --- going on --------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize("stop", [1, 3])
def test_an_epoch_goes_on_where_it_stopped(dataset, split, before, after, stop):
    straight = dealt(module(dataset, split).train_dataloader(), 2)
    loader = module(dataset, split, before).train_dataloader()
    loader.sampler.set_epoch(1)
    batches = iter(loader)
    seen = [next(batches) for _ in range(stop)]
    state = loader.state_dict()
    assert (state["epoch"], state["step"], len(seen)) == (1, stop, stop)
    again = module(dataset, split, after).train_dataloader()
    again.load_state_dict(state)
    rest = [{n: v.numpy().tobytes() for n, v in vars(batch).items()} for batch in again]
    assert rest == straight[len(loader) + stop :]
    assert len(dealt(again)) == len(loader)  # the epoch after is whole


def test_an_epoch_that_was_over_is_not_gone_on_with(dataset, split):
    loader = module(dataset, split).train_dataloader()
    dealt(loader)
    again = module(dataset, split).train_dataloader()
    again.load_state_dict(loader.state_dict())
    assert len(dealt(again)) == len(loader)


@pytest.mark.parametrize("key", ["batch_size", "seed", "shuffle_block", "rows"])
def test_a_place_among_other_batches_is_refused(dataset, split, key):
    state = module(dataset, split).train_dataloader().state_dict()
    with pytest.raises(CheckpointMismatch, match=f"in the middle of batches with another {key}"):
        module(dataset, split).train_dataloader().load_state_dict({**state, key: 99})


class _SaveAt(pl.Callback):
    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_resumed_in_mid_epoch_ends_at_the_same_weights(tiny, dataset, split, tmp_path, workers):
    """Two epochs straight, and the same from a checkpoint in the middle of the second: bit for bit one model."""
    path, weights = tmp_path / "middle.ckpt", []
    for resumed in (None, path):
        data = module(dataset, split, workers)
        steps = len(data.train_dataloader())
        network = tiny.network(data.encoder.dims)
        if resumed is not None:
            torch.manual_seed(99)
        trainer = pl.Trainer(
            max_epochs=2,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            callbacks=[] if resumed else [_SaveAt(steps + 2, path)],
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*num_workers.*|.*many workers.*|.*log_every_n_steps.*")
            trainer.fit(network, datamodule=data, ckpt_path=resumed, weights_only=True if resumed else None)
        assert trainer.global_step == 2 * steps
        assert steps > 3
        weights.append(network.state_dict())
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


# --- shuffling by blocks ---------------------------------------------------------------------------


def test_blocks_keep_neighbours_near_and_deal_every_row_once():
    index = np.arange(20_000)
    order = IndexBatches(index, 100, 2, 10)._order()
    np.testing.assert_array_equal(np.sort(order), index)
    mixed = order[: 10 * BUFFERED_BLOCKS]
    assert len(np.unique(mixed // 10)) == BUFFERED_BLOCKS
    assert (np.diff(order[:100]) != 1).mean() > 0.9
    np.testing.assert_array_equal(order, IndexBatches(index, 100, 2, 10)._order())
    other = IndexBatches(index, 100, 2, 10)
    other.set_epoch(1)
    assert not np.array_equal(order, other._order())


# --- buffers ---------------------------------------------------------------------------------------


def test_a_buffer_that_anybody_holds_is_never_given_again():
    buffers = Buffers(4)
    held = [torch.from_numpy(buffers.take(3)).fill_(n) for n in range(2)]
    pieces = []
    for n in range(3 * MOST):
        array = buffers.take(3)
        array[:] = n
        pieces.append((n, torch.from_numpy(array)[1:2, 1:]))  # a view of a tensor of the array
        del array
    for n, piece in pieces:
        assert (piece == n).all()
    assert [float(t.max()) for t in held] == [0, 1]


def test_a_buffer_that_is_let_go_is_used_again():
    buffers = Buffers(4)
    first = buffers.take(3)
    place = first.__array_interface__["data"][0]
    del first
    again = buffers.take(2)
    assert again.__array_interface__["data"][0] == place
    assert buffers.take(2).__array_interface__["data"][0] != place


def test_batches_that_are_kept_stay_as_they_were(dataset, split):
    loader = module(dataset, split).train_dataloader()
    kept = list(loader)
    assert [{n: v.numpy().tobytes() for n, v in vars(b).items()} for b in kept] == dealt(loader)


def test_threads_never_share_a_buffer():
    buffers = Buffers(50)

    def works(number):
        for _ in range(300):
            mine = buffers.take(20)
            mine[:] = number
            if not (mine == number).all():
                return False
        return True

    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(works, range(6)))
    finally:
        sys.setswitchinterval(switch)

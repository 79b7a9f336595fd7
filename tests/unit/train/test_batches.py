from collections import Counter

import numpy as np
import pytest
import torch

from perturbfm.errors import ContextWithoutControls
from perturbfm.model.baseline.global_mean import GlobalMean
from perturbfm.model.baseline.statistics import ConditionStatistics
from perturbfm.train.sampler import IndexBatches


def by_hand(dataset, controls, row, by_batch):
    """Matched control mean, variance of single cells and number of cells of one row, by loops."""
    obs, x = dataset.obs, dataset.adata.X.toarray().astype(float)
    context, batch = obs["context_id"].to_numpy(), obs["batch_id"].to_numpy()
    mine = controls[context[controls] == context[row]]
    group = mine[batch[mine] == batch[row]] if by_batch else mine
    scatter = sum(((x[mine[batch[mine] == b]] - x[mine[batch[mine] == b]].mean(0)) ** 2).sum(0) for b in ("b0", "b1"))
    return x[group].mean(0), scatter / (len(mine) - 2), len(group)


@pytest.mark.parametrize("match", ["context", "context_batch"])
def test_a_batch_is_the_dense_rows_minus_their_input_controls(tiny, match):
    dataset = tiny.data(match=match)
    split = tiny.split(dataset)
    batch = tiny.module(dataset, split).rows[split.train_idx]
    dense = dataset.adata.X.toarray()
    for n, row in enumerate(split.train_idx):
        mean, var, count = by_hand(dataset, split.input_control_idx, row, match == "context_batch")
        np.testing.assert_allclose(batch.x_ng[n], mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(batch.x_var_ng[n], var, rtol=1e-4, atol=1e-6)
        assert float(batch.x_count_n[n]) == count
        np.testing.assert_allclose(batch.delta_ng[n], dense[row] - mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(batch.row_n, split.train_idx)
    assert batch.delta_ng.dtype == batch.x_ng.dtype == torch.float32


def test_controls_of_a_held_out_batch_are_shown_to_its_own_rows_only(tiny):
    dataset = tiny.data(match="context_batch")
    whole = tiny.split(dataset)
    batch_n, context_n = dataset.obs["batch_id"].to_numpy(), dataset.obs["context_id"].to_numpy()
    held = whole.train_idx[(batch_n[whole.train_idx] == "b1") & (context_n[whole.train_idx] == "A")]
    split = tiny.split(
        dataset,
        train_idx=np.setdiff1d(whole.train_idx, held),
        test_idx=np.concatenate([whole.test_idx, held]),
        ood_axes=("batch",),
    )
    rows, x = tiny.module(dataset, split).rows, dataset.adata.X.toarray().astype(float)
    shown = split.input_control_idx

    def variance(context, batches):
        groups = [shown[(context_n[shown] == context) & (batch_n[shown] == b)] for b in batches]
        return sum(((x[g] - x[g].mean(0)) ** 2).sum(0) for g in groups) / sum(len(g) - 1 for g in groups)

    of_train = split.train_idx[context_n[split.train_idx] == "A"]
    for idx, expected in (
        (of_train, variance("A", ["b0"])),  # without the held-out batch
        (held, variance("A", ["b1"])),  # its own, shown at prediction only
        (split.train_idx[context_n[split.train_idx] == "B"], variance("B", ["b0", "b1"])),  # nothing is held out
        (whole.test_idx, variance("D", ["b0", "b1"])),  # a context that train lacks as a whole
    ):
        np.testing.assert_allclose(rows.blind(idx).x_var_ng, np.tile(expected, (len(idx), 1)), rtol=1e-4, atol=1e-6)
    assert np.abs(variance("A", ["b0"]) - variance("A", ["b0", "b1"])).max() > 1e-3


@pytest.mark.parametrize("match", ["context", "context_batch"])
def test_validation_shows_input_controls_and_judges_against_reference_controls(tiny, match):
    dataset = tiny.data(match=match)
    split = tiny.split(dataset)
    (batch,) = tiny.module(dataset, split, batch_size=1000).val_dataloader()
    dense = dataset.adata.X.toarray()
    np.testing.assert_array_equal(batch.row_n, split.val_idx)
    for n, row in enumerate(split.val_idx):
        shown, _, _ = by_hand(dataset, split.input_control_idx, row, match == "context_batch")
        truth, _, _ = by_hand(dataset, split.reference_control_idx, row, match == "context_batch")
        np.testing.assert_allclose(batch.x_ng[n], shown, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(batch.delta_ng[n], dense[row] - truth, rtol=1e-4, atol=1e-6)


def test_labels_of_a_batch_are_those_of_train_or_unknown(datamodule, dataset):
    rows = np.concatenate([datamodule.split.train_idx, datamodule.split.test_idx])
    batch, obs = datamodule.rows[rows], dataset.obs.iloc[rows]
    encoder = datamodule.encoder
    context = [encoder.contexts.index(c) if c in encoder.contexts else -1 for c in obs["context_id"]]
    intervention = [f"{p}@{m}" for p, m in zip(obs["pert_id"], obs["mode"], strict=True)]
    known = [encoder.interventions.index(i) if i in encoder.interventions else -1 for i in intervention]
    parts = [[float(part in p.split("+")) for part in encoder.parts] for p in obs["pert_id"]]
    assert batch.context_n.tolist() == context
    assert batch.intervention_n.tolist() == known
    assert batch.parts_np.tolist() == parts
    assert -1 in context
    assert -1 in known


@pytest.mark.parametrize("match", ["context", "context_batch", "draw"])
def test_train_batches_do_not_know_reference_controls_or_judged_rows(tiny, match):
    first = tiny.data(match=match)
    split = tiny.split(first)
    hidden = np.concatenate([split.reference_control_idx, split.test_idx, split.calib_idx])
    second = tiny.data(tiny.changed_elsewhere(tiny.adata(), hidden), match=match)
    assert first.fingerprint != second.fingerprint
    modules = [tiny.module(d, tiny.split(d)) for d in (first, second)]
    for a, b in zip(*(m.train_dataloader() for m in modules), strict=True):
        for name, value in vars(a).items():
            assert torch.equal(value, getattr(b, name)), name


def test_blind_batches_carry_no_response(datamodule):
    rows = datamodule.split.train_idx[:4]
    full, blind = datamodule.rows[rows], datamodule.rows.blind(rows)
    assert blind.delta_ng is None
    assert torch.equal(full.x_ng, blind.x_ng)


@pytest.mark.parametrize("match", ["context", "context_batch"])
def test_means_are_fitted_without_a_dense_copy_of_the_controls(tiny, match):
    dataset = tiny.data(match=match)
    module = tiny.module(dataset, tiny.split(dataset))
    statistics, model = ConditionStatistics(), GlobalMean(module.encoder.dims)
    for batch in module.train_dataloader():
        statistics.add(batch)
        model.mean(batch)
        model.noise(batch)
        assert not {"x_ng", "x_var_ng"} & vars(batch).keys()
        assert len(batch.control_kg) == len(np.unique(module.rows.shown.row_n[batch.row_n]))


@pytest.mark.parametrize("match", ["context", "context_batch", "draw"])
def test_queries_never_read_expression(tiny, match):
    dataset = tiny.data(match=match)
    module = tiny.module(dataset, tiny.split(dataset))
    watched = tiny.watch(dataset, forbidden=np.arange(dataset.n_obs))
    batches = [b for loader in module.test_dataloader() for b in loader]
    assert batches
    assert all(b.delta_ng is None for b in batches)
    assert watched.cuts == 0


@pytest.mark.parametrize("fold", ["calib", "test"])
@pytest.mark.parametrize("match", ["context", "context_batch"])
def test_queries_are_distinct_and_cover_their_fold(tiny, fold, match):
    dataset = tiny.data(match=match)
    split = tiny.split(dataset)
    queries = tiny.module(dataset, split).queries[fold]
    by_batch = match == "context_batch"

    def question(row):
        o = dataset.obs.iloc[row]
        return (o["context_id"], o["pert_id"], o["mode"], o["batch_id"] if by_batch else "")

    asked = [question(r) for r in queries.representative_q]
    assert len(asked) == len(set(asked)) == len(queries)
    assert set(asked) == {question(r) for r in split.fold(fold)}
    np.testing.assert_array_equal(queries.fold_idx, split.fold(fold))
    assert [question(r) for r in split.fold(fold)] == [asked[q] for q in queries.query_n]


def test_a_query_is_the_blind_batch_of_its_rows(datamodule):
    queries = datamodule.queries["test"]
    every = datamodule.rows.blind(queries.fold_idx)
    answer = queries[np.arange(len(queries))]
    for name in ("x_ng", "x_var_ng", "x_count_n", "intervention_n", "parts_np", "context_n"):
        assert torch.equal(getattr(answer, name)[queries.query_n], getattr(every, name)), name


def test_indices_follow_seed_and_epoch_alone():
    def dealt(seed, epoch):
        sampler = IndexBatches(np.arange(100, 150), 8, seed)
        sampler.set_epoch(epoch)
        return np.concatenate(list(sampler)).tolist()

    assert dealt(1, 0) == dealt(1, 0)
    assert dealt(1, 0) != dealt(1, 1)
    assert dealt(1, 0) != dealt(2, 0)
    assert sorted(dealt(1, 4)) == list(range(100, 150))


def test_indices_without_a_seed_keep_their_order():
    sampler = IndexBatches(np.array([5, 3, 9, 1, 7]), 2, None)
    assert [b.tolist() for b in sampler] == [[5, 3], [9, 1], [7]]
    assert len(sampler) == 3


def test_every_epoch_of_a_loader_deals_the_fold_once(datamodule):
    loader = datamodule.train_dataloader()
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        rows = np.concatenate([b.row_n.numpy() for b in loader])
        np.testing.assert_array_equal(np.sort(rows), datamodule.split.train_idx)


def test_drawn_controls_are_input_controls_of_the_rows_own_group(tiny):
    dataset = tiny.data(match="draw")
    split = tiny.split(dataset)
    module = tiny.module(dataset, split)
    dense = dataset.adata.X.toarray()
    batch = module.rows[split.train_idx]
    control = dense[split.train_idx] - batch.delta_ng.numpy()
    context, cell_batch = (dataset.obs[c].to_numpy() for c in ("context_id", "batch_id"))
    drawn = Counter()
    for n, row in enumerate(split.train_idx):
        shown = split.input_control_idx
        pool = shown[(context[shown] == context[row]) & (cell_batch[shown] == cell_batch[row])]
        distance = np.abs(dense[pool] - control[n]).max(1)
        assert distance.min() < 1e-5
        drawn[int(pool[distance.argmin()])] += 1
    assert len(drawn) > 10


def test_drawn_controls_follow_the_declared_seed(tiny):
    def deltas():
        dataset = tiny.data(match="draw")
        return tiny.module(dataset, tiny.split(dataset)).rows[tiny.split(dataset).train_idx].delta_ng

    assert torch.equal(deltas(), deltas())


@pytest.mark.parametrize("match", ["context", "context_batch", "draw"])
def test_a_batch_is_cut_in_one_slice(tiny, match):
    dataset = tiny.data(match=match)
    module = tiny.module(dataset, tiny.split(dataset))
    watched = tiny.watch(dataset)
    n_batches = sum(1 for _ in module.train_dataloader())
    assert n_batches > 3
    assert watched.cuts == n_batches


@pytest.mark.parametrize(("role", "context"), [("input", "A"), ("input", "D"), ("reference", "C")])
def test_rows_whose_group_has_no_control_are_refused(tiny, role, context):
    """They would be given the controls of some other group without a word."""
    dataset = tiny.data()
    split = tiny.split(dataset)
    gone = ((dataset.obs["context_id"] == context) & (dataset.obs["batch_id"] == "b1")).to_numpy()
    name = f"{role}_control_idx"
    controls = getattr(split, name)
    lacking = tiny.refreeze(split, **{name: controls[~gone[controls]]})
    with pytest.raises(ContextWithoutControls, match=f"Rows have no {role} control to compare with: given"):
        tiny.module(dataset, lacking)


@pytest.mark.parametrize("role", ["input", "reference"])
def test_a_split_without_controls_is_refused_where_controls_are_cells(tiny, role):
    dataset = tiny.data()
    without = tiny.refreeze(tiny.split(dataset), **{f"{role}_control_idx": np.empty(0, dtype=np.int64)})
    with pytest.raises(ContextWithoutControls, match=f"Rows have no {role} control"):
        tiny.module(dataset, without)

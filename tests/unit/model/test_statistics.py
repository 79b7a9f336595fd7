import numpy as np
import pytest
import torch

from perturbfm.errors import ModelNotFitted
from perturbfm.model.baseline.statistics import ConditionStatistics, ConditionTable
from perturbfm.types import Batch

G, PARTS = 7, 3


class Rows:
    """Random rows with a control per (context, batch), or per context; kept in numpy beside the batches."""

    def __init__(self, seed=0, n=90, contexts=2, batches=3, by_batch=True):
        rng = np.random.default_rng(seed)
        self.intervention = rng.integers(0, 3, n)
        self.context = rng.integers(0, contexts, n)
        self.batch = rng.integers(0, batches, n)
        self.group = self.context * batches + self.batch if by_batch else self.context
        self.x_k = rng.normal(size=(contexts * batches, G)).astype(np.float32)
        self.var_c = rng.uniform(0.2, 2.0, (contexts, G)).astype(np.float32)
        self.count_k = rng.integers(5, 40, contexts * batches).astype(float)
        self.delta = (rng.normal(size=(n, G)) + self.intervention[:, None]).astype(np.float32)
        self.parts = np.eye(PARTS, dtype=np.float32)[self.intervention]

    def batch_of(self, rows):
        t = torch.from_numpy
        return Batch(
            x_ng=t(self.x_k[self.group[rows]]),
            x_var_ng=t(self.var_c[self.context[rows]]),
            x_count_n=t(self.count_k[self.group[rows]]),
            intervention_n=t(self.intervention[rows]),
            parts_np=t(self.parts[rows]),
            context_n=t(self.context[rows]),
            batch_n=t(self.batch[rows]),
            row_n=t(rows),
            delta_ng=t(self.delta[rows]),
        )

    def table(self, order=None, size=13):
        order = np.arange(len(self.context)) if order is None else order
        statistics = ConditionStatistics()
        for start in range(0, len(order), size):
            statistics.add(self.batch_of(order[start : start + size]))
        return statistics.table()


def by_hand(rows, intervention, context):
    """Delta, V, control profile, control cells and rows of one condition, by loops."""
    mine = (rows.intervention == intervention) & (rows.context == context)
    n = mine.sum()
    delta = rows.delta[mine].astype(float).mean(0)
    scatter, free, control = np.zeros(G), 0, np.zeros(G)
    for b in np.unique(rows.batch[mine]):
        here = rows.delta[mine & (rows.batch == b)].astype(float)
        scatter += ((here - here.mean(0)) ** 2).sum(0)
        free += len(here) - 1
    x, count = np.zeros(G), 0.0
    for k in np.unique(rows.group[mine]):
        share = (mine & (rows.group == k)).sum() / n
        x += share * rows.x_k[k].astype(float)
        count += rows.count_k[k]
        control += share**2 * rows.var_c[context].astype(float) / rows.count_k[k]
    return delta, scatter / free / n + control, x, count, n


@pytest.mark.parametrize("by_batch", [True, False])
def test_a_table_holds_the_mean_and_its_noise_of_every_condition(by_batch):
    rows = Rows(by_batch=by_batch)
    table = rows.table()
    assert len(table) == 6
    for c in range(6):
        i, k = int(table.intervention_c[c]), int(table.context_c[c])
        delta, noise, x, count, n = by_hand(rows, i, k)
        np.testing.assert_allclose(table.delta_cg[c], delta, rtol=1e-10)
        np.testing.assert_allclose(table.noise_cg[c], noise, rtol=1e-8)
        np.testing.assert_allclose(table.x_cg[c], x, rtol=1e-10)
        np.testing.assert_allclose(table.x_var_cg[c], rows.var_c[k], rtol=1e-6)
        assert float(table.x_count_c[c]) == count
        assert int(table.n_c[c]) == n
        np.testing.assert_array_equal(table.parts_cp[c], np.eye(PARTS)[i])


def test_two_batches_that_share_one_control_do_not_make_it_more_certain():
    """Rows match by context: the control mean is one random number, however the rows are split into batches."""
    x, var = torch.zeros(4, 1), torch.ones(4, 1)
    batch = Batch(
        x_ng=x,
        x_var_ng=var,
        x_count_n=torch.full((4,), 10.0),
        intervention_n=torch.zeros(4, dtype=torch.long),
        parts_np=torch.ones(4, 1),
        context_n=torch.zeros(4, dtype=torch.long),
        batch_n=torch.tensor([0, 0, 1, 1]),
        row_n=torch.arange(4),
        delta_ng=torch.ones(4, 1),
    )
    statistics = ConditionStatistics()
    statistics.add(batch)
    table = statistics.table()
    assert float(table.noise_cg) == pytest.approx(1.0 / 10.0)
    assert float(table.x_count_c) == 10.0


def test_the_order_of_rows_and_batches_does_not_matter():
    rows = Rows()
    shuffled = rows.table(np.random.default_rng(1).permutation(90), size=31)
    for a, b in zip(vars(rows.table()).values(), vars(shuffled).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_one_large_batch_and_many_small_ones_give_one_table():
    rows = Rows()
    for a, b in zip(vars(rows.table(size=90)).values(), vars(rows.table(size=1)).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_without_control_cells_the_noise_is_that_of_the_rows_alone():
    rows = Rows()
    rows.count_k[:] = 0.0
    rows.var_c[:] = 0.0
    table = rows.table()
    for c in range(len(table)):
        mine = (rows.intervention == int(table.intervention_c[c])) & (rows.context == int(table.context_c[c]))
        scatter = sum(
            rows.delta[mine & (rows.batch == b)].astype(float).var(0) * (mine & (rows.batch == b)).sum()
            for b in range(3)
        )
        free = mine.sum() - len(np.unique(rows.batch[mine]))
        np.testing.assert_allclose(table.noise_cg[c], scatter / free / mine.sum(), rtol=1e-6)


def test_one_row_per_condition_gives_no_negative_and_no_missing_noise():
    rows = Rows(n=3, contexts=1, batches=1)
    rows.intervention[:], rows.count_k[:] = [0, 1, 2], 0.0
    table = rows.table()
    assert (table.noise_cg == 0).all()
    np.testing.assert_allclose(table.delta_cg, rows.delta, rtol=1e-7)


def test_inner_folds_leave_out_whole_contexts_once_each():
    table = Rows(contexts=3, n=200).table()
    seen = []
    for kept, left in table.inner_folds(20):
        out = {(int(i), tuple(d)) for i, d in zip(left.intervention_c, left.delta_cg.tolist(), strict=True)}
        assert len(kept) + len(left) == len(table)
        assert len(kept.context_c.unique()) == 2
        assert (left.context_c == -1).all()
        assert not out & {(int(i), tuple(d)) for i, d in zip(kept.intervention_c, kept.delta_cg.tolist(), strict=True)}
        seen += sorted(out)
    assert len(seen) == len(set(seen)) == len(table)


def test_inner_folds_leave_out_interventions_where_there_is_one_context():
    table = Rows(contexts=1).table()
    folds = list(table.inner_folds(20))
    assert len(folds) == 3
    for kept, left in folds:
        assert not set(kept.intervention_c.tolist()) & set(left.intervention_c.tolist())
        assert (left.context_c == -1).all()


def test_inner_folds_are_never_more_than_asked_for():
    table = Rows(contexts=5, n=300).table()
    assert len(list(table.inner_folds(2))) == 2


def test_a_single_condition_has_no_inner_fold():
    table = Rows(contexts=1).table().take(torch.tensor([0]))
    assert list(table.inner_folds(20)) == []


def test_conditions_as_queries_do_not_carry_their_answers():
    batch = Rows().table().as_batch()
    assert batch.delta_ng is None
    assert (batch.batch_n == -1).all()


def test_a_blind_batch_teaches_nothing():
    batch = Rows().batch_of(np.arange(4))
    batch.delta_ng = None
    with pytest.raises(ModelNotFitted, match="A batch has no response"):
        ConditionStatistics().add(batch)


def test_no_rows_give_no_table():
    with pytest.raises(ModelNotFitted, match="No train row was seen"):
        ConditionStatistics().table()


def test_memory_grows_with_conditions_and_not_with_rows():
    statistics, rows = ConditionStatistics(), Rows(n=900)
    for start in range(0, 900, 100):
        statistics.add(rows.batch_of(np.arange(start, start + 100)))
    sizes = [v.shape[0] for v in vars(statistics).values() if isinstance(v, torch.Tensor)]
    assert sizes
    assert max(sizes) == 3 * 2 * 3


def test_a_table_keeps_double_precision():
    table = Rows().table()
    assert isinstance(table, ConditionTable)
    assert {table.delta_cg.dtype, table.noise_cg.dtype, table.x_cg.dtype} == {torch.float64}

import numpy as np
import pytest

from perturbfm.calibrate import learn_scale
from perturbfm.calibrate.scale import BOUND
from perturbfm.errors import TooFewConditions
from perturbfm.types import VARIANCE_FLOOR, Prediction


def simulated(factor, noise=0.3, conditions=60, genes=80, seed=0):
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.2, 2.0, (conditions, genes))
    v = noise * rng.uniform(0.5, 1.5, (conditions, genes))
    error = rng.normal(size=variance.shape) * np.sqrt(factor * variance + v)
    return error, variance, v, np.ones(variance.shape, bool)


def a_prediction(var):
    return Prediction(
        mean_qg=np.ones((2, 3), np.float32),
        var_qg=np.full((2, 3), var, np.float32),
        query_n=np.array([0, 1, 1]),
        idx_n=np.array([4, 5, 6]),
        genes_g=("a", "b", "c"),
        scale="log1p",
        fold="test",
        model="m",
        split_hash="h",
        fingerprint="f",
    )


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0, 100.0])
def test_the_planted_factor_is_found(factor):
    error, variance, v, scored = simulated(factor)
    scale = learn_scale(error, variance, v, scored)
    assert scale.factor == pytest.approx(factor, rel=0.15)
    assert scale.mean_z2_after == pytest.approx(1.0, abs=0.05)
    assert scale.mean_z2_before == pytest.approx(np.mean(error**2 / (variance + v)))
    assert not scale.at_bound
    assert scale.note == "" or "uninformative" in scale.note


def test_without_noise_the_factor_is_the_mean_squared_z():
    """e ~ N(0, a s): the maximum of the likelihood is the mean of e squared over s, exactly."""
    error, variance, _, scored = simulated(3.0, noise=0.0)
    scale = learn_scale(error, variance, np.zeros_like(error), scored)
    assert scale.factor == pytest.approx(np.mean(error**2 / variance), rel=1e-4)
    assert scale.obs_share is None
    assert scale.note == "the noise of the truth is unknown, so the scale holds it too"


def test_the_factor_does_not_swallow_the_noise():
    """With much noise, a scale on the sum of both would be far from the planted one."""
    error, variance, v, scored = simulated(0.5, noise=0.6, conditions=400)
    scale = learn_scale(error, variance, v, scored)
    together = np.mean(error**2 / variance)
    assert together > 1.0
    assert scale.factor == pytest.approx(0.5, rel=0.1)


def test_the_share_of_noise_is_a_ratio_of_sums():
    error, variance, v, scored = simulated(2.0)
    scale = learn_scale(error, variance, v, scored)
    assert scale.obs_share == pytest.approx(v.sum() / (scale.factor * variance + v).sum())


def test_noise_alone_is_called_uninformative():
    rng = np.random.default_rng(1)
    v = np.full((30, 40), 1.0)
    scale = learn_scale(rng.normal(size=v.shape), np.full_like(v, 0.05), v, np.ones(v.shape, bool))
    assert scale.obs_share > 0.5
    assert "uninformative" in scale.note


@pytest.mark.parametrize(("error", "edge"), [(0.0, 1 / BOUND), (1e4, BOUND)])
def test_a_factor_at_the_edge_is_flagged(error, edge):
    shape = (5, 6)
    scale = learn_scale(np.full(shape, error), np.ones(shape), np.full(shape, 1e-9), np.ones(shape, bool))
    assert scale.at_bound
    assert "edge" in scale.note
    assert scale.factor == pytest.approx(edge, rel=0.02)


def test_genes_that_are_not_scored_do_not_count():
    error, variance, v, scored = simulated(2.0)
    scored[:, 40:] = False
    before = learn_scale(error, variance, v, scored)
    error[:, 40:] = 1e6
    error[0, 41] = np.nan
    after = learn_scale(error, variance, v, scored)
    assert after == before
    assert after.n_entries == 60 * 40
    assert after.n_conditions == 60


def test_a_condition_without_a_scored_gene_is_not_counted():
    error, variance, v, scored = simulated(2.0)
    scored[:10] = False
    error[10] = np.nan
    assert learn_scale(error, variance, v, scored).n_conditions == 49


def test_applying_multiplies_the_variance_and_nothing_else():
    error, variance, v, scored = simulated(5.0)
    scale, prediction = learn_scale(error, variance, v, scored), a_prediction(0.2)
    scaled = scale.apply(prediction)
    np.testing.assert_allclose(scaled.var_qg, 0.2 * scale.factor, rtol=1e-6)
    assert scaled.var_qg.dtype == np.float32
    assert scaled.mean_qg is prediction.mean_qg
    assert (prediction.var_qg == np.float32(0.2)).all()


def test_applying_keeps_the_floor():
    shape = (5, 6)
    scale = learn_scale(np.zeros(shape), np.ones(shape), np.full(shape, 1e-9), np.ones(shape, bool))
    assert (scale.apply(a_prediction(1e-5)).var_qg == np.float32(VARIANCE_FLOOR)).all()


def test_nothing_scored_is_refused():
    error, variance, v, scored = simulated(1.0, conditions=4)
    with pytest.raises(TooFewConditions, match="Nothing to calibrate on: given 4 conditions without a scored gene"):
        learn_scale(error, variance, v, ~scored)
    with pytest.raises(TooFewConditions, match="larger calibration fold"):
        learn_scale(np.full_like(error, np.nan), variance, v, scored)


def test_the_record_is_plain_and_says_where_it_was_learned():
    record = learn_scale(*simulated(1.0), fold="calib").record()
    assert record["method"] == "scale"
    assert record["learned_on"] == "calib"
    assert all(isinstance(v, (str, int, float, bool)) for v in record.values())

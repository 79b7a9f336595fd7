"""Is one Gaussian scale shown to miss, as it must where the errors of a model are not Gaussian?

Protocol section 5: for the per-perturbation mean, one scale covers 0.57 / 0.86 / 0.93 / 0.97 at 50 / 80 / 90 / 95 %.
Transfer errors are large for a few genes and small for most, so a scale that fits the large ones is too wide at 50 %.
"""

import numpy as np

from perturbfm.calibrate import learn_scale
from perturbfm.data.planted import as_dataset
from perturbfm.data.synthetic import make_world
from perturbfm.data.world_settings import preset
from perturbfm.eval.metric.uncertainty import coverage
from perturbfm.eval.truth import Truth
from perturbfm.judging import observe
from perturbfm.model.baseline.per_perturbation_mean import PerPerturbationMean
from perturbfm.split import context_ood
from perturbfm.train.closed_form import ClosedForm
from perturbfm.train.datamodule import PerturbDataModule
from perturbfm.train.fit import TrainerSettings, fit_and_test

LEVELS = (0.5, 0.8, 0.9, 0.95)


def covered(seed):
    dataset = as_dataset(make_world(preset("precise", seed)), "synthetic", "precise")
    split = context_ood(dataset.labels(), ["C6"], seed=seed).freeze()
    datamodule = PerturbDataModule(dataset, split, 2048, seed=0)
    found = {}
    module = ClosedForm("mean", lambda dims: PerPerturbationMean(dims), datamodule.encoder.dims)
    fit_and_test(module, datamodule, TrainerSettings(), found.update, lambda *_, **__: None, None)
    calib, test = (Truth(observe(dataset, split, f)) for f in ("calib", "test"))
    mean, var = calib.predicted(found["calib"])
    scale = learn_scale(calib.delta_cg - mean, var, calib.noise_cg, calib.scored_cg)
    mean, var = test.predicted(scale.apply(found["test"]))
    case = test.case(mean, var, None, np.full(len(test.n_c), "powered", dtype=object))
    return [coverage(case, level=level, noise="added").value_c.mean() for level in LEVELS]


def test_one_scale_is_too_wide_in_the_middle():
    at_50, at_80, at_90, at_95 = np.mean([covered(seed) for seed in range(3)], axis=0)
    assert at_50 > 0.53
    assert at_80 > 0.81
    assert 0.86 < at_90 < 0.97
    assert 0.92 < at_95 < 0.99

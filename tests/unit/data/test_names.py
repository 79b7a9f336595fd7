"""Data sets by name: shipped yaml, path, override, and what a user registers."""

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hydra.core.config_store import ConfigStore

from perturbfm import config
from perturbfm.data import load, load_synthetic, register, write_artifact
from perturbfm.errors import BadValue, MissingValue, UnknownChoice, UnknownKey

OWN = """
import numpy as np
import pandas as pd
from anndata import AnnData
from perturbfm.data import PerturbDataset
from perturbfm.data.declaration import Declaration

def make(name: str = "own", size: float = 0.5) -> PerturbDataset:
    obs = pd.DataFrame({"pert_id": ["control", "A"], "context_id": "k", "batch_id": "b", "is_control": [True, False],
                        "mode": "drug"}, index=["c0", "c1"])
    x = np.array([[1.25], [1.25 + size]], dtype=np.float32)
    return PerturbDataset(AnnData(X=x, obs=obs, var=pd.DataFrame(index=["g"])), Declaration(name, "log1p"))

def wrong() -> str:
    return "no data"
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """An importable module of the user's; what it registers is forgotten after the test."""
    (tmp_path / "own_data_of_a_test.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(config, "ALLOWED_PREFIXES", list(config.ALLOWED_PREFIXES))
    before = set(ConfigStore.instance().repo.get("data", {}))
    yield "own_data_of_a_test"
    sys.modules.pop("own_data_of_a_test", None)
    group = ConfigStore.instance().repo.get("data", {})
    for name in set(group) - before:
        del group[name]


@pytest.fixture(scope="module")
def h5ad_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("h5ad") / "my file.h5ad"
    obs = pd.DataFrame({"drug": ["DMSO", "X"], "line": ["k", "k"]}, index=["c0", "c1"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        AnnData(X=np.array([[0.5, 1], [2, 3]], np.float32), obs=obs, var=pd.DataFrame(index=["a", "b"])).write_h5ad(
            path
        )
    return path


H5AD = {"scale": "log1p", "pert_column": "drug", "context_column": "line", "control_labels": ["DMSO"], "mode": "drug"}


def test_a_name_is_its_yaml_and_overrides_change_it():
    data = load("synthetic", preset="noisy", match="context")
    assert (data.declared.name, data.declared.match) == ("synthetic", "context")
    assert data.fingerprint == load_synthetic(preset="noisy").fingerprint


def test_an_h5ad_path_is_loaded_with_its_columns_as_overrides(h5ad_path):
    data = load(str(h5ad_path), **H5AD)
    assert data.declared.name == "my_file"
    np.testing.assert_array_equal(data.delta, [[0, 0], [1.5, 2]])


def test_an_h5ad_path_without_its_scale_is_refused(h5ad_path):
    with pytest.raises(MissingValue, match=r"data\.scale is not set"):
        load(str(h5ad_path))


def test_an_artifact_folder_is_loaded_by_its_path(h5ad_path, tmp_path):
    data = load(str(h5ad_path), **H5AD)
    assert load(str(write_artifact(data, tmp_path / "art"))).fingerprint == data.fingerprint


def test_an_unknown_name_gives_the_nearest():
    with pytest.raises(UnknownChoice, match=r"given sinthetic, expected one of .*Did you mean synthetic"):
        load("sinthetic")


def test_an_unknown_override_gives_the_nearest():
    with pytest.raises(UnknownKey, match=r"Unknown config key 'data\.presett'.*Did you mean preset"):
        load("synthetic", presett="noisy")


def test_an_override_of_the_wrong_type_is_refused():
    with pytest.raises(BadValue, match=r"data\.seed has the wrong type: given 'zero', expected int"):
        load("synthetic", seed="zero")


def test_register_a_dotted_path(own_module):
    register("own_by_path", f"{own_module}.make")
    data = load("own_by_path")
    assert (data.declared.name, data.n_obs) == ("own", 2)
    np.testing.assert_array_equal(data.delta, [[0], [0.5]])


def test_register_a_function(own_module):
    module = __import__(own_module)
    register("own_by_function", module.make)
    np.testing.assert_array_equal(load("own_by_function").X_pert, [[1.25], [1.75]])


def test_a_registered_function_must_return_a_data_set(own_module):
    register("own_wrong", f"{own_module}.wrong")
    with pytest.raises(TypeError, match="own_wrong builds str, not PerturbDataset"):
        load("own_wrong")

"""Does the preset vcc2026 come from its own library, and say so where it cannot?"""

import importlib
import json

import numpy as np
import pytest

from perturbfm.errors import PackageAbsent, PredictionMismatch
from perturbfm.eval import vcc2026


@pytest.mark.parametrize("module", ["cell_eval2", "pdex"])
def test_without_the_extra_it_says_what_to_install(monkeypatch, module):
    real = importlib.import_module

    def absent(name):
        if name == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return object() if name in ("cell_eval2", "pdex") else real(name)

    monkeypatch.setattr(vcc2026, "import_module", absent)
    with pytest.raises(PackageAbsent, match=rf"given no module {module}.*perturbfm\[vcc\]"):
        vcc2026.vcc2026(None, None, column="condition", control="control")


def _counts(folder, name, layer=None):
    import anndata

    file = anndata.read_h5ad(folder / "inputs" / f"{name}.h5ad")
    file = file[(file.obs["cell_type"] == "k562").to_numpy()].copy()
    if layer is not None:
        file.X = file.layers[layer]
    return file


@pytest.mark.filterwarnings("ignore")
def test_numbers_are_those_that_the_suite_stored(parity_folder):
    pytest.importorskip("cell_eval2")
    pytest.importorskip("pdex")
    official = json.loads((parity_folder / "cell_eval2" / "0.20.0_devel.json").read_text())
    known = official["values"]["devel_k562/vcc2026-counts/thinned_truth"]
    found = vcc2026.vcc2026(
        _counts(parity_folder, "pred_counts_thinned_truth"),
        _counts(parity_folder, "truth", "counts"),
        column="condition",
        control="control",
        target=official["target_gene_map"]["devel_k562"],
    )
    for metric, by_name in known.items():
        for name, value in by_name.items():
            given = found.values[metric].get(name)
            assert (given is None) == (value is None), (metric, name)
            assert value is None or np.isclose(given, value, rtol=1e-6, atol=1e-11), (metric, name)
    assert found.overall == {}
    assert "not positive" in found.refusal


@pytest.mark.filterwarnings("ignore")
def test_a_prediction_that_is_no_counts_is_refused(parity_folder):
    pytest.importorskip("cell_eval2")
    pytest.importorskip("pdex")
    truth = _counts(parity_folder, "truth", "counts")
    with pytest.raises(PredictionMismatch, match="cell-eval2 refuses these two files.*fractional"):
        vcc2026.vcc2026(_counts(parity_folder, "pred_noisy_truth"), truth, column="condition", control="control")

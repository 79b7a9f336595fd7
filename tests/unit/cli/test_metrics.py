"""Does every metric explain itself, under any of its names?"""

from importlib.util import find_spec

import numpy as np
import pytest
from anndata import AnnData

from perturbfm.cli import main
from perturbfm.cli.metrics import definition_of
from perturbfm.errors import PackageAbsent, UnknownChoice, UnreadableFile
from perturbfm.eval.panel import FULL


def test_the_list_holds_every_identifier_and_alias_headline_first(capsys):
    assert main(["metrics", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == len(FULL.metrics)
    stars = [line.startswith("*") for line in lines]
    assert stars == sorted(stars, reverse=True)
    for m, line in ((m, next(x for x in lines if f" {m.identifier} " in x)) for m in FULL.metrics):
        assert all(alias in line for alias in m.aliases)


@pytest.mark.parametrize("metric", FULL.metrics, ids=lambda m: m.identifier)
def test_a_metric_says_what_it_is_where_it_comes_from_and_when_it_is_not(metric, capsys):
    assert main(["metrics", "explain", metric.identifier]) == 0
    told = capsys.readouterr().out
    assert metric.meaning in told
    assert "invariances: permute_cells" in told
    _, definition = definition_of(metric)
    assert "Source:" in definition
    assert "Returns:" in definition


def test_a_beginning_is_enough_when_only_one_has_it(capsys):
    assert main(["metrics", "explain", "pfm.ev"]) == 0
    assert capsys.readouterr().out.startswith("pfm.ev[")


@pytest.mark.parametrize(
    ("name", "said"), [("coverage", "Several metrics are named"), ("pfm.evv", "No metric is named")]
)
def test_a_name_of_none_or_several_is_refused(name, said, capsys):
    assert main(["metrics", "explain", name]) == UnknownChoice.exit_code
    assert said in capsys.readouterr().err


def test_the_challenges_preset_needs_its_library_and_two_files(tmp_path, capsys):
    words = ["metrics", "vcc2026", str(tmp_path / "p.h5ad"), str(tmp_path / "t.h5ad")]
    assert main(words) == UnreadableFile.exit_code
    assert "A file of counts cannot be read" in capsys.readouterr().err
    if find_spec("cell_eval2") is None:
        made = AnnData(np.ones((4, 2), dtype=np.float32), obs={"target_gene": ["A", "A", "non-targeting", "B"]})
        for name in ("p", "t"):
            made.write_h5ad(tmp_path / f"{name}.h5ad")
        assert main(words) == PackageAbsent.exit_code
        assert 'pip install "perturbfm[vcc]"' in capsys.readouterr().err


def test_identifiers_and_aliases_are_unique():
    names = [n for m in FULL.metrics for n in (m.identifier, *m.aliases)]
    assert len(names) == len(set(names))

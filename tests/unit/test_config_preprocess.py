"""What a preprocess choice may say, and how it is told what it may not."""

import pytest

from perturbfm import config
from perturbfm.errors import BadValue, ForbiddenTarget, MissingValue, PreprocessLeaks, UnknownChoice, UnknownKey

PERTURBENCH = "preprocess=perturbench"


@pytest.mark.parametrize(
    ("overrides", "error", "match"),
    [
        (["preprocess=perturbbench"], UnknownChoice, "Did you mean perturbench"),
        (["+preprocess.stage=[]"], UnknownKey, "Did you mean stages"),
        (["+preprocess.cells.min_gene=3"], UnknownKey, "Did you mean min_genes"),
        (["preprocess.cells.min_gene=3"], UnknownKey, "min_genes"),
        ([PERTURBENCH, "+preprocess.stages.0.min_cell=3"], UnknownKey, "Did you mean min_cells"),
        (
            [PERTURBENCH, "preprocess.stages.0.min_cells=few"],
            BadValue,
            r"preprocess\.stages\.0\.min_cells has the wrong type",
        ),
        (["preprocess.stages=[log1p]"], BadValue, r"preprocess\.stages\.0 is no stage"),
        (["preprocess.stages=[{n_top: 3}]"], MissingValue, r"preprocess\.stages\.0 names no _target_"),
        (
            ["preprocess.stages=[{_target_: perturbfm.data.file.load_file, name: a, path: b, scale: c}]"],
            ForbiddenTarget,
            r"preprocess\.stages\.0 is no preprocess stage",
        ),
        (["preprocess.stages=[{_target_: os.system}]"], ForbiddenTarget, "is not allowed"),
        (["preprocess.learn_on=test"], BadValue, r"Unknown preprocess\.learn_on: given test, expected train or all"),
        (["preprocess.cells.min_genes=0"], BadValue, r"preprocess\.cells\.min_genes is out of range: given 0"),
        (["preprocess.cells.max_mito_fraction=10"], BadValue, "above 0 and at most 1"),
        (["preprocess.cells.min_genes=many"], BadValue, "does not fit its schema"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, error, match):
    with pytest.raises(error, match=match):
        config.compose_config(overrides)


def test_learning_on_all_cells_must_be_allowed_in_so_many_words():
    leak = [PERTURBENCH, "preprocess.learn_on=all"]
    with pytest.raises(
        PreprocessLeaks, match=r"cells that models are judged on: given preprocess\.learn_on=all.*allow_leak=true"
    ):
        config.compose_config(leak)
    assert config.compose_config([*leak, "preprocess.allow_leak=true"]).preprocess.learn_on == "all"
    assert config.compose_config([PERTURBENCH, "preprocess.allow_leak=true"]).preprocess.learn_on == "train"


def test_a_stage_is_changed_by_its_place():
    cfg = config.compose_config([PERTURBENCH, "preprocess.stages.3.n_top=7"])
    assert cfg.preprocess.stages[3].n_top == 7
    assert config.build(cfg.preprocess.stages[3]).n_top == 7


def test_the_order_of_stages_is_in_the_hash_of_a_configuration():
    two = "{_target_: perturbfm.train.stage.log1p.Log1p}", "{_target_: perturbfm.train.stage.scale.Scale}"
    one, other = (config.compose_config([f"preprocess.stages=[{a}, {b}]"]) for a, b in (two, two[::-1]))
    assert config.config_hash(one) != config.config_hash(other)

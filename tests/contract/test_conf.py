"""Every file in conf/ fits its socket, and every file in splits/ still says what it said."""

import inspect
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import get_object
from omegaconf import OmegaConf

from perturbfm import config, places
from perturbfm.data.world_settings import PRESETS
from perturbfm.errors import ConfigError, MissingValue, StageOutOfPlace
from perturbfm.eval.panel import panel_named
from perturbfm.model.baseline.statistics import ConditionStatistics
from perturbfm.model.response import AbstractClosedForm, AbstractNetwork
from perturbfm.split import Split, SplitStore
from perturbfm.train.fit import seed_all
from perturbfm.train.preprocess import scale_after
from perturbfm.types import VARIANCE_FLOOR, Batch, Dims

CONF = places.conf_dir()
SPLITS = CONF.parent / "splits"
GROUPS = ("data", "preprocess", "split", "model", "trainer", "eval", "ablation")
NAMED = ["data.path=x.h5ad"]
TEMPLATES = ("perturbench", "gears", "scperturb", "state", "pertpy", "scperturbench", "pseudobulk", "tenx")
GIVEN = ("labels", "base", "fold_of_cell", "origin", "on_skip")
"""Parameters of rules that a command line gives, not a yaml."""

VALUES = {"holdout": "[a]", "column": "batch", "contexts": "[a]"}
OBLIGATORY = {
    **{name: [*NAMED, "data.scale=log1p"] for name in ("file", "h5ad", "csv")},
    **dict.fromkeys(TEMPLATES, NAMED),
    "artifact": ["data.path=x"],
}
EXTERNAL = ["model.path=pred.h5ad"]
PROJECTS = {
    "perturbench": "PerturbBench",
    "gears": "GEARS",
    "systema": "Systema",
    "state": "State",
    "scperturbench": "scPerturBench",
}
DIMS = Dims(n_genes=7, n_interventions=5, n_parts=4, n_contexts=3, n_batches=2)


def names(group):
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


FILES = [(g, n) for g in GROUPS for n in names(g)]
RULES = names("split/rule")
MODELS = [n for n in names("model") if n != "external"]  # which is no model of ours, and is not trained
ABLATIONS = [n for n in names("ablation") if n != "none"]


def composed(group, name, *more):
    needed = OBLIGATORY.get(name, []) if group == "data" else EXTERNAL if name == "external" else []
    return config.compose_config([f"{group}={name}", *needed, *more])


def ablated(name):
    """The first model that an ablation fits, without it and with it, as plain containers."""
    for model in MODELS:
        try:
            return config.plain(composed("model", model)), config.plain(composed("model", model, f"ablation={name}"))
        except ConfigError:
            continue
    return pytest.fail(f"the ablation {name} fits no model")


def leaves(node, where=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value


# --- files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "name"), FILES)
def test_every_file_composes_and_its_target_binds(group, name):
    if group == "ablation" and name != "none":
        assert ablated(name)[1]["ablation"]["name"] == name
    else:
        config.check(composed(group, name))


def test_every_file_is_reachable_and_of_a_known_group():
    found = {p.relative_to(CONF).as_posix() for p in CONF.rglob("*") if p.is_file()}
    assert found == {"config.yaml", *(f"{g}/{n}.yaml" for g, n in FILES), *(f"split/rule/{n}.yaml" for n in RULES)}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_has_the_options_and_defaults_of_its_function(name):
    written = yaml.safe_load((CONF / "split" / "rule" / f"{name}.yaml").read_text())
    function = get_object(written.pop("_target_"))
    assert written.pop("_partial_") is True
    taken = {k: p.default for k, p in inspect.signature(function).parameters.items() if k not in GIVEN}
    differ = {"on_refusal": ("skip", "raise")} if name == "leave_one_context_out" else {}
    for key, default in taken.items():
        shown = written.pop(key)
        expected = (
            "???" if default is inspect.Parameter.empty else list(default) if isinstance(default, tuple) else default
        )
        assert (shown, expected) == differ.get(key, (expected, expected)), key
    assert not written
    needed = [f"{key}={VALUES[key]}" for key, p in taken.items() if p is inspect.Parameter.empty]
    assert config.compose_rule(name, needed)._target_.startswith("perturbfm.split.rule.")
    assert config.rules()[name]


def test_the_defaults_name_files_that_are_there():
    chosen = [d for d in yaml.safe_load((CONF / "config.yaml").read_text())["defaults"] if isinstance(d, dict)]
    assert [g for d in chosen for g in d if not g.startswith("override")] == list(GROUPS)
    assert all((CONF / g / f"{n}.yaml").is_file() for d in chosen for g, n in d.items() if g in GROUPS)


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_a_value_and_adds_no_key(name):
    without, with_it = (dict(leaves(plain)) for plain in ablated(name))
    assert with_it.keys() == without.keys()
    assert [k for k in without if with_it[k] != without[k] and k != "ablation.name"]


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_small_and_says_its_question(name):
    lines = (CONF / "ablation" / f"{name}.yaml").read_text().splitlines()
    assert len(lines) <= 7
    assert any(line.startswith("#") and line.endswith("?") for line in lines)


@pytest.mark.parametrize("name", names("data"))
def test_data_is_loaded_by_a_function_of_the_data_room(name):
    assert composed("data", name).data._target_.startswith("perturbfm.data.")


@pytest.mark.parametrize("name", sorted(set(OBLIGATORY) - {"artifact"}))
def test_a_template_asks_for_what_it_cannot_know(name):
    for key in OBLIGATORY[name]:
        given = [other for other in OBLIGATORY[name] if other != key]
        with pytest.raises(MissingValue, match=key.partition("=")[0].replace(".", r"\.") + " is not set"):
            config.check(config.compose_config([f"data={name}", *given]))


@pytest.mark.parametrize("name", [n for n in names("data") if n not in OBLIGATORY])
def test_data_of_one_file_needs_ten_lines(name):
    assert len((CONF / "data" / f"{name}.yaml").read_text().splitlines()) <= 10


def test_the_general_template_says_every_keyword_and_its_default():
    from inspect import signature

    from perturbfm.data import load_file

    known = signature(load_file).parameters
    told = yaml.safe_load((CONF / "data" / "file.yaml").read_text())
    assert set(told) - {"_target_"} == set(known)
    assert composed("data", "h5ad").data == composed("data", "file").data
    empty = {"aliases", "keep", "drop", "file_values"}
    default = {k: None if p.default is p.empty else p.default for k, p in known.items()}
    other = {k for k in known if told[k] != "???" and told[k] != default[k] and k not in empty}
    assert {k for k in other if list(told[k] or ()) != list(default[k] or ())} == {"batch_column"}


@pytest.mark.parametrize("name", [n for n in names("data") if n not in OBLIGATORY])
def test_data_is_named_as_its_file(name):
    assert composed("data", name).data.name == name


def test_the_default_world_is_a_preset_that_there_is():
    assert composed("data", "synthetic").data.preset in PRESETS


@pytest.mark.parametrize("name", names("preprocess"))
def test_a_preprocess_choice_builds_and_says_what_it_does(name):
    chosen = composed("preprocess", name).preprocess
    assert (chosen.name, chosen.learn_on, chosen.allow_leak) == (name, "train", False)
    stages = [config.build(stage) for stage in chosen.stages]
    lines = (CONF / "preprocess" / f"{name}.yaml").read_text().splitlines()
    comment = " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))
    if not stages:
        assert name == "none"
        return
    if stages[0].takes == ("log1p",):
        assert name.startswith("log_")
        return
    assert scale_after(stages, "counts") == "log1p"
    with pytest.raises(StageOutOfPlace, match="log_hvg"):
        scale_after(stages, "log1p")
    for said in (f"What {PROJECTS[name]} does", "Where we deviate", "learn_on=all", "marked as leaking"):
        assert said in comment


PRESETS_BY_CATALOG = {  # genes in cells, target, flavor, highly variable genes, differential genes, perturbed genes
    "perturbench": (10, "median", "seurat_v3", [4000], 25, True),
    "gears": (None, "median", "seurat", [5000], 0, False),
    "systema": (None, "median", "seurat", [5000], 0, False),
    "state": (None, "median", "seurat", [2000], 0, False),
    "scperturbench": (10, 10000, "seurat", [500, 1000, 2000, 5000], 0, False),
}


@pytest.mark.parametrize("name", sorted(PRESETS_BY_CATALOG))
def test_a_preset_has_the_numbers_of_its_project(name):
    least, target, flavor, tops, de, perturbed = PRESETS_BY_CATALOG[name]
    stages = [config.build(stage) for stage in composed("preprocess", name).preprocess.stages]
    kinds = [type(s).__name__ for s in stages]
    filters = ["FilterGenes"] if least else []
    assert kinds == [*filters, "NormaliseTotal", "Log1p", *["HighlyVariable"] * len(tops)]
    assert not least or stages[0].min_cells == least
    assert stages[len(filters)].target == target
    chosen = stages[len(filters) + 2 :]
    assert [s.n_top for s in chosen] == tops
    assert {(s.flavor, s.plus_de, s.plus_perturbed) for s in chosen} == {(flavor, de, perturbed)}
    assert all(s.subset == (name != "scperturbench") for s in chosen)


def test_scperturbench_filters_the_cells_it_states():
    cells = config.plain(composed("preprocess", "scperturbench"))["preprocess"]["cells"]
    assert {k: v for k, v in cells.items() if v is not None} == {
        "min_genes": 200,
        "max_mito_fraction": 0.1,
        "relaxed_mito_fraction": 0.15,
        "mito_prefix": "MT-",
        "min_cells_per_condition": 30,
    }


@pytest.mark.parametrize("name", names("eval"))
def test_eval_names_a_panel_that_there_is(name):
    assert panel_named(composed("eval", name).eval.panel).name == name


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_named_as_its_file(name):
    assert composed("model", name).model.name == name


def test_another_tools_file_has_the_options_and_defaults_of_what_reads_it():
    told = yaml.safe_load((CONF / "model" / "external.yaml").read_text())
    known = inspect.signature(get_object(told.pop("_target_"))).parameters
    default = {k: "???" if p.default is p.empty else p.default for k, p in known.items()}
    assert told == {**default, "name": "external"}
    with pytest.raises(MissingValue, match="model.path is not set"):
        config.compose_config(["model=external"])
    built = config.build(composed("model", "external").model)
    assert (built.name, built.path) == ("external", Path("pred.h5ad"))


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_that_the_data_decides_stands_in_a_file(group):
    for name in names(group):
        keys = {k.rpartition(".")[2] for k, _ in leaves(yaml.safe_load((CONF / group / f"{name}.yaml").read_text()))}
        assert not keys & set(DIMS.__dataclass_fields__)


def test_the_fixed_groups_have_the_schema_of_their_defaults():
    cfg = config.compose_config()
    assert OmegaConf.get_type(cfg) is config.Config
    assert config.plain(cfg)["trainer"].keys() == config.TrainerConfig.__dataclass_fields__.keys()


# --- splits --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names("split"))
def test_a_split_is_stored_under_the_hash_that_its_file_names(name):
    digest = composed("split", name).split.hash
    if digest is None:
        assert name == "frozen"
        return
    assert len(digest) == 64
    assert SplitStore(SPLITS).load(digest).frozen_hash == digest


@pytest.mark.parametrize("path", sorted(SPLITS.glob("*.json")), ids=lambda p: p.name)
def test_a_stored_split_verifies_and_is_named_by_its_content(path):
    split = Split.from_json(path.read_text(), path.name)
    split.assert_frozen()
    assert split.file_name == path.name
    assert split.to_json() == path.read_text()


def test_nothing_but_splits_lies_beside_them():
    assert SplitStore(SPLITS).verify() == []
    assert {p.suffix for p in SPLITS.iterdir()} == {".json"}


@pytest.mark.parametrize("path", sorted(SPLITS.glob("*.json")), ids=lambda p: p.name)
def test_a_stored_split_is_of_data_that_can_be_chosen(path: Path):
    assert Split.from_json(path.read_text(), path.name).data_name in names("data")


# --- models --------------------------------------------------------------------------------------------


def batch(n=12, seed=0, response=True):
    """Rows of five interventions in three contexts; the controls belong to the context."""
    rng = torch.Generator().manual_seed(seed)
    context = torch.arange(n) % 3
    intervention = torch.arange(n) % 5
    parts = torch.nn.functional.one_hot(intervention % 4, 4)
    x_kg = torch.rand(3, 7, generator=rng)
    return Batch(
        x_ng=x_kg[context],
        x_var_ng=torch.full((n, 7), 0.5),
        x_count_n=torch.full((n,), 30.0, dtype=torch.float64),
        intervention_n=intervention,
        parts_np=parts.to(torch.uint8),
        context_n=context,
        batch_n=torch.arange(n) % 2,
        row_n=torch.arange(n),
        delta_ng=torch.randn(n, 7, generator=rng) if response else None,
    )


def take(b, rows):
    return Batch(**{k: v[rows] for k, v in vars(b).items() if v is not None})


def made(name):
    """A fitted model of a file, by the path a run takes."""
    seed_all(0)
    module = config.build(composed("model", name).model)(dims=DIMS)
    model, train = module.model, batch(60, seed=1)
    statistics = ConditionStatistics()
    statistics.add(train)
    if isinstance(model, AbstractClosedForm):
        model.solve(statistics.table())
    if isinstance(model, AbstractNetwork):
        optimizer = module.configure_optimizers()
        for _ in range(3):
            optimizer.zero_grad()
            loss = ((model.mean(train) - train.delta_ng) ** 2).mean() + model.cell_variance(train).mean()
            loss.backward()
            optimizer.step()
        model.learn_variance(statistics.table())
    return module.eval()


@pytest.fixture(scope="module", params=MODELS)
def fitted(request):
    return request.param, made(request.param)


def answer(module, b):
    with torch.no_grad():
        return module.model(b)


def test_a_model_answers_every_row_and_gene_with_a_distribution(fitted):
    found = answer(fitted[1], batch())
    assert found.mean_ng.shape == found.var_ng.shape == (12, 7)
    assert found.mean_ng.dtype == found.var_ng.dtype == torch.float32
    assert torch.isfinite(found.mean_ng).all()
    assert (found.var_ng >= VARIANCE_FLOOR * 0.999).all()
    assert torch.isfinite(found.var_ng).all()


def test_rows_do_not_see_each_other(fitted):
    _, module = fitted
    whole, b = answer(module, batch()), batch()
    for rows in ([3], [11, 0], list(reversed(range(12)))):
        part = answer(module, take(b, rows))
        torch.testing.assert_close(part.mean_ng, whole.mean_ng[rows], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(part.var_ng, whole.var_ng[rows], rtol=1e-5, atol=1e-6)


def test_a_prediction_ignores_the_response(fitted):
    _, module = fitted
    with_response, other, blind = batch(), batch(), batch(response=False)
    other.delta_ng = other.delta_ng * 1000 + 5
    found = [answer(module, b) for b in (with_response, other, blind)]
    for f in found[1:]:
        torch.testing.assert_close(f.mean_ng, found[0].mean_ng, rtol=0, atol=0)
        torch.testing.assert_close(f.var_ng, found[0].var_ng, rtol=0, atol=0)


def test_a_saved_model_answers_the_same_in_a_new_one(fitted, tmp_path):
    name, module = fitted
    torch.save(module.state_dict(), tmp_path / "state.pt")
    seed_all(99)
    fresh = config.build(composed("model", name).model)(dims=DIMS)
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    a, b = answer(module, batch()), answer(fresh.eval(), batch())
    torch.testing.assert_close(a.mean_ng, b.mean_ng, rtol=0, atol=0)
    torch.testing.assert_close(a.var_ng, b.var_ng, rtol=0, atol=0)


def test_the_same_seed_gives_the_same_numbers(fitted):
    name, module = fitted
    a, b = answer(module, batch()), answer(made(name), batch())
    torch.testing.assert_close(a.mean_ng, b.mean_ng, rtol=0, atol=0)
    torch.testing.assert_close(a.var_ng, b.var_ng, rtol=0, atol=0)


def test_what_train_never_had_gets_a_finite_answer(fitted):
    b = batch()
    b.context_n, b.intervention_n = torch.full((12,), -1), torch.full((12,), -1)
    b.batch_n, b.parts_np = torch.full((12,), -1), torch.zeros_like(b.parts_np)
    found = answer(fitted[1], b)
    assert torch.isfinite(found.mean_ng).all()
    assert (found.var_ng > 0).all()


def test_a_file_without_control_cells_gets_a_finite_answer(fitted):
    b = batch()
    b.x_ng, b.x_var_ng = torch.zeros_like(b.x_ng), torch.zeros_like(b.x_var_ng)
    b.x_count_n = torch.zeros_like(b.x_count_n)
    found = answer(fitted[1], b)
    assert torch.isfinite(found.mean_ng).all()
    assert (found.var_ng > 0).all()


def test_asking_changes_nothing_in_a_model(fitted):
    _, module = fitted
    before = {k: v.clone() for k, v in module.state_dict().items()}
    answer(module, batch())
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())

"""What a configuration may say, and how it is told what it may not."""

import pytest
from omegaconf import OmegaConf

from perturbfm import config
from perturbfm.errors import (
    BadValue,
    ConfigError,
    ForbiddenTarget,
    MissingValue,
    UnknownChoice,
    UnknownKey,
    UnreadableFile,
)

H5AD = ["data=h5ad", "data.name=x", "data.path=x.h5ad", "data.scale=log1p"]


@pytest.fixture
def choices(monkeypatch):
    """What is added at run time is forgotten after the test."""
    monkeypatch.setattr(config, "ALLOWED_PREFIXES", list(config.ALLOWED_PREFIXES))


def hashed(*overrides):
    return config.config_hash(config.compose_config(overrides))


# --- keys and choices ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "key", "near"),
    [
        (["sedd=1"], "sedd", "seed"),
        (["+sedd=1"], "sedd", "seed"),
        (["modle=ridge"], "modle", "model"),
        (["trainer.max_epoch=1"], "trainer.max_epoch", "max_epochs"),
        (["+trainer.max_epoch=1"], "trainer.max_epoch", "max_epochs"),
        (["+split.hsah=abcd"], "split.hsah", "hash"),
        (["+eval.permutation=100"], "eval.permutation", "permutations"),
        (["+ablation.nmae=x"], "ablation.nmae", "name"),
        (["data.sede=1"], "data.sede", "seed"),
        (["+data.sede=1"], "data.sede", "seed"),
        (["model=ridge", "model.model.penalti=2"], "model.model.penalti", "penalty"),
        (["model=ridge", "+model.model.penalti=2"], "model.model.penalti", "penalty"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_names(overrides, key, near):
    with pytest.raises(UnknownKey, match=f"Unknown config key '{key}'.*Did you mean [a-z_, .]*{near}"):
        config.compose_config(overrides)


def test_an_unknown_key_of_hydra_itself_is_refused_with_a_whole_sentence():
    with pytest.raises(UnknownKey, match=r"Unknown config key 'hydra\.foo'.*Look into conf/"):
        config.compose_config(["hydra.foo=1"])


@pytest.mark.parametrize("key", ["_args_", "_private"])
def test_arguments_that_go_round_the_check_are_refused(key):
    with pytest.raises(UnknownKey, match=rf"Unknown config key 'model\.model\.{key}'.*by name"):
        config.compose_config(["model=ridge", f"+model.model.{key}=[1]"])


@pytest.mark.parametrize(
    ("override", "near"), [("model=rigde", "ridge"), ("data=synthtic", "synthetic"), ("eval=qick", "quick")]
)
def test_an_unknown_choice_is_refused_with_the_nearest_names(override, near):
    with pytest.raises(UnknownChoice, match=f"Unknown choice.*Did you mean {near}"):
        config.compose_config([override])


def test_an_ablation_that_does_not_fit_the_model_is_refused():
    with pytest.raises(ConfigError, match=r"Unknown config key 'model\.model\.use_control'.*Ridge does not take"):
        config.compose_config(["ablation=no_control", "model=ridge"])


def test_an_ablation_is_applied_after_the_model_is_chosen():
    assert config.compose_config(["ablation=no_control", "model=small_network"]).model.model.use_control is False


# --- values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "match"),
    [
        (["seed=a"], "'a' of type 'str' could not be converted to Integer"),
        (["seed=1.5"], "could not be converted to Integer"),
        (["trainer.progress=maybe"], "not a valid bool|could not be converted to Bool"),
        (["model=ridge", "model.model.penalty=much"], r"model\.model\.penalty has the wrong type: given 'much'"),
        (["model=ridge", "model.model.penalty=true"], r"model\.model\.penalty has the wrong type: given True"),
        (["model=ridge", "model.model.penalty=null"], r"model\.model\.penalty has the wrong type: given None"),
        (["model=ridge", "model.model=null"], r"model\.model has the wrong type: given None"),
        (["model=ridge", "model.model=3"], r"model\.model has the wrong type: given 3"),
        (["model=ridge", "model.name=3"], r"model\.name has the wrong type: given 3"),
        ([*H5AD, "data.control_labels=control"], r"data\.control_labels has the wrong type: given 'control'"),
        (["~trainer.patience"], "does not support deletion"),
        (["seed=[1"], "does not fit its schema"),
        (["model=null"], "Config group override must be a string or a list"),
        (["model=ridge,no_change"], "Ambiguous value"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused(overrides, match):
    with pytest.raises(BadValue, match=match):
        config.compose_config(overrides)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed=-1", "at least 0"),
        ("seed=4294967296", "at least 0 and at most 4294967295"),
        ("trainer.max_epochs=0", "at least 1"),
        ("trainer.batch_size=0", "at least 1"),
        ("trainer.patience=0", "at least 1"),
        ("trainer.num_workers=-1", "at least 0"),
        ("trainer.devices=2", "1"),
        ("trainer.accelerator=abacus", "one of cpu"),
        ("eval.bootstrap_draws=99", "at least 100"),
        ("eval.permutations=99", "at least 100"),
        ("eval.halvings=4", "at least 5"),
    ],
)
def test_a_value_out_of_range_is_refused(override, expected):
    with pytest.raises(BadValue, match=f"expected {expected}"):
        config.compose_config([override])


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["data=h5ad"], r"data\.path"),
        (["data=artifact"], r"data\.path"),
        (["model=ridge", "model._partial_=false"], r"model\.dims"),
        (["~model"], "model"),
        (["~data"], "data"),
        (["~seed"], "seed"),
        (["~model.name"], r"model\.name"),
        (["~model._target_"], "model"),
    ],
)
def test_what_is_not_given_is_named(overrides, key):
    with pytest.raises(MissingValue, match=f"^{key} (is not set|names no _target_)"):
        config.compose_config(overrides)


def test_an_environment_variable_that_is_not_set_is_a_config_error():
    with pytest.raises(BadValue, match="'PERTURBFM_NO_SUCH' not found"):
        config.compose_config([*H5AD, "data.mode=${oc.env:PERTURBFM_NO_SUCH}"])


# --- targets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["os.system", "builtins.open", "torch.load", "perturbfmx.evil", "posix.system"])
@pytest.mark.parametrize("where", ["data", "model", "model.model"])
def test_a_target_outside_the_allowed_prefixes_is_refused(target, where):
    with pytest.raises(ForbiddenTarget, match=rf"{where}\._target_ is not allowed: given {target}"):
        config.compose_config(["model=ridge", f"{where}._target_={target}"])


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        (["model=small_network", "+model.optimizer.x={_target_: builtins.open}"], r"model\.optimizer\.x"),
        ([*H5AD, "data.mode_values={a: {_target_: builtins.open}}"], r"data\.mode_values\.a"),
        ([*H5AD, "data.covariates=[{_target_: builtins.open}]"], r"data\.covariates\.0"),
        ([*H5AD, "data.mode_values={a: [{b: {_target_: builtins.open}}]}"], r"data\.mode_values\.a\.0\.b"),
    ],
)
def test_a_forbidden_target_is_found_however_deep_it_lies(overrides, path):
    with pytest.raises(ForbiddenTarget, match=rf"{path}\._target_ is not allowed: given builtins\.open"):
        config.compose_config(overrides)


@pytest.mark.parametrize(
    "target",
    ["perturbfm.record.subprocess.run", "perturbfm.model.baseline.ridge.Rigde", "perturbfm.nowhere.X", "perturbfm."],
)
def test_a_target_of_ours_that_is_not_there_is_refused_and_nothing_is_walked_through(target):
    with pytest.raises(ForbiddenTarget, match="A _target_ cannot be found"):
        config.compose_config(["model=ridge", f"model.model._target_={target}"])


@pytest.mark.parametrize(
    "target", ["lightning.pytorch.callbacks.model_checkpoint.os.getcwd", "torch.nn.modules.module.torch.load"]
)
def test_a_target_that_walks_through_an_allowed_package_is_refused(target):
    with pytest.raises(ForbiddenTarget, match=f"only passes through an allowed package: given {target}"):
        config.build(OmegaConf.create({"_target_": target}))


def test_a_target_of_another_package_that_is_not_there_is_refused():
    with pytest.raises(ForbiddenTarget, match=r"node\._target_ cannot be found: given torch\.optim\.AdamV"):
        config.build(OmegaConf.create({"_target_": "torch.optim.AdamV"}))


def test_an_argument_that_another_package_does_not_take_is_refused_before_training():
    node = config.compose_config(["model=small_network", "+model.optimizer.lrr=1"]).model
    with pytest.raises(UnknownKey, match=r"model\.optimizer\.lrr'.*Did you mean lr\b.*torch\.optim\.AdamW"):
        config.build(node)


def test_a_prefix_is_allowed_from_the_environment_and_never_from_a_config(monkeypatch):
    node = OmegaConf.create({"_target_": "fractions.Fraction", "numerator": 3})
    with pytest.raises(ForbiddenTarget, match="not allowed"):
        config.build(node)
    monkeypatch.setenv("PERTURBFM_ALLOWED_TARGETS", "decimal., fractions.")
    assert config.build(node) == 3


def test_what_a_target_says_itself_keeps_its_type_and_exit_code(tmp_path):
    cfg = config.compose_config([*H5AD, f"data.path={tmp_path}/none.h5ad"])
    with pytest.raises(UnreadableFile, match=r"none\.h5ad") as refused:
        config.build(cfg.data)
    assert refused.value.exit_code == 2


# --- the hash ------------------------------------------------------------------------------------------


def test_the_hash_leaves_out_paths_and_hardware():
    here = hashed(*H5AD)
    assert hashed(*H5AD, "data.path=elsewhere.h5ad") == here
    assert hashed(*H5AD, "data.obs=cells.csv", "data.gene_map=genes.tsv") == here
    for hardware in ("accelerator=gpu", "num_workers=2", "progress=false"):
        assert hashed(*H5AD, f"trainer.{hardware}") == here


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "model=ridge",
        "model.model.penalty=2.0",
        "split=frozen",
        "eval=quick",
        "trainer.batch_size=64",
        "data.seed=1",
        "+data.match_seed=1",
    ],
)
def test_the_hash_tells_apart_what_moves_numbers(override):
    base = ["model=ridge"] if "penalty" in override else []
    assert hashed(*base, override) != hashed(*base)


def test_the_hash_does_not_depend_on_the_order_of_words():
    assert hashed("seed=3", "model=ridge") == hashed("model=ridge", "seed=3")


# --- choices of the user's own -------------------------------------------------------------------------


def yaml(folder, group, name, text):
    path = folder / group / f"{name}.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return folder


MINE = "_target_: perturbfm.data.planted.load_synthetic\nname: mine\nseed: 4\n"


@pytest.mark.parametrize("folder", ["conf", "my conf, [new] ü"])
def test_a_folder_of_the_users_own_is_searched(tmp_path, monkeypatch, folder):
    monkeypatch.setenv("PERTURBFM_CONF", str(yaml(tmp_path / folder, "data", "mine", MINE)))
    assert config.compose_config(["data=mine"]).data.seed == 4
    assert config.compose_config().data.name == "synthetic"


def test_conf_in_the_current_folder_is_searched(tmp_path, monkeypatch):
    yaml(tmp_path / "conf", "data", "mine", MINE)
    monkeypatch.chdir(tmp_path)
    assert config.compose_config(["data=mine"]).data.name == "mine"


def test_a_yaml_of_the_users_own_is_checked_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTURBFM_CONF", str(yaml(tmp_path / "conf", "data", "mine", MINE + "sede: 1\n")))
    with pytest.raises(UnknownKey, match=r"Unknown config key 'data\.sede'.*Did you mean seed"):
        config.compose_config(["data=mine"])


def test_a_choice_of_the_users_own_does_not_replace_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PERTURBFM_CONF", str(yaml(tmp_path / "conf", "data", "synthetic", MINE)))
    assert config.compose_config().data.name == "synthetic"


def a_target(size: int = 1) -> int:
    return size


def test_a_choice_can_be_added_at_run_time(choices):
    config.add_choice("data", "added", a_target)
    assert config.compose_config(["data=added"]).data._target_.endswith(".a_target")
    config.add_choice("data", "counted", "collections.Counter")
    assert config.build(config.compose_group("data", ["data=counted"], {})) == {}


# --- composing -----------------------------------------------------------------------------------------


def test_a_group_is_composed_with_values_of_any_kind():
    values = {
        "control_labels": ["a, b", "ü"],
        "delimiter": None,
        "target_sum": 1e4,
        "covariates": [],
        "guide_pattern": r'^(.+?)"?\d+\\$',
        "source": 'ends in a quote "',
        "aliases": {"(+)-JQ1": "JQ1", "a: b": r"\d"},
        "keep": {"set": ["x", "y"]},
    }
    node = config.compose_group("data", H5AD, values)
    assert {k: OmegaConf.to_container(node)[k] for k in values} == values


def test_a_table_for_a_key_that_there_is_not_is_refused():
    with pytest.raises(UnknownKey, match=r"data\.aliasses"):
        config.compose_group("data", H5AD, {"aliasses": {"a": "b"}})
    with pytest.raises(BadValue, match=r"data\.covariates has the wrong type"):
        config.compose_group("data", H5AD, {"covariates": {"a": "b"}})


def test_data_is_named_by_name_by_file_or_by_folder(tmp_path):
    assert config.data_overrides("synthetic") == ["data=synthetic"]
    odd = tmp_path / "ü, [b] c.h5ad"
    odd.touch()
    found = config.compose_config([*config.data_overrides(str(odd)), "data.scale=log1p"])
    assert found.data.path == str(odd)
    folder = config.compose_config(config.data_overrides(str(tmp_path)))
    assert (folder.data._target_.rpartition(".")[2], folder.data.path) == ("load_artifact", str(tmp_path))


def test_a_folder_with_the_name_of_a_data_set_is_an_artifact_only_when_it_holds_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "synthetic"
    folder.mkdir()
    as_path = ["data=artifact", f'data.path="{folder}"']
    assert config.data_overrides("synthetic") == ["data=synthetic"]
    assert config.data_overrides("./synthetic") == config.data_overrides("synthetic/") == as_path
    (folder / "meta.json").touch()
    assert config.data_overrides("synthetic") == as_path


def test_composing_leaves_the_current_folder_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config.compose_config(["model=ridge"])
    assert list(tmp_path.iterdir()) == []


def test_conf_folder_that_is_not_there_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PERTURBFM_CONF", str(tmp_path / "none"))
    with pytest.raises(BadValue, match="PERTURBFM_CONF names no folder"):
        config.compose_config([])


def test_where_a_matrix_is_kept_is_no_part_of_what_a_run_is():
    assert hashed(*H5AD) == hashed(*H5AD, "data.cache=true", "data.path=elsewhere.h5ad")


def test_shuffling_by_blocks_is_another_run_and_not_doing_so_is_none():
    assert hashed("trainer.shuffle_block=64") != hashed()
    cfg = config.compose_config()
    before = config.config_hash(cfg)
    del cfg.trainer.shuffle_block
    assert config.config_hash(cfg) == before

"""Every shipped catalog entry is complete, and what it says of reading a file is what the loader takes."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from perturbfm import config
from perturbfm.cli.external import externals
from perturbfm.data.catalog import all_names, read_entry
from perturbfm.data.catalog.entry import COLUMNS, HERE, UNSAID, benchmark_preprocessing, entry_from
from perturbfm.data.catalog.recipe import recipe, recipe_name
from perturbfm.errors import BadValue, ConfigError, MissingValue, UnknownChoice, UnknownKey
from perturbfm.signature import parameters_of

ENTRIES = [read_entry(name) for name in all_names()]
FILES = [(e, f) for e in ENTRIES for f in e.files]
IDS = [f"{e.name}-{f.name}" for e, f in FILES]
ASKED = (
    "norman19 adamson16 dixit16 replogle22_k562_essential replogle22_k562_gwps replogle22_rpe1 nadig25 kang18 "
    "papalexi21 srivatsan20_sciplex3 frangieh21 mcfaline23 jiang24 op3 datlinger21 schiebinger19 tahoe100m vcc_h1 "
    "xatlas_orion cd4t_zhu25 scperturbench_prepared txpert_cache gears_graphs lincs_l1000 pertpy_hosted"
)
PUBLISHED = (
    ("NormanWeissman2019_filtered.h5ad", 698680199, "c870e6"),
    ("GSE133344_raw_matrix.mtx.gz", None, "a56e80"),
    ("GSE133344_raw_cell_identities.csv.gz", None, "baf12e"),
    ("AdamsonWeissman2016_GSM2406675_10X001.h5ad", 34557246, "232f7e"),
    ("AdamsonWeissman2016_GSM2406677_10X005.h5ad", 139059637, "865739"),
    ("AdamsonWeissman2016_GSM2406681_10X010.h5ad", 471286951, "2fa44e"),
    ("DixitRegev2016.h5ad", None, "2c2a88"),
    ("K562_essential_raw_singlecell_01.h5ad", 10661879995, "4f1122 3e5a63"),
    ("rpe1_raw_singlecell_01.h5ad", 8700873216, "6a2a9d"),
    ("K562_gwps_raw_singlecell_01.h5ad", None, "887e3e"),
    ("ReplogleWeissman2022_K562_essential.h5ad", None, "d8cba1"),
    ("ReplogleWeissman2022_rpe1.h5ad", None, "cc7f1e"),
    ("ReplogleWeissman2022_K562_gwps.h5ad", None, "13db59"),
    ("SrivatsanTrapnell2020_sciplex3.h5ad", 2526631614, "c9e706"),
    ("kang_2018.h5ad", None, "e6a5ad"),
    ("GSM7056149_sciPlexGxE_2_preprocessed_cds.list.RDS.gz", 3619987565, "3e5c67"),
    ("Seurat_object_IFNB_Perturb_seq.rds", 4326548669, "3eb5e7"),
    ("Seurat_object_IFNG_Perturb_seq.rds", 2915636149, "0fef1f"),
    ("Seurat_object_INS_Perturb_seq.rds", 5601176410, "c7b830"),
    ("Seurat_object_TGFB_Perturb_seq.rds", 2642041433, "8e9b4d"),
    ("Seurat_object_TNFA_Perturb_seq.rds", 4656209976, "60ed8b"),
    ("PapalexiSatija2021_eccite_RNA.h5ad", 147215278, "d9e8bf"),
    ("PapalexiSatija2021_eccite_protein.h5ad", 1191551, "072902"),
    ("SchiebingerLander2019_GSE106340.h5ad", 378858726, "8d988c"),
)
LOADER = set(parameters_of("perturbfm.data.file.load_file"))


def test_the_data_sets_that_benchmarks_use_are_there():
    assert set(ASKED.split()) <= set(all_names())


def test_nothing_but_entries_lies_beside_them():
    assert {p.name for p in (HERE / "entry").iterdir()} == {f"{n}.yaml" for n in all_names()}


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_an_entry_says_where_its_facts_come_from_and_under_which_terms(entry):
    for text in (entry.title, entry.citation, entry.record, entry.read_in, entry.licence.tag, entry.licence.text):
        assert text.strip() == text
        assert text
    words = f"{entry.licence.tag} {entry.licence.text}".lower()
    assert entry.licence.non_commercial == ("noncommercial" in words or "non-commercial" in words)


@pytest.mark.parametrize(("entry", "file"), FILES, ids=IDS)
def test_a_file_is_reachable_or_says_how(entry, file):
    assert file.urls or file.by_hand
    assert file.n_bytes is None or file.n_bytes > 0
    assert all(url.startswith("https://") for url in file.urls)
    assert file.published_as is None or file.published_as.replace("ftp://", "https://") in file.urls
    assert file.format != "folder" or not file.checksums
    assert not set(file.checksums) & {b.checksum for b in file.refused}


@pytest.mark.parametrize(("entry", "file"), [x for x in FILES if x[1].columns], ids=lambda x: getattr(x, "name", None))
def test_a_column_map_says_all_that_a_loader_has_to_be_told(entry, file):
    said = file.columns
    assert {"scale", "pert_column", "batch_column", "control_labels", "mode"} <= set(said)
    assert ("context" in said) != ("context_column" in said)
    assert (said["scale"] == "counts") == ("target_sum" in said)
    assert said["scale"] in ("counts", "log1p", "log2", "delta", UNSAID)
    assert said["mode"] in ("activation", "knockdown", "knockout", "drug", "ligand", "other", UNSAID)
    assert said["control_labels"] == UNSAID or said["control_labels"]


def test_column_maps_use_the_words_of_the_loader():
    assert set(COLUMNS) <= LOADER


@pytest.mark.parametrize(("entry", "file"), [x for x in FILES if x[1].columns], ids=lambda x: getattr(x, "name", None))
def test_the_printed_yaml_is_short_and_composes(entry, file, tmp_path, monkeypatch):
    """What nobody publishes is refused until it is filled in; what the loader does not know yet is left out."""
    text = recipe(entry, file, tmp_path / file.name)
    assert len(text.splitlines()) <= 10
    said = {k: v for k, v in yaml.safe_load(text).items() if k in LOADER or k == "defaults"}
    name = recipe_name(entry, file)
    path = tmp_path / "conf" / "data" / f"{name}.yaml"
    path.parent.mkdir(parents=True)
    monkeypatch.setenv("PERTURBFM_CONF", str(tmp_path / "conf"))
    path.write_text(yaml.safe_dump(said))
    if [k for k in ("path", "scale", "pert_column", "control_labels") if said.get(k, 0) is None]:
        with pytest.raises(ConfigError, match="has the wrong type"):
            config.check(config.compose_config([f"data={name}"]))
    filled = {"control_labels": ["x"], "scale": "log1p", "mode": "other", "batch_column": None}
    path.write_text(yaml.safe_dump({k: filled.get(k, "x") if v is None else v for k, v in said.items()}))
    cfg = config.compose_config([f"data={name}"])
    config.check(cfg)
    for key, value in said.items():
        assert value is None or key == "defaults" or config.plain(cfg)["data"][key] == value


def test_the_known_traps_are_told():
    sciplex = read_entry("srivatsan20_sciplex3").files[0]
    assert {b.checksum[:14] for b in sciplex.refused} == {"md5:d1f51b9f8d", "sha256:bde2420"}
    assert {b.reason for b in sciplex.refused} == {"gene labels off by one row"}
    for name in ("replogle22_k562_essential", "replogle22_k562_gwps", "replogle22_rpe1"):
        assert any("35773075 is the normalised" in note for note in read_entry(name).notes)
    papalexi = read_entry("papalexi21")
    assert any("guide-level" in note for note in papalexi.notes)
    target = re.fullmatch(papalexi.files[0].columns["guide_pattern"], "STAT1g2")
    assert target[1] == "STAT1"  # and so does what is printed, without a word from a person
    assert "guide_pattern" in recipe(papalexi, papalexi.files[0], Path("x.h5ad"))
    for file in read_entry("mcfaline23").files:
        assert file.columns["context_column"] == ["cell_type", "treatment"]
    assert any("says A549; the cells are K562" in note for note in read_entry("norman19_gears").notes)
    assert {e.name for e in ENTRIES if e.licence.non_commercial} == {"xatlas_orion", "txpert_cache"}


def test_checksums_and_sizes_are_those_that_their_publishers_state():
    """Written a second time, from the sources: a slip of the keyboard in an entry shows here."""
    found = {f.name: (f.n_bytes, sorted(c.split(":")[1][:6] for c in f.checksums)) for _, f in FILES if f.checksums}
    assert found == {name: (n_bytes, sorted(digests.split())) for name, n_bytes, digests in PUBLISHED}


# --- what the reading refuses --------------------------------------------------------------------------


def changed(change, name="norman19"):
    plain = yaml.safe_load((HERE / "entry" / f"{name}.yaml").read_text())
    change(plain)
    return lambda: entry_from(yaml.safe_dump(plain), name)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda p: p.pop("citation"), MissingValue, r"norman19\.citation is not said"),
        (lambda p: p.update(cite="x"), UnknownKey, r"Unknown key 'norman19\.cite'"),
        (lambda p: p.update(n_cells="many"), BadValue, r"n_cells has the wrong type"),
        (lambda p: p.update(name="other"), BadValue, r"norman19\.name is not right"),
        (lambda p: p.update(files=[]), BadValue, r"norman19\.files is not right: given no file"),
        (lambda p: p.update(files=p["files"] * 2), BadValue, "distinct names"),
        (lambda p: p.update(preprocessing=["nobody"]), BadValue, "projects among"),
        (lambda p: p["licence"].pop("non_commercial"), MissingValue, r"licence\.non_commercial is not said"),
        (lambda p: p["files"][0].pop("n_bytes"), MissingValue, r"files\[0\]\.n_bytes is not said"),
        (lambda p: p["files"][0].update(name="../x"), BadValue, "plain file name"),
        (lambda p: p["files"][0].update(format="exe"), BadValue, r"format is not right: given exe"),
        (lambda p: p["files"][0].update(urls=["ftp://x/y"]), BadValue, "http:// or https:// addresses"),
        (lambda p: p["files"][0].update(urls=None), BadValue, "either urls or by_hand"),
        (lambda p: p["files"][0].update(checksums=["md5:123"]), BadValue, "md5: or sha256: and its hex digits"),
        (
            lambda p: p["files"][0].update(refused=[{"checksum": "x"}]),
            MissingValue,
            r"refused\[0\]\.reason is not said",
        ),
        (lambda p: p["files"][0]["columns"].update(colour="red"), BadValue, "keys among scale"),
    ],
)
def test_an_entry_that_is_not_complete_and_right_is_refused(change, error, message):
    with pytest.raises(error, match=message):
        changed(change)()


def test_a_text_that_is_no_entry_is_refused():
    with pytest.raises(BadValue, match="norman19 is no mapping"):
        entry_from("- a\n- b\n", "norman19")


def test_misspelt_names_get_the_nearest():
    with pytest.raises(UnknownChoice, match=r"no data set 'norman9'.*Did you mean norman19"):
        read_entry("norman9")
    with pytest.raises(UnknownChoice, match=r"norman19 has no file 'x'"):
        read_entry("norman19").file("x")


def test_every_preprocessing_text_is_used():
    assert {p for e in ENTRIES for p in e.preprocessing} == set(benchmark_preprocessing())


# --- other people's code -------------------------------------------------------------------------------


def test_external_code_names_its_address_licence_and_purpose():
    known = externals()
    assert {"scperturbench", "perturbench", "gears", "cell_eval", "systema", "state", "cell_load"} <= set(known)
    for name, e in known.items():
        assert re.fullmatch(r"[a-z0-9_]+", name)
        assert e.url.startswith("https://github.com/")
        assert all(text.strip() for text in (e.licence, e.what, e.read_in))
        assert e.copyleft == ("GPL" in e.licence)


# --- nothing happens unless it is asked for ------------------------------------------------------------

OFFLINE = """
import socket, sys, importlib, pkgutil
def refuse(*words, **more):
    raise AssertionError("a connection was opened")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from perturbfm.cli import main
import perturbfm.data.catalog as room
for verbs in (["data", "list"], ["data", "list", "--json"], ["data", "show", "norman19"], ["external", "list"]):
    assert main(verbs) == 0, verbs
assert "requests" not in sys.modules, "listing loads the transport"
for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
    importlib.import_module(module.name)
assert "requests" in sys.modules
"""


def test_importing_listing_and_showing_open_no_connection(tmp_path):
    done = subprocess.run([sys.executable, "-c", OFFLINE], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_loads_neither_catalog_nor_transport():
    code = (
        "import sys\nfrom perturbfm.cli import main\n"
        "try:\n main(['data', 'fetch', '--help'])\nexcept SystemExit:\n pass\n"
        "print(sorted(set(sys.modules) & {'requests', 'pooch', 'yaml', 'rich', 'numpy', 'perturbfm.data.catalog'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--accept-non-commercial" in done.stdout

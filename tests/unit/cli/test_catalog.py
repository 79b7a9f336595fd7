"""What a person types and sees: list, show, fetch, verify. Data sets of this machine only."""

import hashlib
import json
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import yaml

from perturbfm.cli import main
from perturbfm.data.catalog import entry as catalog


def h5ad():
    """Twenty cells of counts, half of them controls, as the bytes of a file."""
    x = np.random.default_rng(0).poisson(3.0, (20, 6)).astype(np.float32)
    obs = pd.DataFrame({"gene": ["non-targeting", "STAT1"] * 10, "line": ["A"] * 10 + ["B"] * 10})
    obs.index = [f"cell{i}" for i in range(20)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.h5ad"
        anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"G{i}" for i in range(6)])).write_h5ad(path)
        return path.read_bytes()


BODY = h5ad()
FACTS = {
    "name": "tiny",
    "title": "A tiny set",
    "organism": "human",
    "n_cells": 1234,
    "n_genes": None,
    "citation": "Somebody 2020",
    "licence": {"tag": "CC-BY-4.0", "text": "with attribution", "non_commercial": False},
    "record": "record 7",
    "preprocessing": ["gears"],
    "notes": ["a trap"],
    "read_in": "here",
}
COLUMNS = {"scale": "counts", "pert_column": "gene", "context_column": "???", "batch_column": None}
COLUMNS |= {"control_labels": ["non-targeting"], "mode": "knockdown", "target_sum": 10000.0}


@pytest.fixture
def served(monkeypatch):
    """A server that gives one body for every path but `gone`, and its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            gone = self.path.endswith("gone")
            self.send_response(404 if gone else 200)
            self.send_header("Content-Length", str(0 if gone else len(BODY)))
            self.end_headers()
            self.wfile.write(b"" if gone else BODY)

        def log_message(self, *words):
            pass

    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()


@pytest.fixture
def shelf(tmp_path, monkeypatch, served):
    """A catalog of two entries, `tiny` (two files) and `closed` (non-commercial, by hand)."""
    here, digest = tmp_path / "catalog", hashlib.md5(BODY, usedforsecurity=False).hexdigest()
    (here / "entry").mkdir(parents=True)
    (here / "preprocessing.yaml").write_text("gears: median\n")
    known = {"name": "a.h5ad", "urls": [f"{served}/gone", f"{served}/a"], "n_bytes": len(BODY), "format": "h5ad"}
    known |= {"checksums": [f"md5:{digest}"], "columns": COLUMNS}
    loose = {"name": "b.pkl", "urls": [f"{served}/b"], "n_bytes": None, "checksums": None, "format": "pickle"}
    loose |= {"columns": None}
    hand = {"name": "far", "urls": None, "n_bytes": None, "checksums": None, "format": "folder", "columns": None}
    hand |= {"by_hand": "`hf download x`."}
    shut = {"tag": "CC-BY-NC-4.0", "text": "non-commercial", "non_commercial": True}
    for name, more in {"tiny": {"files": [known, loose]}, "closed": {"files": [hand], "licence": shut}}.items():
        (here / "entry" / f"{name}.yaml").write_text(yaml.safe_dump({**FACTS, "name": name, **more}))
    monkeypatch.setattr(catalog, "HERE", here)
    monkeypatch.setenv("PERTURBFM_CACHE", str(tmp_path / "cache"))
    for cached in (catalog.all_names, catalog.read_entry, catalog.benchmark_preprocessing):
        cached.cache_clear()
    yield tmp_path / "cache"
    monkeypatch.undo()
    for cached in (catalog.all_names, catalog.read_entry, catalog.benchmark_preprocessing):
        cached.cache_clear()


def typed(capsys, *words):
    code = main(["data", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_list_says_name_cells_licence_size_and_what_is_here(capsys, shelf):
    code, out, _ = typed(capsys, "list")
    rows = [line.split() for line in out.splitlines()]
    assert code == 0
    assert ["tiny", "1,234", "-", "0/2", "CC-BY-4.0"] in rows
    assert ["closed", "1,234", "-", "0/1", "CC-BY-NC-4.0", "(non-commercial)"] in rows
    typed(capsys, "fetch", "tiny", "--file", "a.h5ad")
    code, out, _ = typed(capsys, "list", "--json")
    tiny = {row["name"]: row for row in json.loads(out)}["tiny"]
    assert (tiny["n_files"], tiny["fetched"], tiny["n_cells"], tiny["non_commercial"]) == (2, ["a.h5ad"], 1234, False)


def test_show_says_all_facts(capsys, shelf):
    code, out, _ = typed(capsys, "show", "tiny")
    assert code == 0
    for words in (
        "Somebody 2020",
        "CC-BY-4.0: with attribution",
        "genes not published",
        "a trap",
        "in gears",
        "median",
    ):
        assert words in out
    for words in ("a.h5ad (h5ad)", f"{len(BODY):,} bytes", "md5:", "/gone", "pert_column     gene", "record 7"):
        assert words in out
    assert "by hand    `hf download x`." in typed(capsys, "show", "closed")[1]


def test_fetch_says_the_terms_first_and_the_yaml_last(capsys, shelf):
    code, out, _ = typed(capsys, "fetch", "tiny", "--file", "a.h5ad")
    assert code == 0
    assert out.index("licence") < out.index("cite") < out.index("not from") < out.index("# conf/data/tiny.yaml")
    text = out.split("# conf/data/tiny.yaml\n")[1].split("\n\n")[0]
    said = yaml.safe_load(text)
    assert said["path"] == str(shelf / "tiny" / "a.h5ad")
    assert (said["pert_column"], said["context_column"], said["target_sum"]) == (
        "gene",
        "not known here: say it",
        10000.0,
    )
    assert len(text.splitlines()) <= 10
    assert 'context_column: "not known here: say it"' in text
    assert "note: a trap" in out


def test_the_printed_yaml_reads_the_fetched_file(capsys, shelf, tmp_path, monkeypatch):
    _, out, _ = typed(capsys, "fetch", "tiny", "--file", "a.h5ad")
    text = out.split("# conf/data/tiny.yaml\n")[1].split("\n\n")[0]
    conf = tmp_path / "conf" / "data"
    conf.mkdir(parents=True)
    (conf / "tiny.yaml").write_text(text)
    monkeypatch.setenv("PERTURBFM_CONF", str(conf.parent))
    code, _, err = typed(capsys, "info", "--data", "tiny")
    assert code == 2, err
    assert "Missing column 'not known here: say it' in obs" in err
    (conf / "tiny.yaml").write_text(text.replace('"not known here: say it"', "line"))
    code, out, _ = typed(capsys, "info", "--data", "tiny")
    assert code == 0
    assert "tiny: 20 cells x 6 genes" in out


def test_a_missing_consent_is_refused_before_the_first_byte(capsys, shelf):
    code, out, err = typed(capsys, "fetch", "tiny")
    assert (code, shelf.exists()) == (3, False)
    assert "cite         Somebody 2020" in out
    assert "--accept-unverified" in err
    code, _, err = typed(capsys, "fetch", "closed")
    assert code == 3
    assert "--accept-non-commercial" in err
    code, _, err = typed(capsys, "fetch", "closed", "--accept-non-commercial")
    assert code == 4
    assert "hf download x" in err


def test_fetch_into_a_folder_and_from_a_copy(capsys, shelf, tmp_path):
    (tmp_path / "mine.h5ad").write_bytes(BODY)
    words = ["fetch", "tiny", "--from", str(tmp_path / "mine.h5ad"), "--into", str(tmp_path / "there")]
    code, _, err = typed(capsys, *words)
    assert code == 3
    assert "--from holds one file, the data set has several" in err
    assert typed(capsys, *words, "--file", "a.h5ad")[0] == 0
    assert (tmp_path / "there" / "a.h5ad").read_bytes() == BODY
    assert not shelf.exists()
    code, out, _ = typed(capsys, "verify", "tiny", "--into", str(tmp_path / "there"))
    assert code == 0
    assert out.startswith("right")


def test_verify_ends_with_the_code_of_integrity_when_a_byte_changed(capsys, shelf):
    code, _, err = typed(capsys, "verify", "tiny")
    assert code == 2
    assert "Nothing of tiny was fetched" in err
    assert typed(capsys, "verify")[1] == "0 files are what was fetched\n"
    typed(capsys, "fetch", "tiny", "--accept-unverified")
    code, out, _ = typed(capsys, "verify")
    assert (code, out.count("right "), "2 files are" in out) == (0, 2, True)
    assert "(recorded when fetched)" in out
    (shelf / "tiny" / "b.pkl").write_bytes(BODY[::-1])
    code, out, err = typed(capsys, "verify")
    assert code == 8
    assert "changed" in out
    assert f"{shelf / 'tiny' / 'b.pkl'} changed" in err


def test_a_misspelt_name_gets_the_nearest(capsys, shelf):
    for verb in ("show", "fetch", "verify"):
        code, _, err = typed(capsys, verb, "tini")
        assert code == 3
        assert "Did you mean tiny" in err

"""What people declare beside a run: read as written, or refused with a remedy."""

import pytest

from perturbfm.errors import BadValue, MissingValue, UnknownKey, UnreadableFile
from perturbfm.split.audit import read_aliases, read_prior
from perturbfm.split.audit.evidence import Prior


def written(tmp_path, text, name="prior.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_provenance_file_is_read_as_written(tmp_path):
    (tmp_path / "cells.txt").write_text("AAA-1\n\nCCC-1\n")
    path = written(
        tmp_path,
        "name: scgpt\nkind: weights\nfingerprints: [abc]\ndata_sets: [norman19]\ncell_ids: cells.txt\nrows: [3, 1]\n"
        "perturbations: []\ncontexts: [K562]\nfolds: [train]\n",
    )
    assert read_prior(path) == Prior(
        "scgpt",
        "weights",
        fingerprints=("abc",),
        data_sets=("norman19",),
        cell_ids=("AAA-1", "CCC-1"),
        rows=(3, 1),
        perturbations=(),
        contexts=("K562",),
        folds=("train",),
        source="prior.yaml",
    )


@pytest.mark.parametrize(
    ("more", "declared"),
    [("", False), ("unknown: true", False), ("unknown: true\ncontexts: [a]", False), ("data_sets: []", True)],
)
def test_nothing_said_is_not_the_same_as_none(tmp_path, more, declared):
    assert read_prior(written(tmp_path, f"name: go\nkind: graph\n{more}\n")).declared is declared


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("name: a\nkind: graph\ndatasets: [x]\n", UnknownKey, "Unknown key 'datasets' .* Did you mean data_sets"),
        ("kind: graph\n", MissingValue, "gives no name: given None"),
        ("name: a\n", MissingValue, "gives no kind"),
        ("name: a\nkind: network\n", BadValue, "Value of kind .* given 'network', expected graph | embedding"),
        (
            "name: a\nkind: graph\nfolds: [training]\n",
            BadValue,
            "Value of folds .* given 'training', expected train | val",
        ),
        ("name: a\nkind: graph\nunknown: maybe\n", BadValue, "Value of unknown .* expected true | false"),
        ("name: a\nkind: graph\nrows: [1]\n", MissingValue, "names rows of unknown data"),
        ("name: a\nkind: graph\nfingerprints: [f]\nrows: [one]\n", BadValue, "rows in .* is not a list of row numbers"),
        ("name: a\nkind: graph\ncontexts: K562\n", BadValue, "contexts in .* is not a list of names: given 'K562'"),
        ("name: a\nkind: graph\ncell_ids: no.txt\n", UnreadableFile, "Cannot read .*no.txt .*No such file"),
        ("- a\n", UnreadableFile, "Cannot read .*prior.yaml for the audit: given a list"),
        ("name: [\n", UnreadableFile, "Cannot read .*prior.yaml for the audit: given while parsing"),
    ],
)
def test_a_provenance_file_that_says_something_else_is_refused(tmp_path, text, error, message):
    with pytest.raises(error, match=message):
        read_prior(written(tmp_path, text))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match=r"Cannot read .*none\.yaml for the audit: given No such file"):
        read_prior(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableFile, match="given bytes that are not UTF-8"):
        read_prior(tmp_path / "b.yaml")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", "# symbol\tofficial\nKIAA1804\tMAP3K21\nFOO\tBAR\n"),
        ("a.csv", "KIAA1804, MAP3K21\nFOO,BAR\n\n"),
        ("a.yaml", "KIAA1804: MAP3K21\nFOO: BAR\n"),
    ],
)
def test_aliases_are_read_from_tables_and_yaml(tmp_path, name, text):
    assert read_aliases(written(tmp_path, text, name)) == {"KIAA1804": "MAP3K21", "FOO": "BAR"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A\tB\nA\tC\n", "gives a symbol two meanings: given A is B and C"),
        ("A\n", "is not two names: given 'A', ''"),
        ("A\tB\tC\n", "is not two names"),
    ],
)
def test_an_ambiguous_alias_is_refused(tmp_path, text, message):
    with pytest.raises(BadValue, match=message):
        read_aliases(written(tmp_path, text, "a.tsv"))

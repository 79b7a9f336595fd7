"""Does Ctrl-C say what is true of the verb that it stops?"""

import pytest

from perturbfm.cli import catalog, main, train


def stop(_arguments):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("room", "call", "words", "run"),
    [
        (catalog, "list_entries", ["data", "list"], False),
        (catalog, "fetch_entry", ["data", "fetch", "norman19"], False),
        (
            train,
            "train_baseline",
            ["train", "baseline", "--data", "world", "--baseline", "ridge", "--split", "abc"],
            True,
        ),
    ],
)
def test_only_what_runs_speaks_of_a_run(monkeypatch, capsys, room, call, words, run):
    monkeypatch.setattr(room, call, stop)
    assert main(words) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Interrupted. ")
    assert ("manifest" in err) == run
    assert ("the same command can be given again" in err) != run

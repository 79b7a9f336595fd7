"""A run's folder is claimed once, and its manifest always says how far the run came."""

import hashlib
import json
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest

from perturbfm import record
from perturbfm.errors import OutputNotWritable
from perturbfm.record import RunFolder, assert_writable, git_commit, openings

HASH = "ab" * 32


@pytest.fixture
def outputs(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def one_second(monkeypatch):
    """Every run starts in the same second."""

    class Frozen(record.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2030, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(record, "datetime", Frozen)


def run(outputs, model="ridge", split_hash=HASH, **facts):
    return RunFolder(outputs, split_hash, model, "cd" * 32, facts)


def manifest(folder):
    return json.loads((folder.path / "manifest.json").read_text())


def events(folder):
    return [json.loads(line) for line in (folder.path / "events.jsonl").read_text().splitlines()]


def test_the_name_tells_when_split_model_and_config(outputs, one_second):
    assert run(outputs).path == outputs / "20300102-030405_abababa_ridge_cdcdcdc"


def test_two_in_one_second_get_a_folder_each(outputs, one_second):
    names = [run(outputs).path.name for _ in range(3)]
    assert names == [names[0], f"{names[0]}_2", f"{names[0]}_3"]


def test_many_at_once_get_a_folder_each(outputs, one_second):
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: run(outputs), range(64)))
    assert len({f.path for f in folders}) == 64
    assert all(manifest(f)["run_id"] == f.path.name for f in folders)
    for f in folders:
        f.finish("finished")


@pytest.mark.parametrize("name", ["a/b", "../../evil", "/etc/x", "a b\nc", "x" * 500])
def test_a_models_name_never_leads_out_of_the_folder(outputs, name):
    folder = run(outputs, model=name)
    assert folder.path.parent == outputs
    assert len(folder.path.name) < 200
    assert manifest(folder)["model"] == name


@pytest.mark.parametrize("status", ["finished", "failed", "interrupted"])
def test_the_manifest_says_started_and_then_how_it_ended(outputs, status):
    folder = run(outputs, seed=3)
    first = manifest(folder)
    assert (first["status"], first["seed"], first["split_hash"]) == ("started", 3, HASH)
    assert (folder.path / "split_hash.txt").read_text() == HASH + "\n"
    folder.note(more="facts")
    folder.finish(status, "E: why" if status != "finished" else None)
    last = manifest(folder)
    assert (last["status"], last["more"], last["run_id"]) == (status, "facts", folder.path.name)
    assert last["wall_seconds"] >= 0
    assert last["peak_memory_mb"] > 1
    assert [e["event"] for e in events(folder)] == ["started", status]
    assert events(folder)[-1]["error"] == last["error"]


def test_seals_are_hashes_of_bytes_and_add_up(outputs):
    folder = run(outputs)
    contents = {"a.json": b"1", "b.npz": b"\x00\xff", "c.html": b""}
    for name, content in contents.items():
        (folder.path / name).write_bytes(content)
    folder.seal(["a.json", "b.npz"])
    folder.seal(["c.html"])
    assert manifest(folder)["files"] == {n: hashlib.sha256(c).hexdigest() for n, c in contents.items()}


@pytest.mark.parametrize(("system", "most"), [("linux", 3 * 1024), ("darwin", 3 * 1024**2)])
def test_peak_memory_is_in_megabytes_on_either_system(monkeypatch, system, most):
    usage = type("Usage", (), {"ru_maxrss": most})
    monkeypatch.setattr(record.sys, "platform", system)
    monkeypatch.setattr(record.resource, "getrusage", lambda _who: usage)
    assert record._peak_memory_mb() == 3


def test_events_are_lines_and_reach_the_log_of_their_run_only(outputs):
    one = run(outputs)
    one.event("fit_started", model="x")
    one.finish("finished")
    handlers = len(logging.getLogger("perturbfm").handlers)
    two = run(outputs)
    two.event("fit_finished", epochs=2)
    two.finish("finished")
    assert [e["event"] for e in events(one)] == ["started", "fit_started", "finished"]
    assert "fit_started model=x" in (one.path / "run.log").read_text()
    assert "fit_finished" not in (one.path / "run.log").read_text()
    assert len(logging.getLogger("perturbfm").handlers) == handlers


def test_openings_are_counted_per_split(outputs):
    assert openings(outputs, HASH) == 0
    a, b = run(outputs), run(outputs, split_hash="cd" * 32)
    assert [a.open_test(HASH, "m"), a.open_test(HASH, "m"), b.open_test("cd" * 32, "m")] == [1, 2, 1]
    assert (openings(outputs, HASH), openings(outputs, "cd" * 32), openings(outputs, "ef" * 32)) == (2, 1, 0)
    lines = [json.loads(line) for line in (outputs / "test_openings.jsonl").read_text().splitlines()]
    assert [line["run_id"] for line in lines] == [a.path.name, a.path.name, b.path.name]


def test_openings_of_many_runs_at_once_are_all_counted(outputs):
    folder = run(outputs)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: folder.open_test(HASH, "m"), range(100)))
    assert openings(outputs, HASH) == 100
    lines = (outputs / "test_openings.jsonl").read_text().splitlines()
    assert all(json.loads(line)["split_hash"] == HASH for line in lines)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with pytest.raises(OutputNotWritable, match="The output folder cannot be written.*PERTURBFM_OUTPUTS"):
            assert_writable(folder)
    with pytest.raises(OutputNotWritable, match="A run folder cannot be made.*PERTURBFM_OUTPUTS"):
        run(tmp_path / "file" / "out")


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path):
    assert_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_the_manifest_names_versions_and_commit(outputs):
    found = manifest(run(outputs))
    assert found["packages"]["perturbfm"] == "0.1.0"
    assert found["packages"]["torch"]
    assert found["git_commit"] == git_commit()

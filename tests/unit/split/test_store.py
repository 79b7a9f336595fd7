import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pytest

from perturbfm.errors import (
    AmbiguousSplit,
    BadValue,
    OutputNotWritable,
    SplitEdited,
    SplitExists,
    SplitNotFrozen,
    UnknownSplit,
    UnreadableFile,
)
from perturbfm.split import Split, SplitStore


def a_split(seed=0, data_name="toy"):
    return Split(
        train_idx=[0, 1],
        val_idx=[2],
        calib_idx=[3],
        test_idx=[4, 5],
        input_control_idx=[6],
        reference_control_idx=[7],
        fingerprint="f" * 64,
        data_name=data_name,
        rule="context_ood",
        params={"holdout": ["A"]},
        ood_axes=("context",),
        seed=seed,
        n_obs=9,
        unit="cells",
    ).freeze()


@pytest.fixture
def store(tmp_path):
    return SplitStore(tmp_path / "splits")


# --- save ----------------------------------------------------------------------------------------------


def test_saved_under_data_rule_and_hash(store):
    split = a_split()
    path = store.save(split)
    assert path == store.folder / f"toy-context_ood-{split.frozen_hash[:12]}.json"
    assert path.read_bytes() == split.to_json().encode()
    assert [p.name for p in store.folder.iterdir()] == [path.name]


def test_saving_again_changes_nothing(store):
    path = store.save(a_split())
    before = path.stat()
    assert store.save(a_split()) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert path.stat().st_ino == before.st_ino


def test_other_content_is_never_overwritten(store):
    path = store.save(a_split())
    path.write_text("mine")
    with pytest.raises(SplitExists, match=r"holds another split: given new content under the name toy-.*Move the file"):
        store.save(a_split())
    assert path.read_text() == "mine"


def test_file_that_appears_while_saving_is_never_overwritten(store, monkeypatch):
    path = store.folder / a_split().file_name
    monkeypatch.setattr("os.fsync", lambda descriptor: path.write_text("mine"))
    with pytest.raises(SplitExists, match="holds another split"):
        store.save(a_split())
    assert path.read_text() == "mine"
    assert [p.name for p in store.folder.iterdir()] == [path.name]


def test_saving_again_writes_nothing_at_all(store, monkeypatch):
    def refuse(descriptor):
        raise OSError(28, "No space left on device")

    path = store.save(a_split(0))
    monkeypatch.setattr("os.fsync", refuse)
    assert store.save(a_split(0)) == path
    with pytest.raises(OutputNotWritable, match="No space left on device"):
        store.save(a_split(1))


def test_unfrozen_split_is_not_saved(store):
    split = a_split()
    loose = Split.from_json(split.to_json().replace(f'"{split.frozen_hash}"', "null"), "here")
    with pytest.raises(SplitNotFrozen, match="carries no frozen hash"):
        store.save(loose)
    assert not store.folder.exists()


def test_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "splits"):
        with pytest.raises(OutputNotWritable, match=r"Cannot write the split toy-.*Choose another folder"):
            SplitStore(folder).save(a_split())


def test_folder_that_cannot_be_written_is_refused(store, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OutputNotWritable, match=r"Cannot write the split toy-.*\(Permission denied\)"):
        store.save(a_split())
    assert not list(store.folder.iterdir())


def test_disk_without_hard_links(store, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    path = store.save(a_split())
    assert [p.name for p in store.folder.iterdir()] == [path.name]
    assert store.load(a_split().frozen_hash) == a_split()


def test_crash_while_writing_leaves_no_split(store, monkeypatch):
    def crash(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", crash)
    with pytest.raises(KeyboardInterrupt):
        store.save(a_split())
    assert not list(store.folder.iterdir())


@pytest.mark.parametrize("pool", [ThreadPoolExecutor, partial(ProcessPoolExecutor, mp_context=get_context("spawn"))])
def test_many_may_save_at_once(tmp_path, pool):
    folder = tmp_path / "splits"
    with pool(4) as workers:
        paths = list(workers.map(SplitStore(folder).save, [a_split()] * 24))
    assert len(set(paths)) == 1
    assert [p.name for p in folder.iterdir()] == [a_split().file_name]
    assert SplitStore(folder).load(a_split().frozen_hash) == a_split()


# --- load ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["{0}", "{0:.4}", "{0:.12}", "{0:.13}", "sha256:{0}", "toy-context_ood-{0:.12}.json"])
def test_load_by_hash_prefix_or_name(store, asked):
    store.save(a_split(0))
    store.save(a_split(1))
    assert store.load(asked.format(a_split(1).frozen_hash)) == a_split(1)


def test_load_ignores_case(store):
    store.save(a_split())
    assert store.load(a_split().frozen_hash.upper()) == a_split()


def test_unknown_hash_names_those_there_are(store):
    with pytest.raises(UnknownSplit, match=r"No split has the hash 0000: given the folders .*expected one of: none"):
        store.load("0000")
    path = store.save(a_split())
    with pytest.raises(UnknownSplit, match=f"expected one of: {path.name}"):
        store.load("0" * 64)


def test_all_of_a_long_hash_must_fit(store):
    store.save(a_split())
    with pytest.raises(UnknownSplit, match="No split has the hash"):
        store.load(a_split().frozen_hash[:12] + "0" * 52)


@pytest.mark.parametrize("asked", ["", "abc", "latest", "../../etc/passwd", "g" * 64, "a" * 65])
def test_what_is_no_hash_is_refused(store, asked):
    store.save(a_split())
    with pytest.raises(BadValue, match=r"This is no split hash: given .*4 to 64 hexadecimal.*Splits there are: toy-"):
        store.load(asked)


def test_ambiguous_hash_lists_the_candidates(store):
    by_start = {}
    for seed in range(3000):
        split = a_split(seed)
        twin = by_start.setdefault(split.frozen_hash[:4], split)
        if twin is not split:
            break
    else:
        pytest.fail("no two hashes with a common start")
    names = sorted(store.save(each).name for each in (split, twin))
    with pytest.raises(AmbiguousSplit, match=f"fits more than one split: given {', '.join(names)}.*more characters"):
        store.load(split.frozen_hash[:4])
    assert store.load(split.frozen_hash) == split


def test_same_content_under_two_data_names_is_not_ambiguous(store):
    for name in ("toy", "alias"):
        store.save(a_split(data_name=name))
    assert store.load(a_split().frozen_hash).compute_hash() == a_split().frozen_hash
    assert store.load(f"toy-context_ood-{a_split().frozen_hash[:12]}").data_name == "toy"


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_edited_by_one_index_is_refused(store):
    path = store.save(a_split())
    edit(path, train_idx=[0, 8])
    with pytest.raises(SplitEdited, match=f"Split {path} was changed after it was frozen"):
        store.load(a_split().frozen_hash)


def test_edited_with_a_new_hash_under_the_old_name_is_refused(store):
    path = store.save(a_split(0))
    path.write_text(a_split(1).to_json())
    with pytest.raises(SplitEdited, match=f"Name and content of {path} disagree: given the content of toy-"):
        store.load(a_split(0).frozen_hash)


def test_renamed_data_is_refused(store):
    path = store.save(a_split())
    edit(path, data_name="other")
    with pytest.raises(SplitEdited, match=r"Name and content of .* disagree: given the content of other-context_ood"):
        store.load(a_split().frozen_hash)


def test_stored_without_a_frozen_hash_is_refused(store):
    path = store.save(a_split())
    edit(path, frozen_hash=None)
    with pytest.raises(SplitNotFrozen, match="carries no frozen hash"):
        store.load(a_split().frozen_hash)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_garbage_is_refused_by_name(store, content):
    path = store.save(a_split())
    path.write_bytes(content)
    with pytest.raises(UnreadableFile, match=f"Cannot read the split {path}"):
        store.load(a_split().frozen_hash)


# --- further folders, list, verify ---------------------------------------------------------------------


def test_further_folders_are_read_and_never_written(tmp_path):
    shipped = SplitStore(tmp_path / "shipped")
    shipped.save(a_split(0))
    store = SplitStore(tmp_path / "mine", also_read=[tmp_path / "shipped", tmp_path / "absent"])
    assert store.load(a_split(0).frozen_hash) == a_split(0)
    store.save(a_split(1))
    store.save(a_split(0))
    assert len(shipped.list()) == 1
    assert store.find(a_split(0).frozen_hash).parent == store.folder
    assert sorted(s.seed for _, s in store.list()) == [0, 1]


def test_bad_files_do_not_hide_good_ones_and_are_reported(store):
    good = store.save(a_split(0))
    edited = store.save(a_split(1))
    edit(edited, train_idx=[0, 8])
    (store.folder / "notes.json").write_text("{}")
    (store.folder / "README.md").write_text("splits")
    assert store.load(a_split(0).frozen_hash) == a_split(0)
    assert store.list() == [(good, a_split(0))]
    problems = {path.name: type(error) for path, error in store.verify()}
    assert problems == {edited.name: SplitEdited, "notes.json": UnreadableFile}


def test_list_is_sorted_and_empty_without_a_folder(store):
    assert store.list() == []
    assert store.verify() == []
    for seed in range(5):
        store.save(a_split(seed))
    names = [path.name for path, _ in store.list()]
    assert names == sorted(names)
    assert len(names) == 5
    assert store.verify() == []

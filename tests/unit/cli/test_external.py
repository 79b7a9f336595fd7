"""Other people's code is cloned when a person says so, whole or not at all, and only after its licence was shown."""

import shutil
import subprocess

import pytest

from perturbfm.cli import main

GIT = shutil.which("git")
pytestmark = pytest.mark.skipif(GIT is None, reason="git is not installed")


@pytest.fixture
def bare(tmp_path):
    """A bare repository on this machine, and its file:// address."""
    work = tmp_path / "origin"
    work.mkdir()
    (work / "LICENSE").write_text("GNU GENERAL PUBLIC LICENSE\n")
    (work / "code.py").write_text("x = 1\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run([GIT, *words], cwd=work, check=True, capture_output=True)
    subprocess.run([GIT, "clone", "-q", "--bare", work, tmp_path / "bare.git"], check=True, capture_output=True)
    return f"file://{tmp_path / 'bare.git'}"


@pytest.fixture
def typed(capsys, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def call(*words):
        code = main(["external", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    call.folder = tmp_path / "here" / "third_party"
    return call


def test_list_names_licence_and_purpose_and_what_is_cloned(typed, bare):
    code, out, _ = typed("list")
    assert code == 0
    assert "https://github.com/bm2-lab/scPerturBench   licence: GPL" in out
    assert "(cloned)" not in out
    typed("clone", "gears", "--url", bare, "--accept-licence")
    assert "(cloned)" in typed("list")[1]


def test_the_licence_is_shown_first_and_has_to_be_accepted(typed, bare):
    code, out, err = typed("clone", "scperturbench", "--url", bare)
    assert code == 3
    assert "licence: GPL" in out
    assert "Do not import it, do not copy from it" in out
    assert "The licence of scperturbench is not accepted" in err
    assert not typed.folder.exists()


def test_a_clone_is_shallow_whole_and_shows_its_own_licence(typed, bare):
    code, out, _ = typed("clone", "scperturbench", "--url", bare, "--accept-licence")
    assert code == 0
    assert [p.name for p in typed.folder.iterdir()] == ["scperturbench"]
    assert (typed.folder / "scperturbench" / "code.py").read_text() == "x = 1\n"
    assert (typed.folder / "scperturbench" / ".git" / "shallow").is_file()
    assert out.index("licence: GPL") < out.index("GNU GENERAL PUBLIC LICENSE")


def test_what_is_there_is_never_replaced(typed, bare):
    (typed.folder / "gears").mkdir(parents=True)
    (typed.folder / "gears" / "mine.txt").write_text("mine")
    code, _, err = typed("clone", "gears", "--url", bare, "--accept-licence")
    assert code == 4
    assert "It is there already" in err
    assert (typed.folder / "gears" / "mine.txt").read_text() == "mine"


def test_a_clone_that_fails_leaves_nothing(typed, tmp_path):
    code, _, err = typed("clone", "gears", "--url", f"file://{tmp_path / 'nowhere.git'}", "--accept-licence")
    assert code == 4
    assert "CloneFailed: git could not clone it" in err
    assert list(typed.folder.iterdir()) == []


def test_without_git_that_is_said(typed, bare, monkeypatch):
    monkeypatch.setenv("PATH", "")
    code, _, err = typed("clone", "gears", "--url", bare, "--accept-licence")
    assert code == 4
    assert "git is not installed" in err


def test_an_address_cannot_be_an_option_of_git(typed, tmp_path):
    code, _, err = typed("clone", "gears", "--accept-licence", f"--url=--upload-pack=touch {tmp_path / 'run'}")
    assert code == 4
    assert "git could not clone it" in err
    assert not (tmp_path / "run").exists()


def test_an_unknown_name_gets_the_nearest(typed):
    code, _, err = typed("clone", "gear", "--accept-licence")
    assert code == 3
    assert "Did you mean gears" in err

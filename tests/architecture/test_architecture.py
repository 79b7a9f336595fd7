"""Is it still this house?"""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from perturbfm import errors

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "perturbfm"
MODULES = sorted(PACKAGE.rglob("*.py"))
DOORS = [p for p in MODULES if p.name == "__init__.py" and p.parent != PACKAGE]
ERRORS = {n: c for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, errors.PerturbFMError)}
FAMILIES = {"PerturbFMError", *(n for n, c in ERRORS.items() if c.__base__ is errors.PerturbFMError)}
HEAVY = ("torch", "lightning", "torchmetrics", "scanpy", "anndata", "pandas", "scipy", "numpy", "hydra", "omegaconf")
FREE_KEYWORDS = {"load", "event", "note", "record", "_ignore"}


def short(path):
    return path.relative_to(ROOT).as_posix()


def tree(path):
    return ast.parse(path.read_text())


@pytest.fixture(scope="module")
def tracked():
    """Text of all tracked files."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.run([git, "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True).stdout
    found = [ROOT / n for n in names.split("\0") if n]
    return {short(p): p.read_text(errors="replace") for p in found if p.is_file()}


# --- who may import what -------------------------------------------------------------------------------


def test_the_import_contracts_are_kept():
    command = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_the_package_imports_nothing_heavy():
    code = f"import sys, perturbfm, perturbfm.data, perturbfm.errors; print(sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_room_is_under_a_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    watched = {m for c in contracts for m in c.get("modules", []) + c.get("source_modules", [])}
    rooms = {f"perturbfm.{p.parent.name}" for p in DOORS if p.parent.parent == PACKAGE}
    assert rooms <= watched


# --- door signs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOORS, ids=short)
def test_every_room_has_a_door_sign(path):
    sign = ast.get_docstring(tree(path)) or ""
    for what in (r"Comes in:|^In:", r"Goes out:|^Out:", r"May import:|^Imports:", r"To add "):
        assert re.search(what, sign, re.MULTILINE), f"{short(path)} does not say {what!r}"


@pytest.mark.parametrize("folder", sorted({p.parent for p in MODULES}), ids=short)
def test_every_folder_of_the_package_has_a_door(folder):
    assert (folder / "__init__.py").is_file()


# --- what the code never does --------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_a_module_refuses_with_typed_errors_and_takes_named_arguments(path):
    for node in ast.walk(tree(path)):
        where = f"{short(path)}:{getattr(node, 'lineno', 0)}"
        assert not isinstance(node, ast.Assert), f"{where}: assert vanishes under -O"
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), f"{where}: bare except"
        if isinstance(node, ast.FunctionDef) and node.args.kwarg:
            assert node.name in FREE_KEYWORDS, f"{where}: {node.name} takes **{node.args.kwarg.arg}"
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant), where
            assert node.value.value is False, f"{where}: opens pickles"
        if isinstance(node, ast.keyword) and node.arg == "weights_only":
            assert getattr(node.value, "value", None) is True, f"{where}: opens pickles"


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_no_module_opens_pickles_or_runs_text(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {a.name for a in node.names} | {getattr(node, "module", None)}
            assert not names & {"pickle", "cloudpickle", "dill", "joblib"}, short(path)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec"), short(path)


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/**/*.py")), ids=short)
def test_every_expected_error_is_matched_by_its_message(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.raises":
            raised = {a.id for a in node.args if isinstance(a, ast.Name)}
            silent = {"KeyboardInterrupt", "SystemExit", "FrozenInstanceError"}
            assert raised <= silent or any(k.arg == "match" for k in node.keywords), f"{short(path)}:{node.lineno}"


def test_tests_are_no_package():
    assert not list((ROOT / "tests").rglob("__init__.py"))


# --- no traces of one machine --------------------------------------------------------------------------


MACHINE = re.compile(
    "|".join(
        ["/" + "work/", "/" + "root/", "/home" + r"/\w+", "/" + r"tmp/\w+", r"==[\d.]+\+" + "cpu", "find-" + "links"]
    )
)
REGISTRY = re.compile(
    "|".join(["index" + "-url", r"download\.py" + "torch", r"files\.python" + "hosted", "arti" + "factory"])
)


def test_no_tracked_file_names_a_path_or_registry_of_one_machine(tracked):
    me = short(Path(__file__))
    found = {
        f"{name}: {match[0]}"
        for name, text in tracked.items()
        if name != me
        for pattern in (MACHINE, REGISTRY)
        for match in pattern.finditer(text)
    }
    assert not found


def test_no_output_and_no_large_file_is_tracked(tracked):
    assert [n for n in tracked if n.startswith(("outputs/", "third_party/"))] in (
        ["outputs/.gitkeep", "third_party/.gitkeep"],
        ["outputs/.gitkeep"],
        [],
    )
    assert not [n for n, text in tracked.items() if len(text) > 2_000_000]


def test_torch_stays_below_the_version_that_brings_cuda():
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    torch = next(d for d in dependencies if re.match(r"torch\b(?!m)", d))
    cap = re.search(r"<(\d+)\.(\d+)", torch)
    assert cap, torch
    assert (int(cap[1]), int(cap[2])) <= (2, 14)


def test_compromised_and_vulnerable_releases_are_excluded():
    dependencies = " ".join(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    assert "lightning>=2.6.4" in dependencies
    assert "hydra-core>=1.3.8" in dependencies


# --- errors --------------------------------------------------------------------------------------------


def test_every_error_belongs_to_a_family_with_an_exit_code_of_its_own():
    codes = {n: ERRORS[n].exit_code for n in FAMILIES - {"PerturbFMError", "InternalError"}}
    assert sorted(codes.values()) == list(range(2, 9))
    assert errors.InternalError.exit_code == errors.PerturbFMError.exit_code == 9
    assert all(c.__base__.__name__ in FAMILIES for n, c in ERRORS.items() if n not in FAMILIES)


def test_an_error_has_four_parts_and_survives_another_process():
    import pickle

    error = errors.UnknownKey("Unknown", given=1, expected="two", fix="Do.")
    assert str(error) == "Unknown: given 1, expected two. Do."
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.fix) == (errors.UnknownKey, str(error), "Do.")


@pytest.mark.parametrize("name", sorted(set(ERRORS) - FAMILIES))
def test_every_error_is_raised_somewhere(name):
    assert any(re.search(rf"\b{name}\(", p.read_text()) for p in MODULES if p.name != "errors.py")


@pytest.mark.parametrize("name", sorted(set(ERRORS) - FAMILIES))
def test_every_error_is_tested_somewhere(name):
    me = Path(__file__)
    assert any(re.search(rf"\b{name}\b", p.read_text()) for p in ROOT.glob("tests/**/*.py") if p != me)


def test_what_is_near_a_misspelt_word():
    assert errors.nearest("rigde", ["ridge", "mean"]) == "ridge"
    assert errors.nearest("xyz", ["b", "a"]) == "a, b"
    assert errors.nearest("xyz", []) == ""

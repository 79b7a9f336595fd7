"""What a target takes, read without importing it."""

import subprocess
import sys

import pytest

from perturbfm.errors import ForbiddenTarget
from perturbfm.signature import parameters_of, type_fits


def test_parameters_of_a_class_are_those_of_its_constructor():
    found = parameters_of("perturbfm.train.gradient.Gradient")
    assert list(found) == ["name", "model", "optimizer", "dims"]
    assert all(p.required for p in found.values())


def test_parameters_of_a_function_know_their_defaults():
    found = parameters_of("perturbfm.data.planted.load_synthetic")
    assert found["seed"].annotation == "int"
    assert not any(p.required for p in found.values())


def test_keyword_only_parameters_are_found(tmp_path, monkeypatch):
    (tmp_path / "keyworded.py").write_text("def f(a, *, b: int, c: str = 'x'): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {n: p.required for n, p in parameters_of("keyworded.f").items()} == {"a": True, "b": True, "c": False}


@pytest.mark.parametrize(
    "target", ["perturbfm.data.planted.nothing", "perturbfm.nowhere.f", "json", "", "os.system", "math.sqrt", "a..b"]
)
def test_what_is_not_there_is_refused(target):
    with pytest.raises(ForbiddenTarget, match="A _target_ cannot be found"):
        parameters_of(target)


def test_reading_a_signature_imports_neither_torch_nor_lightning():
    code = (
        "import sys; from perturbfm.signature import parameters_of;"
        "parameters_of('perturbfm.train.gradient.Gradient'); parameters_of('perturbfm.model.baseline.ridge.Ridge');"
        "print(sorted({'torch', 'lightning', 'pandas', 'anndata'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1, "int"),
        (1, "float"),
        (1.5, "float"),
        ("a", "str"),
        (True, "bool"),
        (None, "str | None"),
        (["a"], "Sequence[str]"),
        ({"a": "b"}, "Mapping[str, str] | None"),
        (3, ""),
        (None, ""),
        (None, "Any"),
        (3, "Path"),
    ],
)
def test_values_that_fit(value, annotation):
    assert type_fits(value, annotation)


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (1.5, "int"),
        (True, "int"),
        (True, "float"),
        ("1", "float"),
        (1, "str"),
        (1, "bool"),
        (None, "str"),
        (None, "Path"),
        ("abc", "Sequence[str]"),
        (["a"], "Mapping[str, str] | None"),
        (None, "Callable[..., AbstractNetwork]"),
        (3, "Callable[..., AbstractNetwork]"),
    ],
)
def test_values_that_do_not_fit(value, annotation):
    assert not type_fits(value, annotation)

"""What a `_target_` takes, read from its source without importing it.

Importing a model means importing torch and Lightning, which takes seconds; a misspelt key must be refused before that.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from perturbfm.errors import ForbiddenTarget

_CHECKED = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,), "None": (type(None),)}


@dataclass(frozen=True)
class Parameter:
    """One argument: its name, the text of its annotation, and whether it must be given."""

    name: str
    annotation: str
    required: bool


@lru_cache(maxsize=256)
def parameters_of(target: str) -> Mapping[str, Parameter]:
    """Parameters of the function or class at a dotted path, in order.

    Raises:
        ForbiddenTarget: There is nothing of that name.
    """
    module, _, name = target.rpartition(".")
    node = _definition(module, name)
    if node is None:
        raise ForbiddenTarget(
            "A _target_ cannot be found",
            given=target,
            expected="the dotted path of a function or class in its own module",
            fix="Check the spelling in the yaml.",
        )
    function = node if isinstance(node, ast.FunctionDef) else _constructor(node)
    if function is None:
        return {}
    given = [a for a in function.args.posonlyargs + function.args.args if a.arg not in ("self", "cls")]
    first_default = len(given) - len(function.args.defaults)
    found = [Parameter(a.arg, _note(a), i < first_default) for i, a in enumerate(given)]
    for a, default in zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True):
        found.append(Parameter(a.arg, _note(a), default is None))
    return {p.name: p for p in found}


def type_fits(value: Any, annotation: str) -> bool:
    """Whether a plain yaml value fits an annotation; annotations that are no plain types accept anything."""
    words = [w.strip() for w in annotation.split("|")] if annotation else []
    if value is None:
        return not words or "None" in words or "Any" in words
    if annotation.startswith("Callable["):
        return False
    plain = [w.split("[")[0] for w in words]
    if not plain or any(w not in (*_CHECKED, "Sequence", "Mapping", "list", "tuple", "dict") for w in plain):
        return True
    for word in plain:
        if word in ("Sequence", "list", "tuple") and isinstance(value, list | tuple):
            return True
        if word in ("Mapping", "dict") and isinstance(value, Mapping):
            return True
        if word in _CHECKED and isinstance(value, _CHECKED[word]) and not (isinstance(value, bool) and word != "bool"):
            return True
    return False


def _note(argument: ast.arg) -> str:
    return ast.unparse(argument.annotation) if argument.annotation else ""


def _definition(module: str, name: str) -> ast.FunctionDef | ast.ClassDef | None:
    try:
        spec = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return node
    return None


def _constructor(node: ast.ClassDef) -> ast.FunctionDef | None:
    return next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)

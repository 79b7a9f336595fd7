"""Where things live: configuration travels with the package, results stay with the user.

Environment variables override: PERTURBFM_SPLITS, PERTURBFM_OUTPUTS, PERTURBFM_CACHE, PERTURBFM_CONF (a further
conf folder).
"""

from __future__ import annotations

import os
from pathlib import Path

from perturbfm.errors import BadValue

_PACKAGE = Path(__file__).parent


def conf_dir() -> Path:
    """The shipped `conf/`: inside an installed wheel, or beside the package in a checkout."""
    inside = _PACKAGE / "_conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def user_conf_dir() -> Path | None:
    """A `conf/` of the user's, searched after the shipped one: PERTURBFM_CONF, or `./conf`.

    Raises:
        BadValue: PERTURBFM_CONF names no folder.
    """
    named = os.environ.get("PERTURBFM_CONF")
    folder = Path(named or "conf").absolute()
    if named and not folder.is_dir():
        raise BadValue(
            "PERTURBFM_CONF names no folder", given=folder, expected="a conf folder", fix="Create it, or unset it."
        )
    return folder if folder.is_dir() and folder.resolve() != conf_dir().resolve() else None


def splits_dir() -> Path:
    """Where new splits are stored."""
    return Path(os.environ.get("PERTURBFM_SPLITS", "splits")).absolute()


def shipped_splits_dirs() -> tuple[Path, ...]:
    """Splits that came with the package; read, never written."""
    inside = _PACKAGE / "_splits"
    beside = _PACKAGE.parent / "splits"
    return tuple(f for f in ((inside,) if inside.is_dir() else (beside,)) if f.is_dir() and f != splits_dir())


def outputs_dir() -> Path:
    """Where runs leave their artifacts."""
    return Path(os.environ.get("PERTURBFM_OUTPUTS", "outputs")).absolute()


def cache_dir() -> Path:
    """Where fetched data sets and mapped matrices lie: PERTURBFM_CACHE, or the user's cache folder of this system."""
    named = os.environ.get("PERTURBFM_CACHE")
    if named:
        return Path(named).absolute()
    from pooch import os_cache

    return Path(os_cache("perturbfm")).absolute()


def third_party_dir() -> Path:
    """Where other people's code is cloned to: `./third_party`, which is not tracked and only ever executed."""
    return Path("third_party").absolute()

"""Options of rules, checked once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from perturbfm.errors import BadValue, nearest
from perturbfm.split.split import whole_number

MOST_REFERENCE = 1000
"""Reference controls of a context; more would not make its truth noticeably better (protocol 3.1)."""


@dataclass(frozen=True)
class Dealing:
    """What every rule takes.

    Attributes:
        seed: Seed of the dealing.
        val_fraction: Share of the source to validate on.
        calib_fraction: Share of the source to calibrate on.
        min_controls: Smallest number of controls on each side, per context.
    """

    seed: int
    val_fraction: float
    calib_fraction: float
    min_controls: int

    @classmethod
    def of(cls, seed: int, val_fraction: float, calib_fraction: float, min_controls: int) -> Dealing:
        """Checked options."""
        checked = cls(
            seed=whole_number("seed", seed, least=0),
            val_fraction=fraction("val_fraction", val_fraction),
            calib_fraction=fraction("calib_fraction", calib_fraction),
            min_controls=whole_number("min_controls", min_controls, least=1, most=MOST_REFERENCE),
        )
        if checked.val_fraction + checked.calib_fraction >= 1:
            raise BadValue(
                "val_fraction and calib_fraction leave nothing to train on",
                given=f"{val_fraction} and {calib_fraction}",
                expected="a sum below 1",
                fix="Make one of them smaller.",
            )
        return checked

    def params(self) -> dict[str, object]:
        """What goes into the split; the seed has its own field there."""
        return {
            "val_fraction": self.val_fraction,
            "calib_fraction": self.calib_fraction,
            "min_controls": self.min_controls,
        }

    def n_val(self, n_source: int) -> int:
        """How many of some units to validate on."""
        return max(1, round(self.val_fraction * n_source))

    def n_calib(self, n_source: int) -> int:
        """How many of some units to calibrate on."""
        return max(1, round(self.calib_fraction * n_source))


def fraction(name: str, value: object) -> float:
    """A number between 0 and 1, both excluded."""
    if isinstance(value, float | int) and not isinstance(value, bool) and 0 < value < 1:
        return float(value)
    raise BadValue(
        f"{name} is out of range",
        given=repr(value),
        expected="a number between 0 and 1, both excluded",
        fix=f"Set {name} within that range.",
    )


def switch(name: str, value: object) -> bool:
    """True or false, and nothing that merely looks like it."""
    if isinstance(value, bool):
        return value
    raise BadValue(f"{name} is not a switch", given=repr(value), expected="true or false", fix="Set one.")


def choice(name: str, value: object, among: Sequence[str]) -> str:
    """One of some words."""
    if isinstance(value, str) and value in among:
        return value
    raise BadValue(
        f"Unknown {name}",
        given=repr(value),
        expected=" or ".join(among),
        fix=f"Did you mean {nearest(str(value), among)}?",
    )


def names_among(name: str, given: object, known: Collection[str], example: str) -> tuple[str, ...]:
    """Distinct names that the data have, sorted; an empty list stays empty."""
    listed = () if isinstance(given, str) or not isinstance(given, Sequence) else tuple(str(item) for item in given)
    if (not listed and given not in ((), [])) or len(set(listed)) != len(listed):
        raise BadValue(
            f"{name} is not a list of names",
            given=repr(given),
            expected="names, each once",
            fix=f'Pass a list such as ["{example}"].',
        )
    unknown = sorted(set(listed) - set(known))
    if unknown:
        close = "; ".join(f"nearest to {item}: {nearest(item, known)}" for item in unknown[:3])
        raise BadValue(
            f"{name} has names that are not in the data",
            given=", ".join(unknown[:10]),
            expected=f"some of {_shown(known)}",
            fix=f"Check the spelling ({close}).",
        )
    return tuple(sorted(listed))


def listed(value: object) -> list[Any]:
    """The items of a list; nothing where something else was given, so that a word is never read letter by letter."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []


def _shown(known: Collection[str]) -> str:
    names = sorted(known)
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")

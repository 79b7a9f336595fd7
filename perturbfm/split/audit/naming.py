"""Names that may mean one thing: labels, guides, barcodes, data sets."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping

CONTROL_PARTS = frozenset(
    {"ctrl", "control", "controls", "non-targeting", "nontargeting", "nt", "ntc", "negctrl", "unperturbed", "dmso"}
)
"""Parts that add nothing to a combination: `ctrl+A` is `A`."""

WHITELIST = 737_280
"""Barcodes of the smallest common 10x whitelist; two libraries share barcodes by chance at this rate."""

_DELIMITERS = re.compile(r"[+,;|&_/]")
_SPACE = re.compile(r"\s+")
_DASH = re.compile("[\u00ad\u2010-\u2015\u2212]")
_SEPARATOR = re.compile(r"(?<!\d)[-_.']+|[-_.']+(?!\d)")
_GUIDE_FOR = re.compile(r"(?:sg|si|sh)(?=[A-Z0-9])")
_HIT = re.compile(r"[-_.](?:ko|kd|oe|knockout|knockdown|overexpression|crispr[iako]?)$", re.IGNORECASE)
_GREEK = re.compile("[\u03b1-\u03c9]")
_GUIDE = re.compile(r"(?P<gene>.+?)(?:[_.-](?:sg|grna|guide|g)[_.-]?\d+|_\d+|(?<=[A-Z0-9])g\d+)")
_BARE = re.compile(r"(?:.*[_:#.|/])?(?P<barcode>[ACGT]{10,})(?:[-.]\d+)?")
_INSIDE = re.compile(r"(?<![A-Za-z])[ACGT]{10,}(?![A-Za-z])")
_AUTHOR_YEAR = re.compile(r"([a-z]{3,})[ _-]?(?:20)?(\d{2})(?!\d)")


def canonical(label: str, delimiter: str | None, aliases: Mapping[str, str]) -> tuple[str, ...]:
    """A perturbation without its spelling: parts sorted, lower case, no spaces, no control part, official symbols.

    Characters that look alike (kinds of dashes, composed accents) are one.

    Args:
        label: The perturbation's label.
        delimiter: What the data declare to join parts; common delimiters are tried as well.
        aliases: Lower-case symbol to lower-case official symbol.
    """
    text = plain(label)
    if text in aliases:
        return (aliases[text],)
    joined = text.replace(plain(delimiter), "+") if delimiter and delimiter.strip() else text
    parts = [part for part in _DELIMITERS.split(joined) if part and part not in CONTROL_PARTS]
    return tuple(sorted(aliases.get(part, part) for part in parts))


def lowered(aliases: Mapping[str, str] | None) -> dict[str, str]:
    """Aliases as `canonical` wants them."""
    return {plain(k): plain(v) for k, v in (aliases or {}).items()}


def plain(label: str) -> str:
    """A label in lower case and without spaces, with one character for those that look alike."""
    return _SPACE.sub("", _DASH.sub("-", unicodedata.normalize("NFKC", label)).casefold())


def likeness(label: str, delimiter: str | None, aliases: Mapping[str, str]) -> tuple[str, ...]:
    """What labels have in common that may be one perturbation: parts without separators, guide prefix and kind of hit.

    Separators between digits stay: `IGHV1-24` is not `IGHV12-4`.
    """
    parts = (part for part in parts_of(label, delimiter) if plain(part) not in CONTROL_PARTS)
    return tuple(sorted(filter(None, (_bare_part(part, aliases) for part in parts))))


def _bare_part(part: str, aliases: Mapping[str, str]) -> str:
    known = aliases.get(plain(part))
    name = plain(_HIT.sub("", _GUIDE_FOR.sub("", part.strip()))) if known is None else known
    spelt = _GREEK.sub(lambda found: unicodedata.name(found[0]).rpartition(" ")[2].casefold(), name)
    return _SEPARATOR.sub("", spelt)


def parts_of(label: str, delimiter: str | None) -> tuple[str, ...]:
    """Parts of a combination as the data declare them; a single perturbation is its own part."""
    return tuple(p.strip() for p in label.split(delimiter)) if delimiter else (label,)


def gene_of_guide(label: str, known: Collection[str] = ()) -> str | None:
    """The gene of a guide-level label (`GENE_1`, `GENEg2`, `GENE_sg3`), or None for any other label.

    `GENE-1` is one where the gene is known, in lower case, and itself no gene: there are families of such symbols.
    """
    match = _GUIDE.fullmatch(label)
    if match:
        return match["gene"]
    stem, dash, number = label.rpartition("-")
    dashed = dash and number.isdecimal() and stem.casefold() in known and label.casefold() not in known
    return stem if dashed else None


def bare_barcode(cell_id: str) -> str | None:
    """The barcode of an id that is one but for a file prefix and a `-1` suffix, or None."""
    match = _BARE.fullmatch(cell_id)
    return match["barcode"] if match else None


def barcode_in(cell_id: str) -> str | None:
    """The longest barcode anywhere in an id, or None."""
    return max(_INSIDE.findall(cell_id), key=len, default=None)


def same_name(name: str) -> str:
    """A data set's name without case and punctuation."""
    return re.sub(r"[^a-z0-9]+", "", name.casefold())


def author_year(name: str) -> frozenset[str]:
    """What looks like first author and year in a name: `kang18` in `Kang 2018` and in `kang18_pbmc`."""
    return frozenset(f"{a}{y}" for a, y in _AUTHOR_YEAR.findall(name.casefold()))


def beyond_chance(n: int, expected: float) -> bool:
    """Whether so many shared barcodes are more than two unrelated libraries would have (three Poisson sd)."""
    return n > expected + 3.0 * expected**0.5

"""`perturbfm data list | show | fetch | verify`: public data sets, fetched only when named."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perturbfm.data.catalog import Entry, File

NOT_SAID = "not published"


def add(inner: Any) -> None:
    """Add the verbs below `perturbfm data`."""
    listed = inner.add_parser("list", help="list the public data sets of the catalog")
    listed.add_argument("--json", action="store_true", help="as JSON")
    listed.set_defaults(call=list_entries)
    shown = inner.add_parser("show", help="print all facts of a public data set")
    shown.add_argument("name", metavar="NAME")
    shown.set_defaults(call=show_entry)
    fetched = inner.add_parser("fetch", help="fetch a public data set, verified, resumable")
    fetched.add_argument("name", metavar="NAME")
    fetched.add_argument("--file", help="one file of it; without it, all")
    fetched.add_argument("--accept-non-commercial", action="store_true", help="your use is not commercial")
    fetched.add_argument("--accept-unverified", action="store_true", help="also files without a published checksum")
    fetched.add_argument("--from", dest="local", type=Path, metavar="PATH", help="a copy you have; nothing is fetched")
    fetched.set_defaults(call=fetch_entry)
    verified = inner.add_parser("verify", help="hash again what was fetched")
    verified.add_argument("name", metavar="NAME", nargs="?", help="without it, everything")
    verified.set_defaults(call=verify_entries)
    for p in (fetched, verified):
        p.add_argument("--into", type=Path, metavar="DIR", help="a folder instead of the cache (PERTURBFM_CACHE)")


def list_entries(arguments: argparse.Namespace) -> None:
    """A line per data set."""
    from perturbfm.data.catalog import all_names, read_entry

    rows = [_row(read_entry(name)) for name in all_names()]
    if arguments.json:
        import json

        print(json.dumps(rows, indent=1))
        return
    width = max(len(row["name"]) for row in rows)
    print(f"{'name':<{width}}  {'cells':>9}  {'size':>9}  {'fetched':>7}  licence")
    for row in rows:
        here = f"{len(row['fetched'])}/{row['n_files']}"
        cells = f"{row['n_cells']:,}" if row["n_cells"] is not None else "-"
        mark = " (non-commercial)" if row["non_commercial"] else ""
        print(f"{row['name']:<{width}}  {cells:>9}  {_size(row['n_bytes']):>9}  {here:>7}  {row['licence']}{mark}")
    print("\n- not published.  `perturbfm data show NAME` prints all facts, `perturbfm data fetch NAME` fetches.")


def _row(entry: Entry) -> dict[str, Any]:
    from perturbfm.data.catalog.store import stored

    sizes = [f.n_bytes for f in entry.files]
    return {
        "name": entry.name,
        "title": entry.title,
        "n_cells": entry.n_cells,
        "licence": entry.licence.tag,
        "non_commercial": entry.licence.non_commercial,
        "n_bytes": None if None in sizes else sum(s for s in sizes if s is not None),
        "n_files": len(entry.files),
        "fetched": [f.name for f in stored(entry)],
    }


def show_entry(arguments: argparse.Namespace) -> None:
    """All facts."""
    from perturbfm.data.catalog import read_entry
    from perturbfm.data.catalog.store import folder_of, stored

    entry = read_entry(arguments.name)
    print(f"{entry.name}: {entry.title}")
    print(f"organism     {entry.organism or NOT_SAID}")
    print(f"cells        {_number(entry.n_cells)}   genes {_number(entry.n_genes)}")
    print(f"record       {entry.record}")
    _print_terms(entry)
    print(f"read in      {entry.read_in}")
    for note in entry.notes:
        print(f"note         {note}")
    for project, text in entry.preprocessing.items():
        print(f"in {project:<16} {text}")
    here = {f.name for f in stored(entry)}
    for file in entry.files:
        _print_file(file, file.name in here)
    print(f"\ncache folder {folder_of(entry)}")


def _print_terms(entry: Entry) -> None:
    """Licence and citation, before anything is fetched."""
    mark = " NON-COMMERCIAL" if entry.licence.non_commercial else ""
    print(f"licence      {entry.licence.tag}{mark}: {entry.licence.text}")
    print(f"cite         {entry.citation}", flush=True)


def _print_file(file: File, here: bool) -> None:
    print(f"\nfile         {file.name} ({file.format}{', fetched' if here else ''})")
    size = NOT_SAID if file.n_bytes is None else f"{file.n_bytes:,} bytes"
    print(f"  size       {size}\n  checksum   {', '.join(file.checksums) or NOT_SAID}")
    for url in file.urls:
        print(f"  from       {url}")
    if file.published_as:
        print(f"  derived    the https address is derived from {file.published_as}, the same path")
    if file.by_hand:
        print(f"  by hand    {file.by_hand}")
    for bad in file.refused:
        print(f"  refused    {bad.checksum}: {bad.reason}")
    for key, value in (file.columns or {}).items():
        print(f"  {key:<15} {value}")
    if file.notes:
        print(f"  note       {file.notes}")


def fetch_entry(arguments: argparse.Namespace) -> None:
    """Licence and citation first; then each file; then the yaml that reads it."""
    from perturbfm.data.catalog import read_entry
    from perturbfm.data.catalog.fetch import assert_allowed, fetch
    from perturbfm.data.catalog.store import folder_of

    entry = read_entry(arguments.name)
    files = (entry.file(arguments.file),) if arguments.file else entry.files
    _assert_one_for_a_copy(arguments, files)
    copy = arguments.local is not None
    _print_terms(entry)
    for file in files:  # every consent before the first byte
        assert_allowed(entry, file, arguments.accept_non_commercial, arguments.accept_unverified, copy)
    for file in files:
        path = fetch(
            entry,
            file,
            folder_of(entry, arguments.into),
            arguments.accept_non_commercial,
            arguments.accept_unverified,
            arguments.local,
            say=lambda text: print(text, flush=True),
        )
        _print_recipe(entry, file, path)


def _assert_one_for_a_copy(arguments: argparse.Namespace, files: tuple[File, ...]) -> None:
    from perturbfm.errors import MissingValue

    if arguments.local and len(files) > 1:
        raise MissingValue(
            "--from holds one file, the data set has several",
            given=f"--from {arguments.local}",
            expected=f"--file with one of {', '.join(f.name for f in files)}",
            fix="Say which one it is with --file.",
        )


def _print_recipe(entry: Entry, file: File, path: Path) -> None:
    from perturbfm.data.catalog.recipe import SAY_IT, first_step, recipe, recipe_name

    text = recipe(entry, file, path)
    if text is None:
        return
    before = first_step(file, path)
    print(f"\n{before}" if before else "", f"# conf/data/{recipe_name(entry, file)}.yaml", text, sep="\n")
    if SAY_IT in text:
        print(f"Where it says '{SAY_IT}', look into the file; a run refuses it until then.\n")
    for note in entry.notes:
        print(f"note: {note}")


def verify_entries(arguments: argparse.Namespace) -> None:
    """Hash again what is there; a file that changed ends with exit code 8."""
    from perturbfm.data.catalog import all_names, read_entry
    from perturbfm.data.catalog.store import assert_verified, folder_of, verify
    from perturbfm.errors import UnreadableFile

    names = (arguments.name,) if arguments.name else all_names()
    verdicts = [v for name in names for v in verify(read_entry(name), arguments.into)]
    for v in verdicts:
        print(f"{v.state:<10} {v.path}  {v.detail}", flush=True)
    if not verdicts and arguments.name:
        raise UnreadableFile(
            f"Nothing of {arguments.name} was fetched",
            given=folder_of(read_entry(arguments.name), arguments.into),
            expected="its files",
            fix=f"`perturbfm data fetch {arguments.name}`.",
        )
    assert_verified(verdicts)
    print(f"{len(verdicts)} files are what was fetched")


def _number(value: int | None) -> str:
    return NOT_SAID if value is None else f"{value:,}"


def _size(n_bytes: int | None) -> str:
    """Bytes in the unit a person reads."""
    if n_bytes is None:
        return "-"
    amount = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"

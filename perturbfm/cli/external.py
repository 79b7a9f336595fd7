"""`perturbfm external`: other people's benchmarks, cloned by this command only and only ever executed."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class External:
    """Somebody else's code.

    Attributes:
        url: Where git clones it from.
        licence: What it may be used for.
        copyleft: It may not be imported, copied or shipped with this package.
        what: What it is for.
        read_in: Where the licence was read.
    """

    url: str
    licence: str
    copyleft: bool
    what: str
    read_in: str


def add(verbs: Any) -> None:
    """Add the verb."""
    words = "Other people's benchmarks. Cloned by this command only, into third_party/, and only ever executed."
    p = verbs.add_parser("external", help="list or clone other people's benchmarks", description=words)
    inner = p.add_subparsers(dest="external_verb", required=True, metavar="VERB")
    inner.add_parser("list", help="name, licence, what it is for").set_defaults(call=list_external)
    clone = inner.add_parser("clone", help="print the licence, then clone into third_party/")
    clone.add_argument("name", metavar="NAME")
    clone.add_argument("--accept-licence", action="store_true", help="you have read the licence and accept it")
    clone.add_argument("--url", help="another address, for example a copy of your own")
    clone.set_defaults(call=clone_external)


def externals() -> dict[str, External]:
    """What can be cloned, by name."""
    import yaml

    from perturbfm.data.catalog.entry import checked_keys

    plain = yaml.safe_load((_HERE / "external.yaml").read_text(encoding="utf-8"))
    for name, facts in plain.items():
        checked_keys(External, facts, name)
    return {name: External(**facts) for name, facts in plain.items()}


def list_external(arguments: argparse.Namespace) -> None:
    """Two lines per name."""
    from perturbfm import places

    for name, e in externals().items():
        here = "  (cloned)" if (places.third_party_dir() / name).exists() else ""
        print(f"{name:<16} {e.what}{here}\n{'':<16} {e.url}   licence: {e.licence}")


def clone_external(arguments: argparse.Namespace) -> None:
    """Licence first, consent second, clone third; a half clone is removed."""
    from perturbfm import places
    from perturbfm.errors import LicenceNotAccepted, UnknownChoice, nearest

    known = externals()
    if arguments.name not in known:
        raise UnknownChoice(
            f"No external code {arguments.name!r}",
            given=arguments.name,
            expected=f"one of {', '.join(known)}",
            fix=f"Did you mean {nearest(arguments.name, known)}?",
        )
    chosen = known[arguments.name]
    _print_licence(arguments.name, chosen)
    if not arguments.accept_licence:
        raise LicenceNotAccepted(
            f"The licence of {arguments.name} is not accepted",
            given="no --accept-licence",
            expected="your consent to the licence printed above",
            fix=f"`perturbfm external clone {arguments.name} --accept-licence`.",
        )
    target = places.third_party_dir() / arguments.name
    _clone(arguments.url or chosen.url, target)
    for licence in sorted(target.glob("LICEN[CS]E*")):
        print(f"\n--- {licence.name} of the clone begins ---\n{licence.read_text(errors='replace')[:400].rstrip()}")
    print(f"\ncloned into {target}; it is not tracked, and nothing here imports it")


def _print_licence(name: str, chosen: External) -> None:
    print(f"{name}: {chosen.what}\n{chosen.url}\nlicence: {chosen.licence}\nread in: {chosen.read_in}")
    if chosen.copyleft:
        print(
            "This code is copyleft: it stays in third_party/ and is only executed, as a program of its own.\n"
            "Do not import it, do not copy from it into this package, do not ship it with your work unless\n"
            "your work is under the same licence."
        )
    print("", end="", flush=True)


def _clone(url: str, target: Path) -> None:
    """`git clone --depth 1`, whole or not at all."""
    import os
    import shutil
    import subprocess
    import tempfile

    git = shutil.which("git")
    if git is None:
        raise _failed("git is not installed", "no git on PATH", "git", "Install git, or clone it yourself.")
    if target.exists():
        raise _failed("It is there already", target, "no such folder", "Delete it to clone it again, or use it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        command = [git, "clone", "--depth", "1", "--", url, str(half / "clone")]
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}  # a private address fails instead of asking
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise _failed(
                "git could not clone it",
                f"{url} ({said[-1] if said else f'exit code {done.returncode}'})",
                "a repository that can be reached",
                "Check the network or give another address with --url; nothing was left behind.",
            )
        (half / "clone").replace(target)
    except OSError as e:
        raise _failed("The clone cannot be put there", f"{target} ({e})", "a folder to write to", "Free it.") from e
    finally:
        shutil.rmtree(half, ignore_errors=True)


def _failed(problem: str, given: object, expected: object, fix: str) -> Exception:
    from perturbfm.errors import CloneFailed

    return CloneFailed(problem, given=given, expected=expected, fix=fix)

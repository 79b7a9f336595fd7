"""Public data sets as facts: where they lie, what they weigh, what they may be used for, how to read them.

Comes in: the name of an entry. Goes out: its facts (`Entry`), its files verified in the cache folder, the yaml that
    reads one.
May import: types, errors, places, files, signature; pooch and requests only in `fetch.py` and `download.py`.
To add a data set: one yaml in `entry/`, with every key of `Entry` and `File`; what is not published is `null`, or `???`
    where a user has to say it. A new benchmark's preprocessing is a line in `preprocessing.yaml`.

    entry.py      the facts, checked on reading      store.py      what lies in the cache, and whether it is still that
    fetch.py      one file from its mirrors          download.py   one address, resumable
    recipe.py     the yaml that reads a file

Nothing here opens a connection unless `fetch` is called with the name of an entry. Checksums and sizes are as their
publishers state them; none was made up.
"""

from __future__ import annotations

from perturbfm.data.catalog.entry import Entry, File, KnownBad, Licence, all_names, read_entry

__all__ = ["Entry", "File", "KnownBad", "Licence", "all_names", "read_entry"]

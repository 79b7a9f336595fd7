"""`Preprocessor`: stages learned on train rows, recorded, and replayed on any data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from perturbfm.data.controls import group_keys
from perturbfm.data.dataset import PerturbDataset
from perturbfm.errors import (
    ArtifactEdited,
    CheckpointMismatch,
    InternalError,
    ScaleMismatch,
    StillCounts,
    UnreadableFile,
)
from perturbfm.split import Split
from perturbfm.train.stage.abstract import COUNTS, NORMALISED, AbstractStage
from perturbfm.train.stage.filter_genes import FilterGenes
from perturbfm.train.stage.rows import cut
from perturbfm.types import Labels, Learned

FILE = "preprocess.json"
"""What was learned, in a run's folder."""

SCHEMA = "perturbfm.preprocess/1"
_HOME = "perturbfm.train.stage."
_KEYS = ("schema", "name", "learn_on", "scale_in", "scale_out", "genes_read", "rows", "stages", "versions")
_PACKAGES = ("perturbfm", "scanpy", "scikit-misc", "numpy", "scipy")


def learning_rows(split: Split, labels: Labels, learn_on: str) -> np.ndarray:
    """The rows that stages may learn from.

    Those of the train fold, and the input controls that they are compared with: of contexts that occur in train, or of
    contexts and batches where that is how controls are matched. Never controls of a held-out context, never reference
    controls, never a row of another fold.

    Args:
        split: The split.
        labels: Labels of the data set that it is locked to.
        learn_on: `train`; or `all`, which means every row and leaks.

    Returns:
        Sorted row numbers.
    """
    if learn_on == "all":
        return np.arange(labels.n_obs)
    key_n = group_keys(labels.context_n, labels.batch_n, labels.match != "context")
    known = set(key_n[split.train_idx].tolist())
    controls = [row for row in split.input_control_idx.tolist() if key_n[row] in known]
    return np.sort(np.concatenate([split.train_idx, np.array(controls, dtype=np.int64)]))


@dataclass(frozen=True)
class Preprocessor:
    """Stages, what each learned, and where.

    Attributes:
        name: Name of the choice in `conf/preprocess/`.
        learn_on: `train`, or `all` (which leaks).
        stages: The stages in order.
        learned: What each learned, plain containers.
        scale_in: Scale that the data must have.
        scale_out: Scale that they have afterwards.
        genes_read: Genes that data must have: those left after leading gene filters.
        rows_digest: SHA-256 of the sorted row numbers that it was learned on.
        rows_count: How many these were.
        versions: Packages that it was learned with.
        rows: The row numbers; None for one that was read back without them.
    """

    name: str
    learn_on: str
    stages: tuple[AbstractStage, ...]
    learned: tuple[dict[str, Any], ...]
    scale_in: str
    scale_out: str
    genes_read: tuple[str, ...]
    rows_digest: str
    rows_count: int
    versions: dict[str, str | None]
    rows: np.ndarray | None = None

    @classmethod
    def learn(
        cls, stages: Sequence[AbstractStage], dataset: PerturbDataset, rows: np.ndarray, name: str, learn_on: str
    ) -> Preprocessor:
        """Learn each stage on the given rows, as the stages before it have left them.

        Raises:
            StageOutOfPlace: A stage is given a scale that it does not take.
            StillCounts: The stages leave counts.
            InputError: The rows do not allow what a stage computes.
        """
        scale_out = scale_after(stages, dataset.declared.scale)
        part = cut(dataset, rows, counts=True) if stages else None
        read, learned = dataset.genes, []
        leading = True
        for stage in stages:
            if part is not None:
                learned.append(stage.learn(part))
                part = stage.apply(part, learned[-1])
                leading = leading and isinstance(stage, FilterGenes)
                read = part.genes if leading else read
        return cls(
            name=name,
            learn_on=learn_on,
            stages=tuple(stages),
            learned=tuple(learned),
            scale_in=dataset.declared.scale,
            scale_out=scale_out,
            genes_read=read if stages else (),
            rows_digest=digest(rows),
            rows_count=len(rows),
            versions={p: _version(p) for p in _PACKAGES},
            rows=rows,
        )

    @property
    def leaking(self) -> bool:
        """Whether something was learned from cells that a model is judged on."""
        return self.learn_on == "all" and bool(self.stages)

    def apply(self, dataset: PerturbDataset) -> PerturbDataset:
        """Do to a data set what was learned; the result stays locked to the fingerprint of what came in.

        Args:
            dataset: The data learned on, or new data: its genes are found by name, further ones are dropped.

        Raises:
            ScaleMismatch: It is on another scale than the data learned on.
            GenesAbsent: It lacks genes.
        """
        if not self.stages:
            return dataset
        if dataset.declared.scale != self.scale_in:
            raise ScaleMismatch(
                "Preprocessing was learned on another scale",
                given=f"data {dataset.declared.name} on the scale {dataset.declared.scale}",
                expected=self.scale_in,
                fix="Declare data.scale and data.target_sum as they were when it was learned.",
            )
        part = cut(dataset, None, counts=False).take(self.genes_read)
        for stage, learned in zip(self.stages, self.learned, strict=True):
            part = stage.apply(part, learned)
        x_ng = part.x_ng if sparse.issparse(dataset.adata.X) else part.x_ng.toarray()
        adata = AnnData(x_ng, obs=dataset.obs.copy(), var=pd.DataFrame(index=list(part.genes)))
        same = self.scale_out == self.scale_in  # only genes were dropped, so the values are what they were
        source = "; ".join(s for s in (dataset.declared.source, f"preprocess {self.words()}") if s)
        declared = replace(
            dataset.declared,
            scale=self.scale_out,
            counts_hashed=dataset.declared.counts_hashed and same,
            source=source,
        )
        return PerturbDataset(adata, declared, locked_to=dataset.locked_fingerprint)

    def view(self, x_kg: np.ndarray, genes: tuple[str, ...]) -> np.ndarray:
        """Control profiles as models are shown them, [k, g]: on the data's scale, unless there is a `Scale` stage."""
        for stage, learned in zip(self.stages, self.learned, strict=True):
            x_kg = stage.view(x_kg, genes, learned)
        return x_kg

    def provenance(self) -> list[Learned]:
        """For each stage that learned something, what and from which rows: evidence for an auditor."""
        if self.rows is None:
            raise InternalError(
                "A replayed preprocessing does not know its rows",
                given=f"a digest of {self.rows_count} rows",
                expected="the rows themselves",
                fix="Read it back with the rows of its split.",
            )
        pairs = zip(self.stages, self.learned, strict=True)
        return [Learned(type(stage).__name__, self.rows) for stage, learned in pairs if learned]

    # --- recording -------------------------------------------------------------------------------------

    def words(self) -> str:
        """The stages and their options on one line."""
        steps = [f"{type(s).__name__}({', '.join(f'{k}={v}' for k, v in s.params.items())})" for s in self.stages]
        return f"{self.name} (learned on {self.learn_on}): {', '.join(steps) or 'nothing'}"

    def card(self) -> dict[str, Any]:
        """What manifest, metrics and report say: small, and the same when a run is judged again."""
        return {
            "name": self.name,
            "learn_on": self.learn_on,
            "leaking": self.leaking,
            "stages": self.words(),
            "rows": self.rows_count,
            "rows_sha256": self.rows_digest,
            "learned_sha256": hashlib.sha256(json.dumps(self.learned, sort_keys=True).encode()).hexdigest(),
        }

    def state(self) -> dict[str, Any]:
        """All of it but the rows, as plain containers: for a checkpoint and for JSON."""
        stages = [
            {"stage": f"{type(s).__module__}.{type(s).__name__}", "params": s.params, "learned": learned}
            for s, learned in zip(self.stages, self.learned, strict=True)
        ]
        return {
            "schema": SCHEMA,
            "name": self.name,
            "learn_on": self.learn_on,
            "scale_in": self.scale_in,
            "scale_out": self.scale_out,
            "genes_read": list(self.genes_read),
            "rows": {"count": self.rows_count, "sha256": self.rows_digest},
            "stages": stages,
            "versions": self.versions,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any], rows: np.ndarray | None = None) -> Preprocessor:
        """What `state` gave, again.

        Args:
            state: The plain containers.
            rows: The rows it was learned on, where they are known: they must give the recorded digest.

        Raises:
            UnreadableFile: It is not such a state.
            ArtifactEdited: The rows are others.
        """
        try:
            if any(k not in state for k in _KEYS) or state["schema"] != SCHEMA:
                raise _unreadable(f"keys {', '.join(state)}")
            found = cls(
                name=str(state["name"]),
                learn_on=str(state["learn_on"]),
                stages=tuple(_stage(s["stage"], s["params"]) for s in state["stages"]),
                learned=tuple(dict(s["learned"]) for s in state["stages"]),
                scale_in=str(state["scale_in"]),
                scale_out=str(state["scale_out"]),
                genes_read=tuple(state["genes_read"]),
                rows_digest=str(state["rows"]["sha256"]),
                rows_count=int(state["rows"]["count"]),
                versions=dict(state["versions"]),
                rows=rows,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise _unreadable(f"{type(e).__name__} {e}") from e
        if rows is not None and digest(rows) != found.rows_digest:
            raise ArtifactEdited(
                "Preprocessing was learned on other rows than the split allows",
                given=f"{found.rows_count} rows with SHA-256 {found.rows_digest[:12]}",
                expected=f"the {len(rows)} learning rows of the split, {digest(rows)[:12]}",
                fix="Restore the run's own files.",
            )
        return found

    def assert_same(self, state: Mapping[str, Any] | None) -> None:
        """Refuse a checkpoint whose inputs were preprocessed otherwise."""
        mine, other = self.state() if self.stages else {}, dict(state or {})
        for content in (mine, other):
            content.pop("versions", None)
        if mine != other:
            raise CheckpointMismatch(
                "The checkpoint was made with other preprocessing",
                given=str(other.get("name", "none")),
                expected=self.words(),
                fix="Use a checkpoint of the same data, split and preprocess choice.",
            )


def nothing(dataset: PerturbDataset) -> Preprocessor:
    """The preprocessing that does nothing."""
    return Preprocessor.learn((), dataset, np.array([], dtype=np.int64), "none", "train")


def scale_after(stages: Sequence[AbstractStage], scale: str) -> str:
    """Scale of values after some stages; refuses an impossible order, and counts that nobody logs."""
    for stage in stages:
        scale = stage.after(scale)
    if scale in (COUNTS, NORMALISED):
        raise StillCounts(
            "Values would reach a model without a logarithm",
            given=f"values that are still {scale} after {len(stages)} preprocess stages",
            expected="log1p, log2 or delta",
            fix="Choose preprocess=perturbench (or another in conf/preprocess), or set data.target_sum, e.g. to 10000.",
        )
    return scale


def read(path: Path, rows: np.ndarray | None = None) -> Preprocessor:
    """Read `preprocess.json` of a run.

    Raises:
        UnreadableFile: It is missing, cut short, or something else.
        ArtifactEdited: It was learned on other rows than those given.
    """
    try:
        state = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise _unreadable(f"{path}: {e}") from e
    return Preprocessor.from_state(state, rows)


def digest(rows: np.ndarray) -> str:
    """SHA-256 of sorted row numbers."""
    return hashlib.sha256(np.sort(rows).astype("<i8").tobytes()).hexdigest()


def _stage(path: str, params: Mapping[str, Any]) -> AbstractStage:
    """A stage by the name that `state` wrote; nothing outside the folder of stages is ever imported."""
    module, _, name = path.rpartition(".")
    if not path.startswith(_HOME):
        raise _unreadable(f"a stage {path!r}")
    try:
        kind = getattr(import_module(module), name)
    except (ImportError, AttributeError) as e:
        raise _unreadable(f"a stage {path!r} that is not there") from e
    if not (isinstance(kind, type) and issubclass(kind, AbstractStage)):
        raise _unreadable(f"a stage {path!r}")
    return kind(**params)


def _unreadable(found: str) -> UnreadableFile:
    return UnreadableFile(
        "A recorded preprocessing cannot be read",
        given=found[:200],
        expected=f"what a run wrote into {FILE}, of schema {SCHEMA}",
        fix="Restore the run's own file, or run the model again.",
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

"""`python -m perturbfm.run`: one experiment, a line per room. The only module that knows all rooms."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from perturbfm import config, places
from perturbfm.errors import InternalError, NoSplitNamed, PerturbFMError

if TYPE_CHECKING:
    from perturbfm.data.dataset import PerturbDataset
    from perturbfm.external.prediction_file import PredictionFile
    from perturbfm.judging import Judge, RunResult
    from perturbfm.record import RunFolder
    from perturbfm.split import Audit, Prior, Split
    from perturbfm.train.preprocess import Preprocessor
    from perturbfm.train.response_module import ResponseModule
    from perturbfm.train.stage.abstract import AbstractStage


def run_experiment(overrides: Sequence[str] = ()) -> RunResult:
    """Run one experiment from Python, exactly as the command line would.

    Args:
        overrides: As on the command line, for example `["model=ridge", "seed=1"]`.

    Raises:
        PerturbFMError: Typed; its `exit_code` is the command line's.
    """
    return experiment(config.compose_config(overrides))


def experiment(cfg: DictConfig, sweep: str | None = None) -> RunResult:
    """Data -> split -> model -> train -> calibrate -> eval, then artifacts."""
    if not cfg.split.hash:
        raise NoSplitNamed(
            "No split is named",
            given="split.hash=null",
            expected="the hash of a frozen split",
            fix="Make one with `perturbfm splits create`, then pass split=frozen split.hash=HASH.",
        )
    from perturbfm.auditing import evidence_of, priors_of
    from perturbfm.data import load_composed
    from perturbfm.record import RunFolder, assert_writable
    from perturbfm.split import SplitStore, audit
    from perturbfm.split.audit import read_aliases
    from perturbfm.train.preprocess import scale_after

    priors = priors_of(cfg.priors)
    aliases = None if cfg.aliases is None else read_aliases(str(cfg.aliases))
    split = SplitStore(places.splits_dir(), places.shipped_splits_dirs()).load(str(cfg.split.hash))
    assert_writable(places.outputs_dir())
    stages = [config.build(stage) for stage in cfg.preprocess.stages]
    dataset = load_composed(cfg)
    scale_after(stages, dataset.declared.scale)
    split.assert_fits(dataset.fingerprint, dataset.n_obs)
    audited = audit(split, dataset.labels(), evidence_of(dataset, priors, aliases))
    audited.assert_no_leak()
    facts = {
        "seed": cfg.seed,
        "ablation": cfg.ablation.name,
        "data": dataset.metadata,
        "sweep": sweep,
        "split": split.summary(),
        "audit": audited.to_plain(),
    }
    folder = RunFolder(
        places.outputs_dir(), str(split.frozen_hash), str(cfg.model.name), config.config_hash(cfg), facts
    )
    try:
        result = _in_folder(cfg, dataset, split, stages, folder, audited, priors)
    except BaseException as e:
        stopped = isinstance(e, KeyboardInterrupt) or (
            isinstance(e, SystemExit) and isinstance(e.__context__, KeyboardInterrupt)
        )
        folder.finish("interrupted" if stopped else "failed", f"{type(e).__name__}: {e}")
        if isinstance(e, SystemExit) and stopped:  # Lightning turns an interrupt into exit code 1 and ignores the next
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from e
        raise
    folder.finish("finished")
    return result


def _in_folder(
    cfg: DictConfig,
    dataset: PerturbDataset,
    split: Split,
    stages: list[AbstractStage],
    folder: RunFolder,
    audited: Audit,
    priors: tuple[Prior, ...],
) -> RunResult:
    from perturbfm.auditing import with_learned
    from perturbfm.external.prediction_file import PredictionFile
    from perturbfm.files import write_text
    from perturbfm.floors import fitted_floors
    from perturbfm.judging import Judge, kept_standing, truth_seed
    from perturbfm.train.datamodule import PerturbDataModule
    from perturbfm.train.fit import seed_all

    write_text(folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config.plain(cfg))))
    dataset, preprocessor = preprocessed(cfg, dataset, split, stages, folder)
    seed_all(cfg.seed)
    t = cfg.trainer
    datamodule = PerturbDataModule(dataset, split, t.batch_size, cfg.seed, t.num_workers, preprocessor, t.shuffle_block)
    audited = with_learned(audited, dataset, split, datamodule.provenance(), priors, cfg.preprocess.allow_leak)
    folder.note(audit=audited.to_plain())
    audited.assert_no_leak()
    folder.note(unknown_to_train=datamodule.encoder.unknown(dataset.labels(), split.test_idx))
    kept = kept_standing(cfg, dataset, split)
    floors = fitted_floors(dataset, split, preprocessor, kept, truth_seed(split))
    seed_all(cfg.seed)
    model = config.build(cfg.model)
    judge = Judge(cfg, dataset, split, folder, datamodule, floors, kept)
    if isinstance(model, PredictionFile):
        judge_file(model, judge)
    else:
        train_and_judge(cfg, model(dims=datamodule.encoder.dims), judge)
    if judge.result is None:
        raise InternalError(
            "A run ended without its panel", given="no verdict", expected="a complete panel", fix="Please report this."
        )
    return judge.result


def train_and_judge(cfg: DictConfig, module: ResponseModule, judge: Judge) -> None:
    """Fit a model, and judge it when its test loop ends."""
    from perturbfm.train.fit import TrainerSettings, fit_and_test

    t, folder = cfg.trainer, judge.folder
    settings = TrainerSettings(
        t.max_epochs, t.patience, t.accelerator, t.devices, bool(t.progress) and sys.stderr.isatty()
    )
    fit_and_test(module, judge.datamodule, settings, judge, folder.event, folder.path)


def judge_file(model: PredictionFile, judge: Judge) -> None:
    """Audit another tool's predictions, and judge them as those of any model."""
    from perturbfm.judging import observe

    observed = {fold: observe(judge.dataset, judge.split, fold) for fold in ("calib", "test")}
    own = config.plain(judge.cfg).get("data") or {}
    found = model.judgeable(judge.dataset, judge.split, observed, own)
    judge.external = found.verdict
    judge.folder.note(external=found.verdict)
    judge.folder.event("predictions_read", file=found.verdict["file"], audit=found.verdict["verdict"])
    judge(found.predictions)


def preprocessed(
    cfg: DictConfig, dataset: PerturbDataset, split: Split, stages: list[AbstractStage], folder: RunFolder
) -> tuple[PerturbDataset, Preprocessor]:
    """Learn the stages on train rows and their input controls, write down what they learned, and do it to all rows."""
    from perturbfm.files import write_json
    from perturbfm.train.preprocess import FILE, Preprocessor, learning_rows

    choice = cfg.preprocess
    rows = learning_rows(split, dataset.labels(), choice.learn_on)
    found = Preprocessor.learn(stages, dataset, rows, choice.name, choice.learn_on)
    after = found.apply(dataset)
    folder.note(preprocess={**found.card(), "genes_after": after.n_genes, "fingerprint_after": after.fingerprint})
    if found.stages:
        write_json(folder.path / FILE, found.state())
        folder.seal((FILE,))
    return after, found


# --- the command line ------------------------------------------------------------------------------


def _scratch() -> str:
    """A folder for what Hydra insists on writing in a sweep; its name is the sweep's id."""
    folder = tempfile.mkdtemp(prefix="perturbfm-sweep-")
    atexit.register(shutil.rmtree, folder, True)
    return folder


OmegaConf.register_new_resolver("perturbfm_scratch", _scratch, use_cache=True, replace=True)


@hydra.main(config_path=str(places.conf_dir()), config_name="config", version_base="1.3")
def _hydra_main(cfg: DictConfig) -> float | None:
    """One job of Hydra's."""
    config.check(cfg)
    job = HydraConfig.get()
    result = experiment(cfg, Path(job.sweep.dir).name if job.mode and job.mode.name == "MULTIRUN" else None)
    from perturbfm.cli.show import print_result

    print_result(result.metrics, result.folder)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line and return the exit code of the design's table."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that errors reach us and get their own exit code
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not any(a.startswith("hydra.searchpath") for a in arguments):
        arguments += config.search_path()
    sys.argv = [sys.argv[0], *ordered(arguments)]
    return guarded(_hydra_main, [a for a in arguments if not a.startswith("-")])


def ordered(arguments: Sequence[str]) -> list[str]:
    """The arguments with `-m` first: Hydra's parser takes no flag between overrides."""
    flags = ("-m", "--multirun")
    return [*(a for a in arguments if a in flags), *(a for a in arguments if a not in flags)]


RUN_STOPPED = "Interrupted. What was written is whole; a run that had begun says interrupted in its manifest."


def guarded(call: Any, overrides: Sequence[str], stopped: str = RUN_STOPPED) -> int:
    """Call something and turn what it raises into a message (`stopped` for Ctrl-C) and an exit code.

    When nobody reads the output any more (`| head`), the rest is dropped without a word.
    """
    try:
        code = _code_of(call, overrides, stopped)
        print(end="", flush=True)
    except BrokenPipeError:
        _speak_to_nobody()
        return 1
    return code


def _code_of(call: Any, overrides: Sequence[str], stopped: str) -> int:
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        call()
    except PerturbFMError as e:
        return _say(e)
    except (HydraException, OmegaConfBaseException, YAMLError) as e:
        return _say(config.translated(e, overrides))
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
    except MemoryError as e:
        print(f"ResourceError: out of memory: {e}. Use fewer genes or smaller batches.", file=sys.stderr)
        return 4
    except BrokenPipeError:
        raise
    except Exception:  # noqa: BLE001 - the last border: whatever is not typed is ours to mend, and is shown whole
        traceback.print_exc()
        print("InternalError: an error that has no name here. Please report it with the lines above.", file=sys.stderr)
        return 9
    return 0


def _speak_to_nobody() -> None:
    """Send what is still in the buffers to the null device, so that Python's own farewell does not fail on it."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            os.dup2(nowhere, stream.fileno())


def _say(error: PerturbFMError) -> int:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())

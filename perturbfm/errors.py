"""Every invariant of the house, by name, with what to do about it.

Each message has four parts: what is wrong, what was given, what was expected, what to do. The class says
which rule was broken; its family decides the exit code of the process.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class PerturbFMError(Exception):
    """Base of all typed errors.

    Args:
        problem: What is wrong, in one clause without a full stop.
        given: What was found.
        expected: What would have been right.
        fix: What the reader can do, as a sentence.
    """

    exit_code = 9

    def __init__(self, problem: str, *, given: object, expected: object, fix: str) -> None:
        self.problem, self.given, self.expected, self.fix = problem, str(given), str(expected), fix
        super().__init__(f"{problem}: given {given}, expected {expected}. {fix}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.problem, self.given, self.expected, self.fix)


def _rebuild(kind: type[PerturbFMError], problem: str, given: str, expected: str, fix: str) -> PerturbFMError:
    return kind(problem, given=given, expected=expected, fix=fix)


def nearest(word: str, choices: Iterable[str], most: int = 3) -> str:
    """Return the choices closest to a misspelt word, or all of them when none is close."""
    known = sorted(choices)
    return ", ".join(get_close_matches(word, known, n=most, cutoff=0.5) or known)


# --- families, one per exit code -------------------------------------------------------------------


class InputError(PerturbFMError):
    """The data or a file handed in cannot be used (exit code 2)."""

    exit_code = 2


class ConfigError(PerturbFMError):
    """The configuration is not one that can be run (exit code 3)."""

    exit_code = 3


class ResourceError(PerturbFMError):
    """Disk, memory or rights are missing (exit code 4)."""

    exit_code = 4


class TrainingError(PerturbFMError):
    """Fitting went wrong (exit code 5)."""

    exit_code = 5


class EvaluationError(PerturbFMError):
    """A panel is not complete or cannot be trusted (exit code 6)."""

    exit_code = 6


class DeployError(PerturbFMError):
    """A release or a service refused (exit code 7)."""

    exit_code = 7


class IntegrityError(PerturbFMError):
    """A lock does not fit what it locks (exit code 8)."""

    exit_code = 8


class InternalError(PerturbFMError):
    """The house broke its own rule; please report it (exit code 9)."""

    exit_code = 9


# --- input -----------------------------------------------------------------------------------------


class MissingColumn(InputError):
    """A named column is not in the file."""


class MissingLabel(InputError):
    """A row has no perturbation, context or batch label."""


class LabelMalformed(InputError):
    """A label is no name: too long, unprintable, or cut at the wrong sign."""


class DoseMismatch(InputError):
    """A dose or time cannot be read, or does not fit its perturbation."""


class UnknownValue(InputError):
    """A value named in a configuration does not occur in the file."""


class ControlLabelAbsent(InputError):
    """No row carries any of the declared control labels."""


class ContextWithoutControls(InputError):
    """A context has perturbed rows but no control to compare with."""


class ValuesNotFinite(InputError):
    """The matrix holds NaN or infinite values."""


class ValuesNegative(InputError):
    """The matrix holds negative values on a scale that has none."""


class ScaleMismatch(InputError):
    """The values do not look like the declared scale."""


class SizeNotPositive(InputError):
    """A cell's library size is zero, so it cannot be normalised."""


class SizeTooSmall(InputError):
    """A library size is smaller than the counts in the file, so it is none."""


class ControlTimesPooled(InputError):
    """Controls of several times would be one group, so that time itself would be taken for an effect."""


class DuplicateNames(InputError):
    """Cell ids or gene names are not unique."""


class GeneNameAmbiguous(InputError):
    """A gene identifier means several genes, or several mean one."""


class GenesDiffer(InputError):
    """Files of one data set, or predictions and their data, do not have the same genes."""


class ConditionsDiffer(InputError):
    """Predictions are not about exactly the conditions that are judged."""


class RowsOutsideFold(InputError):
    """Predictions speak of rows that are not judged, or not of all that are."""


class NoCells(InputError):
    """A prediction or its data have no cells, where cells are asked for."""


class ControlsTouched(InputError):
    """A prediction file holds control cells that are not those of the data."""


class PickleRefused(InputError):
    """A file holds pickled objects, which run code when they are opened."""


class OfficialSplitUnfit(InputError):
    """An official split file is not of its format, or does not fit the data."""


class UnreadableFile(InputError):
    """A file is missing, truncated or not what its name says."""


class ShapeMismatch(InputError):
    """Two things that belong together have different sizes."""


class ForeignArtifact(InputError):
    """An interchange artifact is not one, or its parts do not belong together."""


class UnknownContext(InputError):
    """A context named for a split is not in the data."""


class UnknownDose(InputError):
    """A held-out dose is not in the data."""


class NoSharedPerturbation(InputError):
    """A held-out context shares no intervention with the contexts a model may learn from."""


class TooFewControls(InputError):
    """A context has too few control cells for an input and a reference half."""


class TooFewConditions(InputError):
    """There are not enough conditions to fill every fold."""


class NothingLeft(InputError):
    """A filter leaves no cell or no gene."""


class GenesAbsent(InputError):
    """Data lack genes that a learned preprocessing reads."""


class StageCannotLearn(InputError):
    """The rows a preprocess stage may learn from do not allow what it computes."""


class StillCounts(InputError):
    """A model would be fitted on counts that nobody normalised and logged."""


class GuidesNotGenes(InputError):
    """Labels are of guides, where the split deals genes."""


# --- config ----------------------------------------------------------------------------------------


class UnknownKey(ConfigError):
    """A key is in no schema and no signature."""


class UnknownChoice(ConfigError):
    """A group has no file of that name."""


class BadValue(ConfigError):
    """A value has the wrong type or lies outside its range."""


class MissingValue(ConfigError):
    """An obligatory value was not given."""


class ForbiddenTarget(ConfigError):
    """A `_target_` lies outside the allowed prefixes or cannot be found."""


class NoSplitNamed(ConfigError):
    """A run was started without the hash of a frozen split."""


class LicenceNotAccepted(ConfigError):
    """Something whose licence has to be accepted by name was asked for without that."""


class ChecksumUnpublished(ConfigError):
    """A file that nobody publishes a checksum for was asked for as if it could be verified."""


class StageOutOfPlace(ConfigError):
    """A preprocess stage is given values of a scale that it does not take."""


class PreprocessLeaks(ConfigError):
    """Preprocessing would learn from cells that a model is judged on, and nobody allowed it."""


# --- resource --------------------------------------------------------------------------------------


class OutputNotWritable(ResourceError):
    """A folder that results must go into cannot be written."""


class AcceleratorAbsent(ResourceError):
    """A run asks for a device that this machine does not have."""


class FetchedByHand(ResourceError):
    """A source cannot be fetched over http(s); a person has to take the step that is named."""


class DownloadFailed(ResourceError):
    """No address gave the file."""


class PageInsteadOfFile(ResourceError):
    """A server answered with a web page where a data file was asked for."""


class TooLittleDisk(ResourceError):
    """A file does not fit on the disk it has to go to."""


class CloneFailed(ResourceError):
    """Other people's code cannot be cloned to where it belongs."""


class PackageAbsent(ResourceError):
    """An option needs a package that is not installed."""


# --- training --------------------------------------------------------------------------------------


class LossNotFinite(TrainingError):
    """The loss became NaN or infinite."""


class ModelNotFitted(TrainingError):
    """A model was asked before it had learned."""


# --- evaluation ------------------------------------------------------------------------------------


class IncompletePanel(EvaluationError):
    """A panel lacks a metric, a floor, a status or a reason."""


class CellUsedTwice(EvaluationError):
    """Cells were drawn with replacement where each may count once."""


class PredictionMismatch(EvaluationError):
    """A prediction does not belong to the truth it is judged against."""


class MetricFailed(EvaluationError):
    """A metric raised an error that has no name here."""


class ParityMissed(EvaluationError):
    """A number under a suite's name is not the suite's number."""


class RecomputedDifferently(EvaluationError):
    """Scoring a stored prediction again gives other numbers."""


# --- integrity -------------------------------------------------------------------------------------


class SplitEdited(IntegrityError):
    """A split's content no longer gives its frozen hash."""


class SplitOfOtherData(IntegrityError):
    """A split is locked to data with another fingerprint."""


class SplitNotFrozen(IntegrityError):
    """A split without a frozen hash was used as if it had one."""


class SplitExists(IntegrityError):
    """A stored split would be overwritten by different content."""


class UnknownSplit(IntegrityError):
    """No stored split has this hash."""


class AmbiguousSplit(IntegrityError):
    """A short hash fits more than one stored split."""


class FoldMalformed(IntegrityError):
    """A fold does not hold distinct row numbers of the data."""


class FoldsOverlap(IntegrityError):
    """A row is in more than one fold or role."""


class SplitLeaks(IntegrityError):
    """A split's folds or controls are not what the labels of its data allow."""


class GenesOutOfOrder(IntegrityError):
    """Genes are not those, or not in the order, that a model learned."""


class SplitHashNotCarried(IntegrityError):
    """A logger or checkpoint does not carry the split hash."""


class CheckpointMismatch(IntegrityError):
    """A checkpoint was made for another split or other genes."""


class PredictionOfOtherSplit(IntegrityError):
    """Predictions carry the hash of another split or of other data."""


class TruthCopied(IntegrityError):
    """Predictions are the measured values that they would be judged against."""


class ArtifactEdited(IntegrityError):
    """A stored result no longer fits the hashes it carries."""


class NotTheFile(IntegrityError):
    """A file's size or checksum is not the published one."""


class KnownBadVersion(IntegrityError):
    """A file is a version that is known to be wrong."""

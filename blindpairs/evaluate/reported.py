"""What a report shows of each model, whatever kind of model it is: rates with intervals, and answers pair by pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from blindpairs.statistics import Rate

CHANCE = 0.25  # pair accuracy of guessing: two coins


@dataclass(frozen=True)
class ReportedModel:
    """One model on one benchmark. `rates` are further columns of the table, such as confusion, by name."""

    name: str
    kind: str  # "answers" (asked in words) or "similarity" (a CLIP-style model)
    pair_accuracy: Rate  # of the blind pairs
    patterns: Mapping[str, Rate]  # the same by pattern
    rates: Mapping[str, Rate] = field(default_factory=dict)
    controls: Rate | None = None  # pair accuracy of the control pairs
    protocol: Mapping[str, str] = field(default_factory=dict)  # how it was asked and read, for people
    right: Mapping[str, bool] = field(default_factory=dict)  # pair id -> whether it is right about both images
    said: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # pair id -> what it said of image a, of image b
    incomplete: str = ""  # "" or why the figures are of a part only
    sees: bool = True  # False for what answers without the image: baselines, and models that were asked blind
    parameters: float | None = None  # millions; None where nobody knows
    resolution: int | None = None  # pixels a side


@dataclass(frozen=True)
class ReportedRun:
    """All models on one benchmark, in the order of the table."""

    benchmark: str
    fingerprint: str
    ground_truth: str
    patterns: Sequence[str]
    models: Sequence[ReportedModel]

    def named(self, kind: str) -> list[ReportedModel]:
        """The models of a kind."""
        return [one for one in self.models if one.kind == kind]

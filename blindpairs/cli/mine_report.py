"""What `blindpairs mine` prints: the report of a run, and the plan of one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from blindpairs.cli.app import counted
from blindpairs.selfjoin.shown import ENGINE_NAMES, as_given, rounded
from blindpairs.workspace import Workspace

if TYPE_CHECKING:
    from blindpairs.mine import Mined
    from blindpairs.mine.planning import MiningPlan, PatchPlan
    from blindpairs.pages import PageImages
    from blindpairs.store import Store


def plan_as_text(plan: "MiningPlan", method: str, device: str) -> str:
    """The lines of `mine --plan`; `device` is where mining will run, which may not be where the sample was timed."""
    gib = 1 << 30
    lines = [
        f"{plan.taking_part:,} of {plan.images:,} images take part: {plan.pairs:,} pairs "
        f"(clip_sim >= {as_given(plan.clip_min)}, dino_sim <= {as_given(plan.dino_max)})",
        f"  method: {method}" + ("" if method == "exact" else "; these are the figures of the exact one"),
        f"  arithmetic: at most {plan.flops:.3g} FLOPs on k = {plan.dimensions} axes, by "
        f"{ENGINE_NAMES.get(plan.engine, plan.engine)}; comparing whole vectors would take {plan.whole_flops:.3g}",
        f"  memory: {plan.memory_bytes / gib:.2f} GiB (vectors {plan.vector_bytes / gib:.2f}, coordinates "
        f"{plan.coordinate_bytes / gib:.2f}, buffers {plan.buffer_bytes / gib:.2f}, libraries "
        f"{plan.library_bytes / gib:.2f}); "
        f"mapped from disk {plan.mapped_bytes / gib:.2f}",
        f"  time: {_duration(plan.seconds)} at most for the join, judged by a sample on {plan.timed_on}"
        + ("" if device == plan.timed_on else f"; mining will use {device}"),
    ]
    if plan.patches is not None:
        lines.append(_patches_as_text(plan.patches))
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _patches_as_text(patches: "PatchPlan") -> str:
    if patches.reason:
        return f"  patches: cannot be compared: {patches.reason}"
    return (
        f"  patches: at most {patches.images:,} images, {_duration(patches.seconds)} of forward passes, "
        f"{patches.disk_bytes / (1 << 30):.2f} GiB on disk during the run"
    )


@dataclass(frozen=True)
class MiningReport:
    """What a run prints."""

    space: Workspace
    mined: "Mined"
    join: Mapping[str, Any]
    page: "PageImages | None"

    def as_json(self) -> dict[str, Any]:
        """The object that --json prints."""
        pairs, page = str(self.space.pairs_table), str(self.space.gallery)
        files = {"pairs": pairs, "gallery": page if self.page else None}
        counts, advice = asdict(self.mined.counts), self.mined.advice
        thresholds = {name: getattr(self.mined.options, name) for name in ("clip_min", "dino_max")}
        found = {"counts": counts, "closer": asdict(self.mined.closer), "join": dict(self.join), "advice": advice}
        return {**files, **thresholds, **found, "unread": self.page.unread if self.page else {}}

    def as_text(self) -> str:
        """The lines that are printed without --json."""
        counts, options = self.mined.counts, self.mined.options
        lines = [
            f"{self.space.pairs_table}: {counts.kept:,} blind pairs among {counts.images:,} images "
            f"(clip_sim >= {as_given(options.clip_min)}, dino_sim <= {as_given(options.dino_max)})",
            f"  {counts.above_clip_min:,} pairs are alike to CLIP: {counts.blind:,} different to DINOv2, "
            f"{counts.near_duplicates:,} near-duplicates",
            *([] if self.join["exact"] else [f"  not every pair: {_recall(self.join)}"]),
            *self._left_out(),
            *([f"  {_of_equal_ids(counts.id_conflicts)}"] if counts.id_conflicts else []),
            *self._closer(),
            *([f"  controls, which CLIP tells apart: {counts.controls:,} pairs"] if options.controls else []),
            *([f"  {self.mined.advice}"] if self.mined.advice else []),
            *([f"  look at them: {self.space.gallery}"] if self.page else []),
        ]
        return "\n".join(lines)

    def _closer(self) -> list[str]:
        """What `--differences` looked at, and why not at more."""
        closer = self.mined.closer
        if closer.reason:
            return [f"  not compared by patches: {closer.reason}; the cosines rank the pairs"]
        if not self.mined.options.differences or not (closer.pairs or closer.unread):
            return []
        codes = counted(closer.unread)
        unread = f"; {sum(closer.unread.values()):,} images could not be read ({codes})" if codes else ""
        return [f"  compared by patches: {closer.pairs:,} pairs of {closer.images:,} images{unread}"]

    def _left_out(self) -> list[str]:
        counts, most = self.mined.counts, self.mined.options.most_candidates
        pairs = {
            "that show the same two pictures again": counts.repeated,
            "over --max-per-image": counts.capped,
            "like a better pair": counts.similar_findings,
            "beyond --top": counts.beyond_top + (counts.not_ranked if self.mined.complete else 0),
            f"not among the {most:,} best, which are kept in memory": 0 if self.mined.complete else counts.not_ranked,
        }
        images = {"of low information": counts.low_information, "identical to another": counts.identical}
        return [
            f"  {what}: {counted(some)}"
            for what, some in (("not kept", pairs), ("images left out", images))
            if any(some.values())
        ]


def _of_equal_ids(count: int) -> str:
    return (
        f"{count:,} of the identical images share an id with another image but have different vectors: embedded from "
        "another crop, or imported by an older release, which made ids from paths: import them into another --work"
    )


def unread_images(page: "PageImages", store: "Store", space: Workspace) -> str:
    """How many images are missing from the page, and what to do about it."""
    lost = f"{sum(page.unread.values()):,} of the page's {page.wanted:,} images"
    warning = f"{lost} could not be read ({counted(page.unread)})"
    if "missing" not in page.unread or "reading" not in store.manifest["settings"]:  # an import knows no corpus
        return f"{warning}: the page says why in their place"
    corpus = store.manifest["settings"]["corpus"]
    return (
        f"{warning}. Where is the corpus that was at {corpus}? Bring it back, or run `blindpairs embed ITS-NEW-PLACE "
        f"--work {space.root}` with the same options, then mine again"
    )


def _recall(join: Mapping[str, Any]) -> str:
    if join["recall"] is None:
        return f"{join['method']} was searched, and the sample held no pair to measure its recall with"
    low, high = join["recall_interval"]
    return (
        f"{join['method']} has a measured recall of {rounded(join['recall'], 4)} (95 % interval "
        f"{rounded(low, 4)} to {high:.4f}; "
        f"{join['found']:,} of {join['pairs']:,} pairs of {join['queries']:,} sampled images)"
    )

"""What was measured, and what `study.json` says of it. Pure."""

import statistics
from dataclasses import dataclass, field

import experiments as declared
from common import bootstrap, reports
from common.rounding import rounded

WAYS = [reports.TARGET, reports.CLLM, reports.CLLM_LOOKUP, reports.CLLM_FASTEST]
FIGURES = {
    "tokens_per_forward": reports.tokens_per_forward(reports.CLLM),
    "tokens_per_forward_with_lookup": reports.tokens_per_forward(reports.CLLM_LOOKUP),
    "over_target": reports.speed_over(reports.CLLM_FASTEST, reports.TARGET),
    "quality_target": reports.per_cent("target, right"),
    "quality": reports.per_cent("cllm, right"),
    "points_lost": reports.points_lost("target, right", "cllm, right"),
    "agreement": reports.per_cent("agreeing"),
}


@dataclass
class Measured:
    """An experiment with its report and its complete stages by name."""

    experiment: declared.Experiment
    report: dict
    done: dict = field(default_factory=dict)

    def seconds(self):
        return {name: stage.seconds for name, stage in self.done.items()}


def result(declaration, measured, axes=None, commit=""):
    found = [entry.report for entry in measured]
    stages = [stage for entry in measured for stage in entry.done.values()]
    return rounded({
        "title": declaration["title"],
        "command": declaration["command"],
        "conditions": {
            **reports.conditions(found, stages), "dataset": found[0]["conditions"]["dataset"], "prompts": found[0]["conditions"]["prompts"],
            "commit": commit, "target": found[0]["target"]},
        "seeds": sorted({entry.experiment.seed for entry in measured}),
        "base": {section: declaration.get(section, {}) for section in ["target", "collect", "train", "evaluate"]},
        "seconds": sum({stage.folder: stage.seconds for stage in stages}.values()),
        "axes": [described(axis, measured) for axis in declared.chosen(declaration, axes)],
        "experiments": [single(entry) for entry in measured],
    })


def described(axis, measured):
    """Of every setting the figures of all seeds together, with intervals over prompts and seeds."""
    settings = []
    for setting in axis["settings"]:
        entries = [entry for entry in measured if (axis["name"], setting["at"]) in entry.experiment.places]
        if entries:
            settings.append({"at": setting["at"], **together(entries)})
    return {**{name: axis[name] for name in ["name", "title", "question", "label"]}, "settings": settings}


def together(entries):
    tables = [table(entry) for entry in entries]
    middles, ends = bootstrap.pooled(tables, FIGURES), bootstrap.intervals(tables, FIGURES)
    return {
        "seeds": [entry.experiment.seed for entry in entries],
        "figures": {name: {"mean": middles[name], "low": ends[name][0], "high": ends[name][1]} for name in FIGURES},
        "best_block_sizes": [entry.report["speedup"]["bestBlockSize"] for entry in entries],
        "perplexity_ratio": mean(entry.report["perplexity"]["cllm"] / entry.report["perplexity"]["target"] for entry in entries),
        "seconds": {name: mean(entry.done[name].seconds for entry in entries) for name in entries[0].done},
    }


def table(entry):
    return reports.table(entry.report, WAYS)


def single(entry):
    experiment = entry.experiment
    return {
        "seed": experiment.seed,
        "places": [{"axis": axis, "at": at} for axis, at in experiment.places],
        "collect": experiment.recipe["collect"], "train": experiment.recipe["train"],
        "figures": bootstrap.pooled([table(entry)], FIGURES),
        "best_block_size": entry.report["speedup"]["bestBlockSize"],
        "convergence": entry.report.get("convergence"),
        "perplexity": entry.report.get("perplexity"),
        "seconds": entry.seconds(),
        "attempts": {name: stage.record["attempts"] for name, stage in entry.done.items()},
        "stages": {name: stage.folder.name for name, stage in entry.done.items()},
        "measured_at": entry.report["createdAt"],
    }


def mean(values):
    return statistics.fmean(values)

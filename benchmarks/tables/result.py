"""What was measured, and what the JSON beside a table says of it. Pure."""

import statistics
from dataclasses import dataclass, field

from common import bootstrap, reports
from common.rounding import rounded
from common.stages import Failed

CONTROL = "control"
WAYS = [reports.TARGET, reports.TARGET_LOOKUP, reports.TARGET_LOOKUP_FASTEST, reports.CLLM_AUTOREGRESSIVE, reports.CLLM, reports.CLLM_LOOKUP, reports.CLLM_FASTEST]
FIGURES = {
    "tokens_per_forward": reports.tokens_per_forward(reports.CLLM),
    "tokens_per_forward_with_lookup": reports.tokens_per_forward(reports.CLLM_LOOKUP),
    "tokens_per_forward_of_target_with_lookup": reports.tokens_per_forward(reports.TARGET_LOOKUP),
    "tokens_per_forward_of_control": reports.tokens_per_forward(CONTROL),
    "over_target": reports.speed_over(reports.CLLM_FASTEST, reports.TARGET),
    "over_target_at_block_size": reports.speed_over(reports.CLLM, reports.TARGET),
    "over_target_with_lookup": reports.speed_over(reports.CLLM_FASTEST, reports.TARGET_LOOKUP_FASTEST),
    "over_own_autoregressive": reports.speed_over(reports.CLLM_FASTEST, reports.CLLM_AUTOREGRESSIVE),
    "tokens_per_second_of_target": reports.speed(reports.TARGET),
    "tokens_per_second": reports.speed(reports.CLLM_FASTEST),
    "quality_target": reports.per_cent("target, right"),
    "quality_control": reports.per_cent("control, right"),
    "quality": reports.per_cent("cllm, right"),
    "points_lost_to_target": reports.points_lost("target, right", "cllm, right"),
    "points_lost_to_control": reports.points_lost("control, right", "cllm, right"),
    "agreement": reports.per_cent("agreeing"),
    "agreement_of_control": reports.per_cent("control, agreeing"),
}
# goals: the mean must reach it; the upper end of the interval must not be above it; no seed may lie further from 1
AT_LEAST = {"quality_target", "tokens_per_forward", "tokens_per_forward_with_lookup", "over_target"}
AT_MOST = {"points_lost_to_target", "points_lost_to_control"}
WITHIN = {"measured_over_predicted"}


@dataclass
class Seed:
    """What one seed gave: the reports of the CLLM and of its control, and the complete stages by name."""

    seed: int
    cllm: dict
    control: dict
    done: dict = field(default_factory=dict)

    def table(self):
        """Prompt by prompt. Both reports are of the same target on the same prompts."""
        columns, control = reports.table(self.cllm, WAYS), reports.table(self.control, [reports.CLLM])
        same = self.cllm["target"]["digest"] == self.control["target"]["digest"] and columns["target, right"] == control["target, right"]
        if not same or reports.indexes(self.cllm) != reports.indexes(self.control):
            raise Failed(f"seed {self.seed}: CLLM and control were measured on other prompts or against other targets; remove their evaluations from the store")
        taken = {"control, right": "cllm, right", "control, agreeing": "agreeing", **{f"{CONTROL}: {what}": f"cllm: {what}" for what in ["tokens", "forwards"]}}
        return {**columns, **{name: control[column] for name, column in taken.items()}}


def result(declaration, recipe, choice, seeds, lines, commit=""):
    """`choice`: what choice.py found; none where there was nothing to choose. `lines`: of the test split."""
    if len({tuple(reports.indexes(seed.cllm)) for seed in seeds}) > 1:
        raise Failed("the seeds were measured on different prompts; remove their evaluations from the store")
    tables = [seed.table() for seed in seeds]
    means, ends = bootstrap.pooled(tables, FIGURES), bootstrap.intervals(tables, FIGURES)
    figures = {name: {"mean": means[name], "low": ends[name][0], "high": ends[name][1]} for name in FIGURES}
    described = [single(seed, table) for seed, table in zip(seeds, tables)]
    figures["measured_over_predicted"] = over_seeds(described)
    found = [report for seed in seeds for report in (seed.cllm, seed.control)]
    return rounded({
        "title": declaration["title"], "command": declaration["command"],
        "conditions": {
            **reports.conditions(found, [stage for seed in seeds for stage in seed.done.values()]), "commit": commit, "metric": seeds[0].cllm["quality"]["metric"],
            "dataset": seeds[0].cllm["conditions"]["dataset"], "block_size": seeds[0].cllm["conditions"]["blockSize"],
            "prompts": len(seeds[0].cllm["prompts"]), "prompts_of_split": lines, "parameters": seeds[0].cllm["cllm"]["parameters"]},
        "recipe": {section: recipe[section] for section in ["target", "collect", "train", "evaluate"]},
        "choice": choice,
        "seeds": described,
        "figures": figures,
        "goals": goals(figures, declaration.get("goals", {})),
    })


def single(seed, table):
    ratio = lambda report: report["perplexity"]["cllm"] / report["perplexity"]["target"]
    return {
        "seed": seed.seed,
        "figures": bootstrap.pooled([table], FIGURES),
        "predictions": reports.predictions(seed.cllm),
        "block_sizes": curve(seed.cllm),
        "over_target_end_to_end": float(seed.cllm["speedup"]["overTargetEndToEnd"]),
        "perplexity_ratio": {"cllm": ratio(seed.cllm), CONTROL: ratio(seed.control)},
        "convergence": seed.cllm["convergence"],
        "seconds": {name: stage.seconds for name, stage in seed.done.items()},
        "attempts": {name: stage.record["attempts"] for name, stage in seed.done.items()},
        "checkpoints": {"target": seed.cllm["target"]["digest"], "cllm": seed.cllm["cllm"]["digest"], CONTROL: seed.control["cllm"]["digest"]},
        "measured_at": seed.cllm["createdAt"],
    }


def curve(report):
    """Of every block size, on the first prompts of the report: decoding over the target, and what forwards and their cost predict."""
    cost = {entry["rows"]: entry["ratio"] for entry in report["forwardCost"]}
    points = [point for point in report["blockSizes"] if point["blockSize"] in cost]
    return [
        {"block_size": point["blockSize"], "tokens_per_forward": point["tokensPerForward"], "measured": point["overTarget"],
         "predicted": point["tokensPerForward"] / cost[point["blockSize"]]}
        for point in points]


def over_seeds(described):
    """How far the clock is from its prediction, at the block size and the fastest one of every seed: mean, least and most, no interval."""
    found = [entry["measured_over_predicted"] for seed in described for entry in seed["predictions"]]
    return {"mean": statistics.fmean(found), "low": min(found), "high": max(found)}


def check_goals(declaration):
    """Before anything is run."""
    unknown = declaration.get("goals", {}).keys() - (AT_LEAST | AT_MOST | WITHIN)
    if unknown:
        raise Failed(f"there is no goal for {', '.join(sorted(unknown))}; there are {', '.join(sorted(AT_LEAST | AT_MOST | WITHIN))}")


def goals(figures, declared):
    return [{"figure": name, "goal": goal, **reached(name, figures[name], goal)} for name, goal in declared.items()]


def reached(name, figure, goal):
    if name in AT_LEAST:
        return {"wanted": "at least", "reached": figure["mean"] >= goal}
    if name in AT_MOST:
        return {"wanted": "upper end at most", "reached": figure["high"] <= goal}
    return {"wanted": "from 1 at most", "reached": max(abs(figure["low"] - 1), abs(figure["high"] - 1)) <= goal}

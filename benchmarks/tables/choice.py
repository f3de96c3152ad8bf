"""Which of the declared candidates becomes the recipe of a table: the dev split decides, and nothing else. Pure."""

from common import bootstrap, pipeline, reports

FIGURES = {
    "tokens_per_forward": reports.tokens_per_forward(reports.CLLM),
    "quality_target": reports.per_cent("target, right"),
    "quality": reports.per_cent("cllm, right"),
    "points_lost": reports.points_lost("target, right", "cllm, right"),
}


def candidates(declaration):
    """{name: recipe}; without candidates the declaration is the recipe."""
    declared = declaration.get("candidates", [{"name": "declared"}])
    return {candidate["name"]: pipeline.merged(declaration, candidate) for candidate in declared}


def stages(declaration, recipe):
    """Of a candidate: trained with a seed that is none of the table's, measured on the dev split."""
    choice = declaration["choice"]
    model = pipeline.trained(recipe, choice["seed"])
    return {"train": model, "evaluate": pipeline.evaluated(recipe, choice["seed"], model, "dev", choice["prompts"])}


def figures(report):
    return bootstrap.pooled([reports.table(report, [reports.CLLM])], FIGURES)


def chosen(measured, most_points_lost):
    """The name, from {name: figures}."""
    allowed = {name: found for name, found in measured.items() if found["points_lost"] <= most_points_lost}
    if allowed:
        return max(allowed, key=lambda name: allowed[name]["tokens_per_forward"])
    return min(measured, key=lambda name: measured[name]["points_lost"])


def rule(declaration):
    choice = declaration["choice"]
    said = (f"Of the candidates that lose at most {choice['most-points-lost']} points of right answers against the target, the one with the most tokens per forward; where there "
            f"is none, the one that loses least. Each was trained with seed {choice['seed']}, which is none of the table's, and measured on {choice['prompts']} prompts of the dev split.")
    return f"{said} {choice.get('remark', '')}".strip()

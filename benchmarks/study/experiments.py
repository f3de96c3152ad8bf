"""From the declaration of a study to its experiments. Pure."""

import json
from dataclasses import dataclass, field

from common import pipeline


@dataclass
class Experiment:
    """A recipe with one seed, and where it stands: a setting may be on several axes."""

    recipe: dict
    seed: int
    # (name of the axis, place on it)
    places: list = field(default_factory=list)

    def stages(self):
        """The stages whose time counts, by what they are called, the last one measuring."""
        model = pipeline.trained(self.recipe, self.seed)
        measured = pipeline.evaluated(self.recipe, self.seed, model, "dev", self.recipe["evaluate"]["prompts"])
        return {"collect": pipeline.trajectories(self.recipe, self.seed), "train": model, "evaluate": measured}


def experiments(declaration, axes=None):
    """Each once, a whole seed after the other, so that a study that is not complete yet has all settings. `axes`: names; all without."""
    found = {}
    for seed in declaration["seeds"]:
        for axis in chosen(declaration, axes):
            for setting in axis["settings"]:
                recipe = pipeline.merged(declaration, setting)
                known = found.setdefault(json.dumps([seed, recipe], sort_keys=True), Experiment(recipe, seed))
                known.places.append((axis["name"], setting["at"]))
    return list(found.values())


def chosen(declaration, names):
    unknown = set(names or []) - {axis["name"] for axis in declaration["axes"]}
    if unknown:
        raise SystemExit(f"there is no axis {', '.join(sorted(unknown))}; there are {', '.join(axis['name'] for axis in declaration['axes'])}")
    return [axis for axis in declaration["axes"] if not names or axis["name"] in names]

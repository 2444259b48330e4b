"""A recipe of the grading networks at work: its epochs, what validation says, and the models that it leaves."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from ..models.folder import UNPUBLISHED, is_there
from .grade_networks import answers_of
from .grade_recipe import MAIN, NETWORKS, PARTNER, GradeRecipe

if TYPE_CHECKING:
    import torch

    from .learner import Learner
    from .parallel import Team


def folders_of(recipe: GradeRecipe, output: Path) -> dict[str, Path]:
    """System -> where its model goes."""
    return {system: output / system if recipe.system == "pair" else output for system in recipe.systems}


class GradeRun:
    """A recipe at work, as `learner.run_epochs` drives it. `outlines`: what found them, as `FoundOutlines.about` has it."""

    def __init__(self, recipe, learner, training, validation, arguments, output: Path, group: Team, about: dict[str, str], outlines: dict[str, Any] | None = None) -> None:
        self.recipe: GradeRecipe = recipe
        self.learner: Learner = learner
        self.training, self.validation = training, validation
        self.arguments, self.output, self.group, self.about = arguments, output, group, about
        self.outlines = outlines
        self.weights = dict(recipe.output_weights)
        self.measured: dict[str, dict[str, float]] = {}

    def folder(self, system: str) -> Path:
        """Where a system's model goes."""
        return folders_of(self.recipe, self.output)[system]

    def epoch(self, epoch: int) -> dict[str, Any]:
        import torch

        from .detection_crops import generator_of
        from .grade_batches import draw_order
        from .grade_losses import grade_loss

        recipe, networks, device = self.recipe, self.learner.network, self.group.device
        networks.train()
        # All draw the same order and the same variation; each takes its part of a batch.
        generator = generator_of(recipe.seed, epoch)
        torch.manual_seed(recipe.seed * 1000003 + epoch * 1009 + self.group.rank)  # dropout
        order = draw_order(self.training.cases, dict(recipe.balance), generator)
        # One image alone has no statistics for batch normalisation: each process needs two.
        batches = [part for part in order.split(recipe.batch) if len(part) >= 2 * self.group.size]
        if not batches:
            raise DataError(
                f"{len(order)} training images in batches of {recipe.batch} are too few: a batch must hold two for each process "
                f"({self.group.size} here); add images, raise --batch or start fewer processes."
            )
        sums: dict[str, float] = {}
        for step, indices in enumerate(batches):
            inputs = self.training.varied(indices, generator, recipe.wide, recipe.plain)
            with_maps = {name: bool(torch.rand(1, generator=generator) < recipe.map_probability) for name in networks}
            own = slice(self.group.rank, None, self.group.size)
            inputs, labels = inputs[own].to(device), self.training.labels(indices[own])
            total, figures = None, {}
            for name, network in networks.items():
                maps = self._map(name, inputs) if with_maps[name] else None
                answers = network(inputs) if maps is None else network(inputs, maps)
                wanted = {output: labels[output].to(device) for output in answers}
                loss, parts = grade_loss(answers, wanted, self.weights, recipe.smoothing)
                total = loss if total is None else total + loss
                figures[name] = parts[MAIN[name]]
            values = torch.stack([total, *figures.values()])
            values = self.learner.step(total, values, epoch + step / len(batches))
            for name, value in zip(("loss", *figures), values.tolist(), strict=True):
                sums[name] = sums.get(name, 0.0) + value / len(batches)
        return sums

    def _map(self, system: str, inputs: torch.Tensor) -> torch.Tensor | None:
        """The partner's class activation map of these images, without a map of its own; None where there is no partner."""
        import torch

        partner = PARTNER.get(system)
        if partner not in self.learner.network:
            return None
        network = self.learner.network[partner]
        network.eval()
        with torch.no_grad():
            maps = network.look(inputs).map
        network.train()
        return maps

    def validate(self) -> dict[str, float]:
        """AUC of what is yes or no, exact share and quadratic kappa of categories; with maps where there is a pair."""
        from ..evaluation.grade_metrics import validation_figures

        record: dict[str, float] = {}
        said = answers_of(self.learner.average, self.validation, 2 * self.recipe.batch, self.group.device)
        for name, outputs in said.items():
            figures = validation_figures(outputs, self.validation.allowed)
            if self.recipe.keep == "f-beta" and figures.get("f_beta", -1.0) > self.kept.get(name, -1.0):
                self._save(name, figures)
                self.kept[name] = figures["f_beta"]
            self.measured[name] = figures
            record |= {f"{name}_{key}": value for key, value in figures.items()}
        return record

    @property
    def kept(self) -> dict[str, float]:
        """System -> F-beta of the model that this run has left, before it was killed as well. What an earlier run left in the folder is none."""
        return self.learner.notes.setdefault("f_beta", {})

    def save(self) -> None:
        if self.learner.first_epoch >= self.recipe.epochs:
            self._leave_anew()
            return
        for system in self.recipe.systems:
            if self.recipe.keep == "last" or system not in self.kept:
                self._save(system, self.measured.get(system, {}))

    def _leave_anew(self) -> None:
        """Leave the models of a finished run that are gone. DataError where the checkpoint has other weights, the last ones."""
        from ..evaluation.grade_metrics import validation_figures

        gone = [system for system in self.recipe.systems if not is_there(self.folder(system))]
        for system in gone:
            if system in self.kept:
                raise DataError(
                    f"the model in {self.folder(system)} is gone, and {self.learner.path} has the last weights, not those with the highest F-beta, which it had; "
                    "begin anew with --restart."
                )
        said = answers_of(self.learner.average, self.validation, 2 * self.recipe.batch, self.group.device)
        for system in gone:
            self._save(system, validation_figures(said[system], self.validation.allowed))

    def _save(self, system: str, figures: dict[str, float]) -> None:
        from ..models.folder import save_model

        self.folder(system).mkdir(parents=True, exist_ok=True)
        save_model(self.folder(system), self.learner.average[system], self._config(system, figures))

    def _config(self, system: str, figures: dict[str, float]) -> dict[str, Any]:
        recipe, rule = self.recipe, self.training.rule
        return {
            "id": f"grade-{system}-{recipe.configuration}",
            "task": f"grade-{system}",
            "version": UNPUBLISHED,
            "network": ".".join(NETWORKS[system]),
            "arguments": json.loads(json.dumps(self.arguments[system])),
            "preprocessing": {
                "dimension": 2,
                **asdict(rule),
                "intensity": "percentile-0.5-99.5, standardised in the crop",
            },
            "postprocessing": {},
            "trained_on": self.about[system],
            "licence": "unspecified",
            "measured": {"validation": figures},
            "recipe": json.loads(json.dumps(asdict(recipe))) | ({"segmentation": self.outlines} if self.outlines else {}),
        }

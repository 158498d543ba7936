"""What the bench measures on: models with a known circuit, and trained tasks."""

from __future__ import annotations

from workbench.bench.quantities import TaskRuns
from workbench.bench.settings import Settings, TrainedTask
from workbench.core.errors import WorkbenchError
from workbench.core.run_record import digest_of
from workbench.engine.metrics import metric_from_file
from workbench.engine.of_task import paired_runs
from workbench.engine.paired_runs import PairedRuns
from workbench.methods.by_name import score
from workbench.model.known_circuits import Truth, add_noise
from workbench.model.open import open_model

Subject = TrainedTask | Truth


def label_of(subject: Subject) -> str:
    """Name a subject as the tables do.

    Returns:
        The model of a known circuit, or the model and task of a trained one.
    """
    return subject.model if isinstance(subject, Truth) else subject.label


def digest_of_truth(truth: Truth) -> str:
    """Digest the edges that a known circuit has, and those that support it.

    Returns:
        A hexadecimal digest.
    """
    return digest_of([list(truth.circuit.edges), list(truth.supporting)])


def noisy_runs(truth: Truth, settings: Settings) -> tuple[PairedRuns, float]:
    """Add noise to the weights of a known circuit, as much as leaves its clean and corrupted metric alone.

    The noise is halved from ``settings.noise`` until neither mean moves by more than 5 % of their difference. Labels
    hold because the program still does the task. A circuit that was trained gets none: its other edges do a little
    anyway.

    Returns:
        Runs of the noisy model, and the noise that is left: a share of each weight's own size.
    """
    pairs = truth.pairs(settings.n_truth, seed=settings.seed)
    true = PairedRuns(open_model(truth.model), pairs, metric=metric_from_file(truth.metric))
    gap, noise = float((true.clean - true.corrupted).mean()), 0.0 if truth.trained else settings.noise
    while noise > 1e-6:
        model = open_model(truth.model)
        add_noise(model, noise, seed=settings.seed)
        runs = PairedRuns(model, true.pairs, metric=metric_from_file(truth.metric))
        moved = max(abs((runs.clean - true.clean).mean()), abs((runs.corrupted - true.corrupted).mean()))
        if moved <= 0.05 * abs(gap):
            return runs, noise
        noise /= 2
    return true, 0.0


def task_runs(task: TrainedTask, settings: Settings) -> TaskRuns:
    """Open the model of a trained task and draw its pairs.

    Returns:
        Runs of every draw for finding, and runs of the test split for judging.
    """
    model = open_model(task.model)

    def draw(split: str, seed: int) -> PairedRuns:
        return paired_runs(
            model, task.task, n=settings.n_task, seed=seed, split=split, corruption=task.corruption
        )

    found = tuple(draw("train", seed) for seed in settings.all_seeds)
    return TaskRuns(draws=found, judged=draw("test", settings.seed))


def warm_up(runs: PairedRuns) -> None:
    """Run one forward and backward pass, so that the first method does not pay for what is made once."""
    try:
        score(runs.subset([0, 1]), "eap", level="edge")
    except WorkbenchError:  # a model without edges: its methods say so themselves
        _ = runs.clean

"""A metric: by how much the best correct answer beats everything else."""

from workbench.engine.metric_names import metric


@metric("margin", unit="logits")
def margin(logits, answers):
    """Largest logit of a correct answer minus the largest of any other token."""
    mine = logits.gather(1, answers.correct).masked_fill(~answers.correct_mask, -1e30)
    others = logits.scatter(1, answers.correct, -1e30)
    return mine.amax(1) - others.amax(1)

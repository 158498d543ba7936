"""A mask: every so many keys, and the query itself."""

from workbench.masks.registry import mask


@mask("stripes")
def stripes(n: int, every: int = 2):
    """Keys at multiples of ``every``, and each query's own."""
    import torch

    key = torch.arange(n)
    return torch.ones(n, n, dtype=torch.bool).tril() & ((key % every == 0) | torch.eye(n, dtype=torch.bool))

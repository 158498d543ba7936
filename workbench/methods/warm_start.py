"""Where masks start when scores are known: open for the highest of each layer, a tenth of them in the mean."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import rankdata

from workbench.methods.hard_concrete import BETA, GAMMA, ZETA

OPEN, WIDTH, MOST = 0.10, 0.20, 10.0  # mean opening of a layer, softness of the ranking, bound of a parameter


def warm_start(
    sizes: Float[np.ndarray, " edge"], layer: Int[np.ndarray, " edge"]
) -> Float[np.ndarray, " edge"]:
    """Return mask parameters from the sizes of scores, each layer of readers for itself.

    ``p = sigmoid((q - b) / 0.2)`` with ``q`` the rank of the size from 0 to 1 and ``b`` such that ``p`` is 0.1 in the
    mean. The parameter is the one whose noise-free mask is ``p``, within 10 of 0.

    Source:
        arXiv:2510.06811; the formula as in released code for the MIB benchmark.

    Example:
        >>> warm_start(np.array([0.0, 0.2, 0.9]), np.array([0, 0, 0])).round(2)
        array([-1.58, -1.41, -0.54])
    """
    found = np.empty(len(sizes))
    for one in np.unique(layer):
        here = layer == one
        q = (rankdata(sizes[here]) - 1) / max(1, here.sum() - 1)
        b = brentq(lambda b, q=q: expit((q - b) / WIDTH).mean() - OPEN, -10.0, 10.0, xtol=1e-12)
        stretched = (expit((q - b) / WIDTH) - GAMMA) / (ZETA - GAMMA)
        found[here] = np.clip(BETA * logit(stretched), -MOST, MOST)
    return found

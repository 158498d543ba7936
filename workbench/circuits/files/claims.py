"""Claims and tables as files hold them, in replications and in re-run studies alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from msgspec import Meta

from workbench.core.claims import JudgedClaim, Verdict, counts
from workbench.core.typed import Count, Part

Scalar = bool | int | float | str | None
Cell = bool | int | float | str | list[Scalar] | None
Tables = dict[str, list[dict[str, Cell]]]
Counts = Annotated[dict[Verdict, Count], Meta(description="verdict -> how many claims have it")]
Number = Annotated[int | float | str | None, Meta(description="a number or a word")]


class ClaimContent(Part, frozen=True):
    """A paper's claim, the rule that decides it, and what became of it."""

    claim: str
    criterion: Annotated[str, Meta(description="the rule that decides, fixed before anything is measured")]
    verdict: Verdict
    paper: Number = None
    found: Number = None
    control: Number = None
    n: Annotated[Count | None, Meta(description="what the measured number is over")] = None
    why: Annotated[str, Meta(description="why it cannot be tested")] = ""
    reason: Annotated[str, Meta(description="why this criterion and no other")] = ""
    source: str = ""
    model: Annotated[str, Meta(description="where it was tested, if not on the model asked for")] = ""
    difference: Annotated[
        float | None, Meta(description="found minus control, where the interval is of that")
    ] = None
    low: Annotated[float | None, Meta(description="end of the 95 % interval that decided")] = None
    high: Annotated[float | None, Meta(description="end of the 95 % interval that decided")] = None
    p: Annotated[float | None, Meta(description="the p that decided, corrected where several did")] = None
    scope: Annotated[str, Meta(description="how far the verdict reaches: on this model, on 5 models")] = ""

    def claim_of(self) -> JudgedClaim:
        """Return the claim that it describes."""
        return JudgedClaim(**{name: getattr(self, name) for name in self.__struct_fields__})


def check_counts(claims: Sequence[ClaimContent], verdicts: Mapping[Verdict, int]) -> None:
    """Do nothing if the verdicts are counted rightly.

    Raises:
        ValueError: if the claims have other verdicts.
    """
    found = counts(claim.claim_of() for claim in claims)
    if dict(verdicts) != found:
        raise ValueError(f"verdicts says {dict(verdicts)}, the claims have {found}")

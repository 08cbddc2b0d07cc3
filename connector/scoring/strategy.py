"""How candidates are scored: the alignment of tokens, the fusion of parts, and feedback."""

from __future__ import annotations

from dataclasses import dataclass

from connector.scoring.alignment import Alignment
from connector.scoring.feedback import Feedback
from connector.scoring.fusion import Fusion


@dataclass(frozen=True, slots=True)
class Strategy:
    """How candidates are scored.

    Args:
        alignment: how tokens are scored; None is MaxSim.
        fusion: how tokens, words and CLS vectors make one score.
        feedback: what the first hits add to it.
    """

    alignment: Alignment | None
    fusion: Fusion
    feedback: Feedback | None = None

    @property
    def name(self) -> str:
        """For a person, such as "MaxSim, minmax:tokens=1,cls=0.5, feedback codes=3"."""
        parts = []
        if self.fusion.tokens:
            parts.append("MaxSim" if self.alignment is None else self.alignment.spec)
        if self.fusion not in (TOKENS_ALONE, Fusion("sum", cls=1)):
            parts.append(self.fusion.spec)
        if self.feedback is not None:
            parts.append(f"feedback {self.feedback.spec}")
        return ", ".join(parts) or "CLS"


TOKENS_ALONE = Fusion("sum", tokens=1)


def weighted(cls_weight: float | None) -> Fusion:
    """w · CLS + (1 − w) · tokens, not scaled; None is tokens alone."""
    weight = cls_weight or 0.0
    return Fusion("sum", tokens=1 - weight, cls=weight)

"""Candidates with their fused scores, and what the first hits, or liked ones, add to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from connector.collection.documents.document_state import State, states
from connector.collection.search.candidates import Plan
from connector.collection.search.found import Found
from connector.core.errors import InputError
from connector.core.types import Float32, ScorePart, unit
from connector.scoring.feedback import By, agreement, first_of_each
from connector.scoring.fusion import Float64, Scale, minmax


@dataclass(frozen=True, slots=True)
class Term:
    """How a part of a score counts: what it weighs, and on which scale."""

    weight: float
    scale: Scale


_AS_FOUND = Term(1.0, Scale(0.0, 1.0))
"""Of the score by which candidates were found."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What candidates are compared with.

    Args:
        by: which vectors.
        center: (d,) what is subtracted from them, the mean of the candidates'.
        direction: (d,) of which their inner products with unit vectors are the scores.
        documents: the ids of those that speak, liked before disliked, and (h, d) what each adds to the
            direction.
    """

    by: By
    center: Float32
    direction: Float32
    documents: dict[str, Float32]

    @property
    def name(self) -> str:
        """Of the part of a score."""
        return f"feedback_{self.by}"

    def scores(self, vectors: Float32) -> Float64:
        """(P,) of passages with these vectors (P, d)."""
        return (unit(vectors - self.center) @ self.direction).astype(np.float64)


@dataclass(frozen=True, slots=True)
class Scored:
    """Passages and their scores in parts.

    Args:
        found: the passages.
        raw: (P,) of each part the scores, not scaled.
        terms: how each part counts.
        references: what feedback compares with.
    """

    found: Found
    raw: Mapping[str, Float64]
    terms: Mapping[str, Term]
    references: tuple[Reference, ...] = ()
    totals: Float64 = field(init=False)

    def __post_init__(self) -> None:
        parts = [term.weight * term.scale(self.raw[name]) for name, term in self.terms.items()]
        object.__setattr__(self, "totals", np.sum(parts, axis=0) if parts else np.zeros(0))

    @classmethod
    def of(cls, plan: Plan, found: Found) -> Scored:
        """The candidates of a query, by its fusion."""
        if plan.fusion is None:
            return cls(found, found.raw, {plan.found_by: _AS_FOUND})
        terms: dict[str, Term] = {
            name: Term(weight, plan.fusion.scale(name, found.raw[name]))
            for name, weight in plan.fusion.weights.items()
        }
        return cls(found, found.raw, terms)

    def others(self, plan: Plan, found: Found) -> Scored:
        """Other passages, scored as these are."""
        raw = dict(found.raw)
        for reference in self.references:
            raw[reference.name] = reference.scores(found.vectors(reference.by, plan.collection))
        return Scored(found, raw, self.terms, self.references)

    def joined(self, more: Scored) -> Scored:
        """These passages, and then those of others, scored as these are, that are not among them."""
        known = {record.key for record in self.found.records}
        fresh = [i for i, record in enumerate(more.found.records) if record.key not in known]
        raw = {name: np.concatenate([self.raw[name], more.raw[name][fresh]]) for name in self.raw}
        records = [*self.found.records, *(more.found.records[i] for i in fresh)]
        tokens = self.found.tokens
        if tokens is not None and more.found.tokens is not None:
            tokens = tokens.joined(more.found.tokens, fresh)
        found = Found(records, raw, tokens)
        return Scored(found, raw, self.terms, self.references)

    def parts(self, number: int) -> dict[str, ScorePart]:
        """The parts of one passage's score."""
        return {
            name: ScorePart(
                float(self.raw[name][number]),
                float(term.scale(self.raw[name][number : number + 1])[0]),
                term.weight,
                term.scale.low,
                term.scale.high,
            )
            for name, term in self.terms.items()
        }

    def order(self) -> list[int]:
        """Numbers of the passages, best first; of equal ones by document and place in it."""
        order: list[int] = np.argsort(-self.totals, kind="stable").tolist()
        if len(np.unique(self.totals)) < len(order):
            payloads = [record.payload for record in self.found.records]
            order.sort(key=lambda i: (-self.totals[i], payloads[i]["id"], payloads[i]["passage"]))
        return order

    def with_feedback(self, plan: Plan) -> Scored:
        """The same with what the first hits, or liked documents, add; as it is where nothing is added."""
        weights, liked = plan.feeds_back, _liked_documents(plan)
        if not weights or not self.found.records:
            return self
        raw, terms, references = dict(self.raw), dict(self.terms), []
        for by, weight in weights.items():
            vectors = self.found.vectors(by, plan.collection)
            center: Float32 = vectors.mean(axis=0)
            if liked:
                reference = _liked(plan, by, center, liked)
            else:
                speakers = self._speakers(plan)
                if speakers is None:
                    return self
                units = unit(vectors[speakers] - center)
                weight *= agreement(units)
                reference = _spoken([self._id(it) for it in speakers], units, by, center)
            raw[reference.name] = reference.scores(vectors)
            terms[reference.name] = Term(weight, minmax(raw[reference.name]))
            references.append(reference)
        return Scored(self.found, raw, terms, tuple(references))

    def _speakers(self, plan: Plan) -> list[int] | None:
        """Numbers of the passages that speak; None where there are too few documents."""
        feedback = plan.feedback
        hits = 2 if feedback is None else feedback.hits
        documents = [record.payload["id"] for record in self.found.records]
        found = first_of_each(documents, self.order(), hits)
        return found if len(found) == hits else None

    def _id(self, number: int) -> str:
        return str(self.found.records[number].payload["id"])


def _spoken(ids: Sequence[str], units: Float32, by: By, center: Float32) -> Reference:
    share = units / np.float32(len(units))
    return Reference(by, center, share.sum(axis=0), dict(zip(ids, share, strict=True)))


def _liked_documents(plan: Plan) -> dict[str, State]:
    """The liked and disliked documents.

    Raises:
        InputError: some of them are not there; they are named.
    """
    collection, like, unlike = plan.collection, plan.options.like, plan.options.unlike
    there: dict[str, State] = states(collection, [*like, *unlike]) if like or unlike else {}
    if unknown := [id_ for id_ in (*like, *unlike) if id_ not in there]:
        raise InputError(
            f"collection {collection.name!r} holds no document {', '.join(map(repr, unknown))} to compare "
            "with; give ids that it holds, such as those of hits"
        )
    return there


def _liked(plan: Plan, by: By, center: Float32, there: Mapping[str, State]) -> Reference:
    """Mean of the liked documents less mean of the disliked ones."""
    collection, documents = plan.collection, dict[str, Float32]()
    for ids, sign in ((plan.options.like, 1.0), (plan.options.unlike, -1.0)):
        for id_ in ids:
            points = [collection.point_id(id_, number) for number in range(there[id_].passages)]
            vectors = plan.among(points).vectors(by, collection)
            documents[id_] = unit(vectors - center).mean(axis=0) * np.float32(sign / len(ids))
    return Reference(by, center, np.sum(list(documents.values()), axis=0), documents)

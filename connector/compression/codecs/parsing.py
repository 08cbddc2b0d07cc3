"""The codec that a text names."""

from __future__ import annotations

from connector.compression.codecs import scalar_quantization, vector_quantization
from connector.compression.codecs.codec import Codec
from connector.compression.codecs.projection import PROJECTIONS
from connector.compression.codecs.scalar_quantization import Ending
from connector.compression.saliency import Saliency
from connector.core.errors import RecipeError
from connector.core.registry import Method, made, named

QUANTIZERS: tuple[Method[Ending, None], ...] = (*scalar_quantization.METHODS, *vector_quantization.METHODS)
"""What a codec ends in, as recipes name it."""


def parse_codec(spec: str, head: str | None = None, saliency: bool = False) -> Codec:
    """The unfitted codec that a text names.

    Args:
        spec: projections and at last a quantizer, with "+" between them: `PROJECTIONS`, `QUANTIZERS`.
        head: folder of a trained head, for `linear-D` and saliency.
        saliency: whether tokens have a saliency.

    Raises:
        RecipeError: a part is not known, or the last one is not a quantizer.
    """
    *parts, last = map(str.strip, spec.split("+"))
    if named(last, PROJECTIONS) or not last:
        known = ", ".join(method.form for method in QUANTIZERS)
        raise RecipeError(f"codec {spec!r} does not say how vectors are stored; end it in one of {known}")
    projections = [made("codec", spec, part, PROJECTIONS, "projections", head) for part in parts]
    own, quantizer = made("codec", spec, last, QUANTIZERS, "endings", None)
    return Codec(spec, [*projections, *own], quantizer, Saliency(head) if saliency else None)

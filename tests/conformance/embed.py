"""An embedding without a model: it counts words, so that scores can be computed by hand."""

from __future__ import annotations

WORDS = ("cat", "dog", "car")


async def embed(texts: list[str]) -> list[list[float]]:
    return [[float(text.lower().count(word)) for word in WORDS] + [0.1] for text in texts]

"""Late interaction where applications already are: LangChain, LlamaIndex and Haystack.

Each module needs its framework, an extra of this library, and none needs another one's.
"""

__all__: list[str] = []

"""Late-interaction retrieval on Qdrant at the storage price of a single dense vector.

Names are imported when they are first used, so that `import connector` is quick and brings no torch. The file
`__init__.pyi` says which names there are, and where each one lives.
"""

import logging

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

logging.getLogger(__name__).addHandler(logging.NullHandler())

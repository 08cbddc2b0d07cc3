from .api.async_connector import AsyncConnector as AsyncConnector
from .api.connector import Connector as Connector
from .api.reranker import RankedText as RankedText
from .api.reranker import Reranker as Reranker
from .api.similarities import Similarities as Similarities
from .api.stats import Stats as Stats
from .collection.backup.manifest import Manifest as Manifest
from .collection.collection import Collection as Collection
from .collection.documents.writer import IngestReport as IngestReport
from .collection.recipe import RECIPES as RECIPES
from .collection.recipe import Recipe as Recipe
from .collection.search.options import SearchKeywords as SearchKeywords
from .collection.search.options import SearchOptions as SearchOptions
from .compression.codecs import Codec as Codec
from .compression.reduction import (
    Frequencies as Frequencies,
)
from .compression.reduction import (
    QueryReduction as QueryReduction,
)
from .compression.reduction import (
    Reduction as Reduction,
)
from .compression.reduction import (
    Setting as Setting,
)
from .core.errors import (
    AccessDenied as AccessDenied,
)
from .core.errors import (
    CollectionError as CollectionError,
)
from .core.errors import (
    CollectionExists as CollectionExists,
)
from .core.errors import (
    CollectionNotFound as CollectionNotFound,
)
from .core.errors import (
    ConnectorError as ConnectorError,
)
from .core.errors import (
    DocumentError as DocumentError,
)
from .core.errors import (
    EncoderMismatch as EncoderMismatch,
)
from .core.errors import (
    IndexMissing as IndexMissing,
)
from .core.errors import (
    InputError as InputError,
)
from .core.errors import (
    MigrationError as MigrationError,
)
from .core.errors import (
    MissingExtra as MissingExtra,
)
from .core.errors import (
    ModelError as ModelError,
)
from .core.errors import (
    PointsRefused as PointsRefused,
)
from .core.errors import (
    RecipeError as RecipeError,
)
from .core.errors import (
    SourceError as SourceError,
)
from .core.errors import (
    StoreError as StoreError,
)
from .core.errors import (
    StoreLocked as StoreLocked,
)
from .core.errors import (
    StoreUnavailable as StoreUnavailable,
)
from .core.errors import (
    TransferError as TransferError,
)
from .core.explanation import Explanation as Explanation
from .core.explanation import Pair as Pair
from .core.explanation import Word as Word
from .core.types import Document as Document
from .core.types import Embedding as Embedding
from .core.types import Hit as Hit
from .core.types import Hits as Hits
from .core.types import ScorePart as ScorePart
from .encoders import Encoder as Encoder
from .encoders import load_encoder as load_encoder
from .evaluation.adaptation import Adaptation as Adaptation
from .evaluation.adaptation import Measured as Measured
from .evaluation.query_mean import QueryMean as QueryMean
from .migrations import Migrations as Migrations
from .scoring.alignment import TopK as TopK
from .scoring.alignment import TopP as TopP
from .scoring.feedback import Feedback as Feedback
from .scoring.fusion import Fusion as Fusion
from .scoring.fusion import Scale as Scale
from .scoring.strategy import Strategy as Strategy
from .stores import NewCollectionKeywords as NewCollectionKeywords
from .stores import ServerKeywords as ServerKeywords
from .stores import Store as Store
from .stores import open_store as open_store

"""The façade: late-interaction search over one Qdrant collection."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from types import TracebackType

from qdrant_client import QdrantClient, models

from connector import scoring
from connector.adaptation import Adaptation, adapt
from connector.alignment import Alignment
from connector.collection import Collection, check_name
from connector.encoders import DEFAULT_MODEL, Encoder, load_encoder
from connector.errors import CollectionExists, InputError
from connector.explain import best_passage, explain
from connector.explanation import Explanation
from connector.ingest import IngestReport, ingest
from connector.passages import Chunking
from connector.recipes import Recipe, get_recipe
from connector.search import CandidatesBy, Rerank, fetch, rank
from connector.stats import Stats, stats_of
from connector.stores import open_store
from connector.types import Document, Embedding, Hit, Hits, check_text


class Connector:
    """Late-interaction search over one collection; make one with `create` or `open`.

    Threads may share a connector. It is a context manager, which closes it at the end.
    """

    def __init__(self, collection: Collection, encoder: Callable[[], Encoder]) -> None:
        self._collection = collection
        self._make_encoder = encoder
        self._loading = threading.Lock()
        self._closed = False

    @classmethod
    def create(
        cls,
        name: str,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        api_key: str | None = None,
        client: QdrantClient | None = None,
        recipe: str | Recipe = "default",
        model: str | Encoder = DEFAULT_MODEL,
        device: str | None = None,
    ) -> Connector:
        """Make an empty collection.

        Args:
            name: letters, digits, ".", "_" and "-".
            path: a folder, for Qdrant in this process.
            url, api_key: a Qdrant server or cluster.
            client: instead, a `QdrantClient` of your own.
            recipe: the name of a recipe (`connector recipes` lists them), or one of your own.
            model: a model id or folder, or an encoder of your own.
            device: such as "cpu" or "cuda"; by default the best there is.

        Raises:
            InputError: an argument cannot be used.
            CollectionExists: the name is taken.
            ModelError: the model cannot be loaded.
            StoreError: the folder is locked, or no server answers.
        """
        chosen = get_recipe(recipe) if isinstance(recipe, str) else recipe
        check_name(name)
        store = open_store(path=path, url=url, api_key=api_key, client=client)
        try:
            if name in store.names():
                raise CollectionExists(f"collection {name!r} exists in {store.location}; open it instead")
            encoder = load_encoder(model, device) if isinstance(model, str) else model
            return cls(Collection.create(store, name, chosen, encoder), lambda: encoder)
        except BaseException:
            store.close()
            raise

    @classmethod
    def open(
        cls,
        name: str,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        api_key: str | None = None,
        client: QdrantClient | None = None,
        model: str | Encoder | None = None,
        device: str | None = None,
    ) -> Connector:
        """Open a collection; it knows its own recipe, codec and model.

        The model is loaded when it is first needed.

        Args:
            name: the collection's name.
            path, url, api_key, client: where it is, as in `create`.
            model: only if the model has moved: where it is now. Its fingerprint must be the same.
            device: such as "cpu" or "cuda"; by default the best there is.

        Raises:
            CollectionNotFound: there is no such collection; those that are there are named.
            StoreError: the folder is locked, or no server answers.
        """
        store = open_store(path=path, url=url, api_key=api_key, client=client)
        try:
            collection = Collection(store, name)
        except BaseException:
            store.close()
            raise

        def encoder() -> Encoder:
            named = collection.model if model is None else model
            loaded = load_encoder(named, device) if isinstance(named, str) else named
            collection.check_encoder(loaded)
            return loaded

        return cls(collection, encoder)

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._collection.name

    @property
    def collection(self) -> Collection:
        """The collection itself, for code that encodes, ranks or stores on its own."""
        return self._collection

    @property
    def recipe(self) -> Recipe:
        """The recipe that the collection was made with."""
        return self._collection.recipe

    @property
    def encoder(self) -> Encoder:
        """The collection's encoder, loaded when first asked for.

        Raises:
            ModelError: it cannot be loaded.
            EncoderMismatch: the model is not the one that made the collection.
        """
        self._check_open()
        with self._loading:
            return self._encoder

    @cached_property
    def _encoder(self) -> Encoder:
        encoder = self._make_encoder()
        scoring.warm()
        return encoder

    def ingest(
        self,
        documents: Iterable[Document],
        *,
        chunk_tokens: int | None = None,
        chunk_overlap: int = 0,
        skip_bad: bool = False,
        progress: Callable[[IngestReport], None] | None = None,
    ) -> IngestReport:
        """Write documents, replacing those with the same ids.

        Running it again is harmless: documents that are there unchanged are passed over, so a run that
        was killed is finished by running it again.

        Args:
            documents: read once; may be a generator.
            chunk_tokens: split texts into chunks of at most so many tokens; by default they are not
                split, and what lies beyond the encoder's window is lost and counted.
            chunk_overlap: tokens that a chunk shares with the one before.
            skip_bad: skip documents that cannot be taken, and name them in the report.
            progress: called after each acknowledged write with the report so far.

        Raises:
            DocumentError: a document cannot be taken; the ones before it are written.
            InputError: the chunk sizes cannot be used.
        """
        self._check_open()
        chunking = Chunking.checked(chunk_tokens, chunk_overlap)
        return ingest(
            self._collection, self.encoder, documents, chunking=chunking, skip_bad=skip_bad, progress=progress
        )

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        filter: models.Filter | None = None,
        rerank: Rerank | None = "auto",
        candidates: int = 100,
        candidates_by: CandidatesBy = "dense",
        cls_weight: float | None = None,
        alignment: str | Alignment | None = None,
    ) -> Hits:
        """The k best documents for a query, each by its best passage.

        Args:
            query: not blank.
            k: how many documents.
            filter: a `qdrant_client.models.Filter`; its keys are metadata keys ("year", "author.name").
            rerank: "server": Qdrant scores MaxSim (layout multivector); "client": this process does;
                None: no rerank, candidates in the order in which they were found; "auto", the default:
                server where it can, else client, else none.
            candidates: how many passages are found for the rerank.
            candidates_by: what finds them: "dense", the CLS vectors; "lexical", BM25; "hybrid", both, fused
                by reciprocal ranks; "hybrid-dbsf", both, fused by the distributions of their scores;
                "muvera", fixed dimensional encodings of the tokens. All but the first need a recipe with an
                index of words, `lexical`, or the last one with encodings, `fde`.
            cls_weight: w of the score w·CLS + (1 − w)·tokens, from 0 to 1; by default the collection's: what
                it was adapted to or its model was trained with, which for most is tokens alone.
            alignment: how tokens are scored: "top-1" (MaxSim over the number of query tokens), "top-4",
                "top-1.5%", …; by default the collection's.

        Returns:
            A list of hits; its `ms` says where the time went.

        Raises:
            InputError: an argument cannot be used.
            CollectionError: the collection cannot be searched as asked.
        """
        self._check_open()
        check_query(query)
        encoder = self.encoder
        started = time.perf_counter()
        embedding = encoder.encode_queries([query])[0]
        encode = 1e3 * (time.perf_counter() - started)
        ranking = rank(
            self._collection,
            embedding,
            k=k,
            filter=filter,
            rerank=rerank,
            candidates=candidates,
            candidates_by=candidates_by,
            cls_weight=cls_weight,
            alignment=alignment,
            device=encoder.device,
        )
        hits = fetch(self._collection, ranking, k)
        hits.ms["encode"] = encode
        hits.ms["total"] += encode
        hits[:] = [replace(hit, explainer=self._explainer(embedding, ranking.alignment)) for hit in hits]
        return hits

    def explain(
        self,
        query: str,
        hit: Hit | str,
        *,
        cls_weight: float | None = None,
        alignment: str | Alignment | None = None,
    ) -> Explanation:
        """Which words of the query and of a passage a score comes from; `Hit.explain` is the same for a hit.

        Args:
            query: not blank; of a hit, the query that found it.
            hit: a hit, or a document's id for its best passage.
            cls_weight: for an id, as in `search`; a hit knows its own.
            alignment: as in `search`; of a hit, the one that it was found with.

        Returns:
            Pairs of words with their parts, which sum to the score.

        Raises:
            InputError: there is no such document, or the hit was not scored by words.
            CollectionError: what is stored is not what it was when the hit was found.
        """
        self._check_open()
        check_query(query)
        if not isinstance(hit, Hit | str):
            raise InputError(f"hit is {hit!r}; give a hit of a search, or a document's id")
        embedding = self.encoder.encode_queries([query])[0]
        if isinstance(hit, str):
            hit = best_passage(
                self._collection,
                embedding,
                hit,
                cls_weight=cls_weight,
                alignment=alignment,
                device=self.encoder.device,
            )
        return self._explainer(embedding, alignment)(hit)

    def _explainer(self, query: Embedding, alignment: str | Alignment | None) -> Callable[[Hit], Explanation]:
        def explainer(hit: Hit) -> Explanation:
            self._check_open()
            return explain(self._collection, self.encoder, query, hit, alignment)

        return explainer

    def adapt(
        self, examples: Iterable[tuple[str, str]], *, save: bool = False, candidates: int = 100
    ) -> Adaptation:
        """Choose the alignment and the share of the CLS vectors by a few examples.

        Nothing but their queries is encoded, and no point is written.

        Args:
            examples: pairs of a query and the id of a document that answers it; 8 will do, and more find
                smaller gains. A query with several answers comes several times.
            save: whether searches follow the choice from now on, those of other processes when they open
                the collection next.
            candidates: how many passages are found for each query.

        Returns:
            What is chosen, which is what the collection was made for unless the examples speak clearly for
            something else, with nDCG@10 of everything that was tried and a leave-one-out estimate.

        Raises:
            InputError: the examples cannot be used, or none of them has its answer among the candidates.
            CollectionError: the collection stores no tokens.
        """
        self._check_open()
        return adapt(self._collection, self.encoder, examples, save=save, candidates=candidates)

    def stats(self) -> Stats:
        """What the collection holds and takes."""
        self._check_open()
        return stats_of(self._collection)

    def drop(self) -> None:
        """Delete the collection and close."""
        self._check_open()
        self._collection.store.drop(self.name)
        self.close()

    def close(self) -> None:
        """Release the folder or connection. Calling it twice is harmless."""
        if not self._closed:
            self._closed = True
            self._collection.store.close()

    def __enter__(self) -> Connector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Connector({self.name!r}, {self._collection.store.location!r}, recipe={self.recipe.name!r})"

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(f"this connector of {self.name!r} is closed; open it again")


def check_query(query: str) -> None:
    """Raises InputError unless this can be asked."""
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"query is {query!r}; give a text")
    check_text(query, "query")

"""The façade: late-interaction search over one Qdrant collection."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Unpack

from qdrant_client import models

from connector.api.attach import attach, check_recipe, detach
from connector.api.searcher import BatchSize, Searcher, check_query
from connector.api.similarities import Similarities, similarities
from connector.api.stats import Stats, stats_of
from connector.collection.backup import Manifest, export_collection, import_collection
from connector.collection.collection import Collection
from connector.collection.documents.counts import mend, recount
from connector.collection.documents.document_state import checked_ids, documents_of, matching
from connector.collection.documents.indexes import add, declared, drop
from connector.collection.documents.writer import IngestReport
from connector.collection.handle import CollectionHandle
from connector.collection.ingest import ingest
from connector.collection.recipe import Recipe, get_recipe
from connector.collection.search.explain import explain
from connector.collection.search.options import SearchKeywords, search_options
from connector.collection.versions import dual_write
from connector.collection.versions.aliases import check_name, drop_all, names
from connector.core.arguments import checked
from connector.core.deadline import within
from connector.core.errors import CollectionExists, CollectionNotFound, ConnectorError, InputError
from connector.core.explanation import Explanation
from connector.core.forks import Opened
from connector.core.sources.records import Fields
from connector.core.types import Document, Hit, Hits
from connector.encoders import DEFAULT_MODEL, Encoder, Model, load_encoder
from connector.encoders.chunking import Chunking
from connector.encoders.long_queries import encode_queries
from connector.evaluation.adaptation import Adaptation, adapt
from connector.evaluation.query_mean import QueryMean, adapt_to_queries
from connector.migrations import MIN_OVERLAP, Migrations, Progress
from connector.stores import Client, NewCollectionKeywords, ServerKeywords, Store, open_store
from connector.stores.filters import off_key
from connector.stores.schema import Distribution

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def _opened(**place: Any) -> Iterator[Store]:
    """The store at a place, which is closed again if the collection in it cannot be used."""
    store = open_store(**place)
    try:
        yield store
    except BaseException:
        store.close()
        raise


@contextlib.contextmanager
def _made(**options: Any) -> Iterator[tuple[Store, Distribution | None]]:
    """The store, likewise, and how it is to spread a collection that is made in it."""
    spread = Distribution.taken(options)
    with _opened(**options) as store:
        copies = spread and (spread.shard_number, spread.replication_factor, spread.write_consistency_factor)
        if copies and any(copies) and not store.capabilities.copies:
            logger.warning("%s keeps one copy of a collection; a cluster would keep more", store.location)
        yield store, spread


class Connector:
    """Late-interaction search over one collection; make one with `create` or `open`.

    Threads may share a connector. It follows its collection when a migration changes it. It is a context
    manager, which closes it at the end.

    Attributes:
        created: whether the collection was made with it.
    """

    def __init__(self, handle: CollectionHandle, created: bool = False) -> None:
        if not isinstance(handle, CollectionHandle):
            raise InputError(
                f"Connector({handle!r:.40}) cannot be made so; call Connector.open_or_create, open or create"
            )
        self.created = created
        self._handle = handle
        self._store = handle.collection.store
        self._name = handle.collection.name
        self._closed = False
        self._searcher = Searcher(handle)
        self._opened = Opened(f"collection {self._name!r} at {self._store.location}")

    @classmethod
    @checked
    def create(
        cls,
        name: str,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        api_key: str | None = None,
        client: Client | None = None,
        recipe: str | os.PathLike[str] | Recipe = "default",
        model: Model = DEFAULT_MODEL,
        device: str | None = None,
        indexes: Mapping[str, str] | None = None,
        **server: Unpack[NewCollectionKeywords],
    ) -> Connector:
        """Make an empty collection.

        Args:
            name: letters, digits, ".", "_" and "-".
            path: a folder, for Qdrant in this process.
            url, api_key: a Qdrant server or cluster.
            client: instead, a `QdrantClient` of your own; or a store, which is closed with the connector.
            recipe: the name of a recipe (`connector recipes` lists them), a `.json` file of `connector tune`,
                or one of your own.
            model: a model id or folder, or an encoder of your own.
            device: such as "cpu" or "cuda"; by default the best there is.
            indexes: metadata keys that searches are filtered by and the kinds of their values, such as
                {"year": "integer"}; a server in strict mode takes filters on no others. One such as
                {"customer": "keyword:tenant"} (Qdrant's `is_tenant`) keeps the points of each one together.
            server: on a cluster `shard_number`, `replication_factor` and `write_consistency_factor`, as
                Qdrant has them; `on_disk` and `on_disk_payload`: whether vectors, and the payload, are read
                from disk, which takes less memory and more time; and `prefer_grpc`, `grpc_port`,
                `write_ordering` and `read_consistency`, as `open_store` has them.

        Raises:
            InputError: an argument cannot be used.
            CollectionExists: the name is taken.
            ModelError: the model cannot be loaded.
            StoreError: the folder is locked, or no server answers.
        """
        check_name(name)
        chosen = recipe if isinstance(recipe, Recipe) else get_recipe(os.fspath(recipe))
        with _made(path=path, url=url, api_key=api_key, client=client, **server) as (store, spread):
            if name in names(store):
                raise CollectionExists(f"collection {name!r} exists in {store.location}; open it instead")
            encoder = load_encoder(model, device)
            collection = Collection.create(store, name, chosen, encoder, spread, declared(indexes or {}))
            return cls(CollectionHandle(collection, encoder, device), created=True)

    @classmethod
    @checked
    def open(
        cls,
        name: str,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        api_key: str | None = None,
        client: Client | None = None,
        model: Model | None = None,
        device: str | None = None,
        **server: Unpack[ServerKeywords],
    ) -> Connector:
        """Open a collection; it knows its own recipe, codec and model.

        The model is loaded when it is first needed.

        Args:
            name: the collection's name.
            path, url, api_key, client: where it is, as in `create`.
            model: only if the model has moved: where it is now. Its fingerprint must be the same.
            device: such as "cpu" or "cuda"; by default the best there is.
            server: as in `create`.

        Raises:
            CollectionNotFound: there is no such collection; those that are there are named.
            StoreError: the folder is locked, or no server answers.
        """
        with _opened(path=path, url=url, api_key=api_key, client=client, **server) as store:
            collection = Collection(store, name)
            if collection.metadata.attaching:
                logger.warning(
                    "attaching to %r was cut off, and some texts are not found; attach again", name
                )
            elif lacks := collection.store.refused(collection.physical, collection.schema.filtered):
                logger.warning(
                    "%s is in strict mode, and %r of an earlier version has no index of %s: run connector "
                    "index add --collection %s, or migrate upgrade",
                    *(store.location, name, ", ".join(lacks), name),
                )
            return cls(CollectionHandle(collection, model, device))

    @classmethod
    @checked
    def open_or_create(
        cls,
        name: str,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        api_key: str | None = None,
        client: Client | None = None,
        recipe: str | os.PathLike[str] | Recipe | None = None,
        model: Model | None = None,
        device: str | None = None,
        indexes: Mapping[str, str] | None = None,
        **server: Unpack[NewCollectionKeywords],
    ) -> Connector:
        """Open a collection, or make it if it is missing.

        Args:
            name: the collection's name.
            path, url, api_key, client: where it is, as in `create`.
            recipe: of a new collection, by default `default`; one that is there must have it, if it is given.
            model: of a new collection; of one that is there, where its model is now, as in `open`.
            device: such as "cpu" or "cuda"; by default the best there is.
            indexes: as in `create`; one that is there gets those that it lacks.
            server: as in `create`.

        Raises:
            InputError: the collection that is there has another recipe.
            StoreError: the folder is locked, or no server answers.
        """
        given = get_recipe(os.fspath(recipe)) if isinstance(recipe, str | os.PathLike) else recipe
        new: dict[str, Any] = {"path": path, "url": url, "api_key": api_key, "client": client, **server}
        there = {key: it for key, it in new.items() if key not in Distribution.model_fields}
        try:
            connector = cls.open(name, model=model, device=device, **there)
        except CollectionNotFound:
            try:
                new |= {"recipe": given or "default", "model": model or DEFAULT_MODEL, "indexes": indexes}
                return cls.create(name, device=device, **new)
            except CollectionExists:  # another one has made it since
                connector = cls.open(name, model=model, device=device, **there)
        try:
            check_recipe(connector.collection, given, "has", "choose another collection")
            if indexes:
                connector.create_index(indexes)
        except ConnectorError:
            connector.close()
            raise
        return connector

    @classmethod
    @checked
    def attach(
        cls,
        name: str,
        *,
        url: str | None = None,
        api_key: str | None = None,
        client: Client | None = None,
        text_field: str | None = None,
        metadata_field: str | None = None,
        recipe: str | os.PathLike[str] | Recipe | None = None,
        model: Model | None = None,
        device: str | None = None,
        progress: Callable[[IngestReport], None] | None = None,
        **server: Unpack[ServerKeywords],
    ) -> Connector:
        """Add late interaction to another program's collection, beside its vectors, and open it.

        The program goes on as before. Its points are documents, called by the points' ids; payload keys and
        vectors are added to them, all beginning with "late_", and nothing is changed. Texts that it writes
        or changes later are found when this is called again, which is quick where there is nothing new. A
        call that was cut off is finished by another one.

        Args:
            name: the collection's name.
            url, api_key, client: where it is, as in `create`.
            text_field: the payload key of the text; those of LangChain, LlamaIndex and Haystack are known.
            metadata_field: the key of an object with the metadata; by default as those have it, else all
                other keys.
            recipe: what is added; by default `default`.
            model: a model id or folder, or an encoder of your own.
            device: such as "cpu" or "cuda"; by default the best there is.
            progress: called after each acknowledged write with the report so far; `bad` in the last one
                names the points that have no text.
            server: as in `create`.

        Raises:
            CollectionNotFound: there is no such collection.
            CollectionError: it is one of this library's own, or no text is found in it.
            InputError: it is attached with another recipe or other fields.
            StoreError: another process attaches it, or the server fails.
        """
        with _opened(url=url, api_key=api_key, client=client, **server) as store:
            chosen = get_recipe(os.fspath(recipe)) if isinstance(recipe, str | os.PathLike) else recipe
            fields = {"text_field": text_field, "metadata_field": metadata_field}
            collection, encoder = attach(store, name, chosen, model, device, progress=progress, **fields)
            return cls(CollectionHandle(collection, encoder, device))

    @property
    def name(self) -> str:
        """The collection's name."""
        return self._name

    @property
    def collection(self) -> Collection:
        """The collection as it is now, for code that encodes, ranks or stores on its own."""
        return self._handle.collection

    @property
    def recipe(self) -> Recipe:
        """The recipe of the collection."""
        return self.collection.recipe

    @property
    def encoder(self) -> Encoder:
        """The collection's encoder, loaded when first asked for.

        Raises:
            ModelError: it cannot be loaded.
            EncoderMismatch: the model is not the one that made the collection.
        """
        self._check_open()
        return self._handle.encoder_of(self.collection)

    @property
    def indexes(self) -> dict[str, str]:
        """The metadata keys that are indexed, and the kinds of their values."""
        self._check_open()
        return {off_key(key): kind for key, kind in self._handle.refresh().metadata.indexes.items()}

    @checked
    def create_index(self, indexes: Mapping[str, str]) -> None:
        """Index metadata keys that searches are filtered by, as in `create`; points stay as they are.

        Raises:
            InputError: there is no such kind, or the key has an index of another kind.
            StoreLocked: a migration runs.
        """
        self._check_open()
        add(self._handle.refresh(), indexes)

    @checked
    def drop_index(self, key: str) -> None:
        """Drop the index of a metadata key.

        Raises:
            InputError: it has none.
            StoreLocked: a migration runs.
        """
        self._check_open()
        drop(self._handle.refresh(), key)

    def refresh(self) -> None:
        """Look again which version the name leads to, and what others have counted there.

        On a server that is otherwise seen within a second.
        """
        self._check_open()
        self._handle.refresh()

    def encoder_of(self, collection: Collection) -> Encoder:
        """The encoder that made a version of the collection, loaded when first asked for."""
        self._check_open()
        return self._handle.encoder_of(collection)

    @checked
    def ingest(
        self,
        documents: Iterable[Document | Mapping[str, Any]],
        *,
        fields: Mapping[str, str] | None = None,
        chunk_tokens: int | None = None,
        chunk_overlap: int = 0,
        skip_bad: bool = False,
        delete_missing: bool = False,
        progress: Callable[[IngestReport], None] | None = None,
    ) -> IngestReport:
        """Write documents, replacing those with the same ids.

        Running it again is harmless: documents that are there unchanged are passed over, so a run that
        was killed is finished by running it again.

        Args:
            documents: read once; may be a generator. A dict, or another mapping, is a record: its id is in
                `_id`, `id` or `doc_id`, its text in `text`, `contents`, `content` or `body`, its title in
                `title`, and all else is metadata.
            fields: where a record's id, text and title are, if elsewhere, such as {"text": "abstract"}.
            chunk_tokens: split texts into chunks of at most so many tokens; by default they are not
                split, and what lies beyond the encoder's window is lost and counted.
            chunk_overlap: tokens that a chunk shares with the one before.
            skip_bad: skip documents that cannot be taken, and name them in the report.
            delete_missing: at the end, delete the documents that did not come; not if any was skipped.
            progress: called after each acknowledged write with the report so far.

        Raises:
            DocumentError: a document cannot be taken; the ones before it are written.
            InputError: the chunk sizes or the names of fields cannot be used; or no document came,
                and the missing ones, which are all, were to be deleted.
        """
        self._check_open()
        self.collection.check_own("it writes them; attach again when it has")
        chunking = Chunking(chunk_tokens, chunk_overlap)
        return ingest(
            self._handle.refresh(),
            self._handle.encoder_of,
            documents,
            chunking=chunking,
            fields=Fields.of(fields),
            skip_bad=skip_bad,
            delete_missing=delete_missing,
            progress=progress,
        )

    @checked
    def delete(self, ids: Iterable[str] | None = None, *, filter: models.Filter | None = None) -> int:
        """Delete documents, by their ids or by a filter.

        Args:
            ids: of documents; those that are not there do no harm.
            filter: instead, conditions on metadata keys, as in `search`; an empty one is refused.

        Returns:
            How many documents were deleted.

        Raises:
            InputError: not exactly one of the two is given, or the filter cannot be used.
        """
        self._check_open()
        collection = self._handle.refresh()
        collection.check_own("it deletes them")
        deleted = dual_write.delete(
            collection, self.matching_ids(ids, filter=filter), self._handle.encoder_of
        )
        try:
            mend(self._handle.refresh(), self._handle.encoder_of)
        except (
            ConnectorError
        ) as error:  # such as a model that is not here: the documents are gone all the same
            logger.warning("tokens of %r are not counted again: %s", self.name, error)
        return deleted

    def recount(self) -> int:
        """Count again in how many passages each token is, by which queries and passages are weighed.

        Texts are tokenized, not encoded. An ingest counts what it writes, and what is replaced or deleted
        stays counted until that is a fifth of the collection; then this happens by itself.

        Returns:
            How many passages are counted; 0 if the recipe weighs nothing by counts, and none are kept.

        Raises:
            ModelError: the collection's model cannot be loaded.
        """
        self._check_open()
        collection = self._handle.refresh()
        if not collection.frequencies.needed:
            return 0
        return recount(collection, self._handle.encoder_of(collection))

    @checked
    def matching_ids(
        self, ids: Iterable[str] | None = None, *, filter: models.Filter | None = None
    ) -> list[str]:
        """The ids of the documents that are there and have one of these ids, or match a filter."""
        self._check_open()
        wanted = ids if ids is None or isinstance(ids, str) else list(ids)  # it is read twice, perhaps
        self._handle.refresh()
        return self._handle.read(lambda collection: matching(collection, wanted, filter))

    @checked
    def search(self, query: str, k: int = 10, **options: Unpack[SearchKeywords]) -> Hits:
        """The k best documents for a query, each by its best passage.

        Args:
            query: not blank.
            k: how many documents.
            options: `filter`, `offset`, `min_similarity`, `mmr`, `group_by`, `group_size`, `rerank`,
                `candidates`, `candidates_by`, `fusion`, `feedback`, `like`, `unlike`, `search_again`,
                `alignment`, `long_query` and `timeout`, which `SearchOptions` describes.

        Returns:
            A list of hits; its `ms` says where the time went.

        Raises:
            InputError: an argument cannot be used.
            CollectionError: the collection cannot be searched as asked.
        """
        self._check_open()
        return self._searcher.alone(query, search_options(k=k, **options))

    @checked
    def search_batch(
        self,
        queries: Iterable[str],
        k: int = 10,
        *,
        batch_size: BatchSize = 64,
        **options: Unpack[SearchKeywords],
    ) -> Iterator[Hits]:
        """The hits of many queries, as `search` finds them, a batch at a time.

        The queries of a batch are encoded together, their candidates are found in one request, and they are
        scored in several threads, which takes less time than one search after another.

        Args:
            queries: none of them blank; may be a generator, which is read a batch at a time.
            k: how many documents for each.
            batch_size: queries of a batch.
            options: as in `search`; the timeout is that of a batch.

        Returns:
            The hits of each query in turn, to be gone through as they come: what is not kept takes no memory.
            In `ms` each has its share of what the batch took.

        Raises:
            InputError: an argument cannot be used; of a query, when its batch has its turn.
            CollectionError: the collection cannot be searched as asked.
        """
        self._check_open()
        if isinstance(queries, str | Mapping):
            raise InputError(f"queries is {queries!r:.80}; give a list of texts, or call search")
        chosen = search_options(k=k, **options)

        def found() -> Iterator[Hits]:
            self._check_open()
            for hits in self._searcher.batches(queries, chosen, batch_size):
                yield hits
                self._check_open()

        return found()

    @checked
    def explain(
        self,
        query: str,
        hit: Hit | str,
        **options: Unpack[SearchKeywords],
    ) -> Explanation:
        """Which words of the query and of a passage a score comes from.

        Args:
            query: not blank; of a hit, the query that found it.
            hit: a hit, or a document's id for its best passage.
            options: those of the search, which decide how passages are scored and what the candidates are
                by which scores are scaled.

        Returns:
            Pairs of words with their parts, which sum to the score.

        Raises:
            InputError: there is no such document, or the hit was not scored by words.
            CollectionError: what is stored is not what it was when the hit was found.
        """
        self._check_open()
        check_query(query)
        chosen = search_options(**options)

        def explained(collection: Collection) -> Explanation:
            encoder = self._handle.encoder_of(collection)
            (embedding,) = encode_queries(encoder, [query], chosen.long_query == "end")
            return explain(collection, encoder, embedding, hit, chosen)

        with within(chosen.timeout):
            return self._handle.read(explained)

    @checked
    def adapt(
        self, examples: Iterable[tuple[str, str]], *, save: bool = False, candidates: int | None = None
    ) -> Adaptation:
        """Choose the alignment, the fusion and feedback by a few examples.

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
        collection = self._handle.refresh()
        encoder = self._handle.encoder_of(collection)
        return adapt(collection, encoder, examples, save=save, candidates=candidates)

    @checked
    def adapt_to_queries(self, queries: Iterable[str], examples: Iterable[tuple[str, str]] = ()) -> QueryMean:
        """Centre query tokens by the mean of queries as people ask them, such as those of a log.

        Nobody has to judge them. Searches follow it from now on, those of other processes when they open the
        collection next; `connector adapt --reset` forgets it.

        Args:
            queries: at least 50 different ones.
            examples: pairs of a query and the id of a document that answers it; if the mean ranks them
                worse, nothing is changed.

        Raises:
            InputError: there are too few queries.
            CollectionError: the collection's codec centres nothing.
        """
        self._check_open()
        collection = self._handle.refresh()
        return adapt_to_queries(collection, self._handle.encoder_of(collection), queries, examples)

    @checked
    def get(self, ids: Iterable[str]) -> list[Document]:
        """Documents by their ids, in this order; those that are not there are left out.

        Their texts are as they were given. Of a document that was split before it was stored where passages
        begin, it is the passages, with a line break between them, and the log says so.
        """
        self._check_open()
        wanted = checked_ids(ids)
        self._handle.refresh()
        return self._handle.read(lambda collection: documents_of(collection, wanted))

    def count(self) -> int:
        """How many documents there are."""
        self._check_open()
        return self._handle.read(lambda collection: collection.documents())

    def stats(self) -> Stats:
        """What the collection holds and takes."""
        self._check_open()
        return self._handle.read(stats_of)

    def migrations(
        self,
        folder: str | os.PathLike[str],
        *,
        min_overlap: float = MIN_OVERLAP,
        report: Progress = lambda *_: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Migrations:
        """The revisions of a folder, to be applied to the collection: `migrations(folder).upgrade()`.

        Args:
            folder: the revisions, `.py` files as the repository's folder `migrations` has them.
            min_overlap: least mean overlap of the first ten hits of canary queries, 0 to 1; a new version
                with less is refused.
            report: told what is done, how many of its points are, and of how many.
            say: is told what a person should know.

        Raises:
            MigrationError: the folder holds no usable revisions.
        """
        self._check_open()
        return Migrations(self, Path(folder), min_overlap=min_overlap, report=report, say=say)

    @checked
    def similarities(self, queries: Iterable[str] | None = None) -> Similarities:
        """How alike queries and their hits are, to choose a `min_similarity` by.

        Args:
            queries: as people ask them; by default the canary queries of migrations, or some made of the
                collection's own texts, whose best hits are then more alike than those of real ones.

        Raises:
            InputError: there are no queries.
        """
        self._check_open()
        return similarities(self._handle, self._searcher, queries)

    @checked
    def export(
        self, folder: str | os.PathLike[str], *, progress: Callable[[str, int, int], None] | None = None
    ) -> Manifest:
        """Write all of the collection to a folder, which `restore` makes a collection of.

        Args:
            folder: missing, or an earlier export, which is replaced.
            progress: told what is done, how many of its points are, and of how many.

        Raises:
            TransferError: the folder cannot be written, or the collection changes.
            MissingExtra: pyarrow is not installed.
        """
        self._check_open()
        return export_collection(self._handle.refresh(), folder, progress)

    @classmethod
    @checked
    def restore(
        cls,
        folder: str | os.PathLike[str],
        name: str | None = None,
        *,
        path: str | os.PathLike[str] | None = None,
        url: str | None = None,
        api_key: str | None = None,
        client: Client | None = None,
        model: Model | None = None,
        device: str | None = None,
        progress: Callable[[str, int, int], None] | None = None,
        **server: Unpack[NewCollectionKeywords],
    ) -> Connector:
        """Make a collection of what `export` wrote, and open it; nothing is encoded.

        Args:
            folder: the export.
            name: of the new collection; by default that of the exported one.
            path, url, api_key, client: where it is to be, as in `create`.
            model: only if the model has moved, as in `open`.
            device: such as "cpu" or "cuda"; by default the best there is.
            progress: told what is done, how many of its points are, and of how many.
            server: as in `create`.

        Raises:
            TransferError: the folder is not an export, or is damaged.
            CollectionExists: the name is taken.
            StoreError: the folder is locked, or no server answers.
        """
        with _made(path=path, url=url, api_key=api_key, client=client, **server) as (store, spread):
            collection = import_collection(store, folder, name, progress, spread)
            return cls(CollectionHandle(collection, model, device), created=True)

    def detach(self) -> None:
        """Take away what `attach` added to another program's collection, and close.

        Raises:
            CollectionError: the collection is not attached.
        """
        self._check_open()
        detach(self._handle.refresh())
        self.close()

    def drop(self) -> None:
        """Delete the collection with all its versions, and close.

        Raises:
            StoreLocked: it is being migrated.
            CollectionError: it is another program's; `detach` takes away what was added to it.
        """
        self._check_open()
        self.collection.check_own("it is not for this library to drop; detach it")
        drop_all(self._store, self.name)
        self.close()

    def close(self) -> None:
        """Release the folder or connection, and the model. Calling it twice is harmless."""
        if not self._closed:
            self._closed = True
            self._store.close()
            self._handle.close()

    def __enter__(self) -> Connector:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Connector({self.name!r}, {self._store.location!r}, recipe={self._handle.seen.recipe.name!r})"

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(f"this connector of {self.name!r} is closed; open it again")
        self._opened.check()

"""A folder that an export wrote to a collection, which is there whole or not at all."""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path

from connector.collection.backup.export import Progress
from connector.collection.backup.manifest import ARTIFACTS, PASSING, Manifest, Part, check_file, read_manifest
from connector.collection.backup.part_files import read
from connector.collection.collection import CODEC_FILE, Collection
from connector.collection.documents.frequencies import FREQUENCIES_FILE
from connector.collection.metadata import CollectionMetadata, stored_form
from connector.collection.versions.aliases import check_free, names, next_version, versions
from connector.compression.reduction import Frequencies
from connector.core.errors import CollectionError, InputError, TransferError, one_line
from connector.core.io import parquet
from connector.stores import Point, Store
from connector.stores.schema import Distribution

logger = logging.getLogger(__name__)


_IMPORT = "import:"


def import_collection(
    store: Store,
    folder: str | os.PathLike[str],
    name: str | None = None,
    progress: Progress | None = None,
    spread: Distribution | None = None,
) -> Collection:
    """Make a collection of an export. No encoder is needed.

    Everything is read and checked before anything is written. What is written has no name until it is whole;
    a run that was killed is gone on with by running it again.

    Args:
        store: where.
        folder: what `export_collection` wrote.
        name: of the new collection; by default that of the exported one.
        progress: called after each part, which is first checked, then imported.
        spread: how a server keeps it; by default as the exported one was kept.

    Raises:
        TransferError: the folder is not an export, is not whole, was changed, or a newer version wrote it.
        CollectionExists: the name is taken.
        InputError: the name cannot be used.
        MissingExtra: pyarrow is not installed, or what the collection's recipe needs.
        StoreLocked: another import or a migration of this name is running.
    """
    parquet()
    folder, progress = Path(folder).expanduser(), progress or (lambda *_: None)
    manifest = read_manifest(folder)
    name = manifest.collection if name is None else name
    there = name in names(store) and store.info(name).get("imported") == manifest.sha256
    if there and not _miscount(store, name, manifest):  # a run may be killed when all is done
        logger.warning("collection %r was made of this export before, and is left as it is", name)
        return Collection(store, name)
    check_free(store, name)
    export = _Export(folder, manifest)
    export.check(progress)
    with store.lease(name) as lease:
        check_free(store, name)
        physical = _unfinished(store, name, export.building)
        if physical is None:
            physical = next_version(store, name)
            made = export.metadata.made_in(store, physical)
            made = made if spread is None else made.model_copy(update={"copies": spread})
            said = export.info | stored_form(turbo=made.turbo, copies=made.copies)
            store.create(physical, made.collection_schema, said)
        for file in manifest.artifacts:
            store.put_artifact(physical, Path(file.name).name, (folder / file.name).read_bytes())
        done = 0
        for part in manifest.parts:
            points = export.points(part)
            lease.check()
            if not store.retrieve(physical, [points[-1].id], []):  # else all before it are there, too
                store.upsert(physical, points)
            progress("Importing", done := done + part.points, manifest.points)
        store.finish(physical)
        if problem := _miscount(store, physical, manifest):
            store.drop(physical)
            raise TransferError(f"{problem} of the export; run the import again")
        lease.check()
        check_free(store, name)  # version 0.1 needed no lease to make a collection
        store.set_info(physical, stored_form(building=None))
        store.switch(name, physical)
    return Collection(store, name)


def _miscount(store: Store, name: str, manifest: Manifest) -> str | None:
    """Of what a collection holds another number than the export, if of anything."""
    there = Collection(store, name)
    counts = (
        ("documents", there.documents(), manifest.documents),
        ("passages", there.passages(), manifest.passages),
        ("points", store.count(there.physical), manifest.points),
    )
    wrong = (f"{here:,} {what} arrived of the {given:,}" for what, here, given in counts if here != given)
    return next(wrong, None)


def _unfinished(store: Store, name: str, building: str) -> str | None:
    """What a killed import of this export has made, if any.

    What others have left is removed, as no name leads to it: it is of another export, or it was whole, and
    nobody knows what was written to it since.
    """
    found = None
    for physical in versions(store, name):
        info = store.info(physical)
        now = info.get("building", "")
        if now == building:
            found = physical
        elif now.startswith(_IMPORT) or ("imported" in info and not now):
            store.drop(physical)
    return found


class _Export:
    """An export that is to be imported: what it describes, and its points.

    Raises:
        TransferError: its description is none that this version can use.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest, self.building = folder, manifest, _IMPORT + manifest.sha256
        self.info = {key: value for key, value in manifest.info.items() if key not in PASSING}
        self.info |= {"uid": uuid.uuid4().hex, "imported": manifest.sha256, "building": self.building}
        try:
            self.metadata = CollectionMetadata.read(manifest.collection, self.info)
            self.schema, self.recipe = self.metadata.collection_schema, self.metadata.recipe
        except (CollectionError, TypeError, ValueError, RecursionError) as error:
            raise TransferError(
                f"{folder} describes no collection that can be made here ({one_line(str(error))}); export it "
                f"again, or import it with version {manifest.library} of this library"
            ) from error

    def points(self, part: Part) -> list[Point]:
        """The points of a part."""
        files = self.folder / part.table.name, self.folder / part.vectors.name
        return read(*files, part.points, self.schema, self.metadata.words)

    def check(self, progress: Progress) -> None:
        """Read all of it.

        Raises:
            TransferError: a file is missing or was changed, or holds something else.
        """
        for file in self.manifest.files:
            check_file(self.folder, file)
        self._check_artifacts()
        done, last = 0, ""
        for part in self.manifest.parts:
            for point in self.points(part):
                if point.id <= last:
                    raise TransferError(
                        f"{part.table.name} in {self.folder} is not in order; export it again"
                    )
                last = point.id
            progress("Checking", done := done + part.points, self.manifest.points)

    def _check_artifacts(self) -> None:
        there = {Path(file.name).name: self.folder / file.name for file in self.manifest.artifacts}
        for key in (CODEC_FILE, FREQUENCIES_FILE):
            if (key in there) != (key.partition(".")[0] in self.info):
                raise TransferError(
                    f"{self.folder} and its description do not agree on {key}; export it again"
                )
        try:
            if CODEC_FILE in there:
                codec = self.recipe.make_codec().load(there[CODEC_FILE].read_bytes())
                if codec.fingerprint != self.metadata.codec:
                    raise InputError(f"its fingerprint is not {self.metadata.codec}")
            if FREQUENCIES_FILE in there:
                Frequencies().load(there[FREQUENCIES_FILE].read_bytes())
        except InputError as error:
            raise TransferError(f"{self.folder / ARTIFACTS}: {error}; export the collection again") from error

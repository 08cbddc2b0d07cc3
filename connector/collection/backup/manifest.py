"""What an export says of itself, and whether its files are what it says.

An export is a folder:

    manifest.json               `Manifest`, with a digest of itself
    points-00000.parquet, …     ids, texts, metadata and numbers, a row a point
    vectors-00000.safetensors   vectors and codes of the same points, in the same order
    artifacts/                  the codec's arrays and the token frequencies

It holds no time and nothing of the machine: two exports of the same content are equal, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from connector.collection.collection import CANARIES_FILE, CODEC_FILE
from connector.collection.metadata import FREQUENCIES_FILE
from connector.core.errors import TransferError

FORMAT = 1


MANIFEST_FILE = "manifest.json"


ARTIFACTS = "artifacts"


ARTIFACT_FILES = (CODEC_FILE, FREQUENCIES_FILE, CANARIES_FILE)


LOCK_FILE = "lock"
"""Held while the folder is written; no part of an export."""


PASSING = ("building", "filling", "frozen", "imported", "lock", "rebuild", "route")
"""Keys of a description that are about what is being done with a collection, not about its content."""


MAX_POINTS = 4096
"""Of one part, so that memory stays bounded."""


MAX_BYTES = 2**30
"""Of one file; parts are cut at a fraction of it, so that only something else is larger."""


_WHAT = "export of qdrant-late-interaction"


_CHUNK = 2**20


Count = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class File(_Model):
    """A file of an export.

    Args:
        name: its path in the folder; none of the names that are allowed leaves it.
        size: bytes.
        sha256: of its content, in hexadecimal digits.
    """

    name: Annotated[str, Field(pattern=r"^(artifacts/)?[a-z]+(-[0-9]{5,9})?\.[a-z]+$")]
    size: Annotated[int, Field(ge=0, le=MAX_BYTES)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @classmethod
    def of(cls, name: str, data: bytes) -> File:
        """What there is to say of a file with this content."""
        return cls(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


class Part(_Model):
    """Some thousand points, in two files.

    Args:
        points: how many.
        table, vectors: the files.
    """

    points: Annotated[int, Field(ge=1, le=MAX_POINTS)]
    table: File
    vectors: File


class Manifest(_Model):
    """All that an export holds.

    Args:
        what: says that it is an export of this library.
        format: version of the layout of the folder.
        library: version of this library that wrote it.
        collection: what the collection was called.
        info: what it said of itself; `connector.collection.metadata` tells the keys.
        documents, passages: how many; more passages than documents where texts were split.
        points: passages, and marks of documents whose ingest was killed.
        parts: the files with the points, in order.
        artifacts: the files with what is kept beside the points.
        sha256: of the manifest with this field empty.
    """

    what: str = _WHAT
    format: int = FORMAT
    library: str
    collection: str
    info: dict[str, str]
    documents: Count
    passages: Count
    points: Count
    parts: list[Part]
    artifacts: list[File]
    sha256: str = ""

    @property
    def files(self) -> Iterator[File]:
        """All files but the manifest."""
        for part in self.parts:
            yield from (part.table, part.vectors)
        yield from self.artifacts

    @property
    def count(self) -> int:
        """Of all files, the manifest too."""
        return 1 + 2 * len(self.parts) + len(self.artifacts)

    @property
    def size(self) -> int:
        """Bytes of all files, the manifest too."""
        return len(self.text()) + sum(file.size for file in self.files)

    def signed(self) -> Manifest:
        """The same with its digest."""
        bare = self.model_copy(update={"sha256": ""})
        return bare.model_copy(update={"sha256": hashlib.sha256(bare.text()).hexdigest()})

    def text(self) -> bytes:
        """The one form that it is written in."""
        return json.dumps(self.model_dump(), indent=1, ensure_ascii=False, sort_keys=True).encode() + b"\n"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an export; its other files are not looked at.

    Raises:
        TransferError: there is none, a newer version wrote it, or it was changed.
    """
    path = Path(folder) / MANIFEST_FILE
    try:
        raw = regular(path).read_bytes() if regular(path).stat().st_size <= MAX_BYTES else b""
    except OSError as error:
        raise TransferError(
            f"{folder} is no export of a collection: {path.name} cannot be read ({error.strerror}); give the "
            "folder that `connector export` wrote"
        ) from error
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise TransferError(f"{path} is not JSON ({error}); export the collection again") from error
    if not isinstance(said, dict) or said.get("what") != _WHAT:
        raise TransferError(
            f"{path} is no manifest of an export; give a folder that `connector export` wrote"
        )
    if said.get("format") != FORMAT:
        raise TransferError(
            f"{path} has format {said.get('format')!r}, this version reads {FORMAT}; upgrade this library"
        )
    try:
        manifest = Manifest.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise TransferError(f"{path}: {where}: {first['msg']}; export the collection again") from error
    if manifest.signed().text() != raw:
        raise TransferError(f"{path} was changed after it was written; export the collection again")
    _check_names(manifest, path)
    return manifest


def _check_names(manifest: Manifest, path: Path) -> None:
    numbered = [
        (f"points-{n:05d}.parquet", f"vectors-{n:05d}.safetensors") for n in range(len(manifest.parts))
    ]
    named = [(part.table.name, part.vectors.name) for part in manifest.parts]
    artifacts = [file.name for file in manifest.artifacts]
    known = {f"{ARTIFACTS}/{name}" for name in ARTIFACT_FILES}
    if named != numbered or len(set(artifacts)) != len(artifacts) or not set(artifacts) <= known:
        raise TransferError(f"{path} names files that no export has; export the collection again")
    if manifest.points != sum(part.points for part in manifest.parts):
        raise TransferError(f"{path} counts other points than its parts; export the collection again")


def regular(path: Path) -> Path:
    """The path, if a file is there and not a link, which could lead elsewhere, a folder or a pipe.

    Raises:
        OSError: it is not.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(None, "it is not a plain file", str(path))
    return path


def check_file(folder: Path, file: File) -> None:
    """Raises TransferError unless a file of an export is there, whole and unchanged."""
    path = folder / file.name
    try:
        if path.parent != folder and path.parent.is_symlink():
            raise OSError(None, "its folder is a link", str(path))
        size = regular(path).stat().st_size
        if size != file.size:
            raise TransferError(f"{path} has {size:,} bytes instead of {file.size:,}; restore the file")
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise TransferError(f"{path} cannot be read ({error.strerror}); restore the file") from error
    if digest.hexdigest() != file.sha256:
        raise TransferError(f"{path} has another content than was written (SHA-256); restore the file")


def ours(folder: Path) -> bool:
    """Whether a folder holds an export, whole or not, and nothing else: then it may be replaced."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    known = {MANIFEST_FILE, LOCK_FILE, *(f"{ARTIFACTS}/{name}" for name in ARTIFACT_FILES)}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            return False
        if path.is_dir():
            if name != ARTIFACTS:
                return False
        elif name not in known and not _is_part(name):
            return False
    return True


def _is_part(name: str) -> bool:
    stem, _, kind = name.partition(".")
    word, _, number = stem.partition("-")
    return (word, kind) in (("points", "parquet"), ("vectors", "safetensors")) and number.isdecimal()

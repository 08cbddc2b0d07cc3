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
import re
import stat
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from connector.collection.collection import CANARIES_FILE, CODEC_FILE
from connector.collection.documents.frequencies import FREQUENCIES_FILE
from connector.core.errors import TransferError, one_line

MANIFEST_FILE = "manifest.json"


ARTIFACTS = "artifacts"


ARTIFACT_FILES = (CODEC_FILE, FREQUENCIES_FILE, CANARIES_FILE)


LOCK_FILE = "lock"
"""Held while the folder is written; no part of an export."""


PASSING = ("building", "filling", "frozen", "imported", "lock", "rebuild", "route", "waiting")
"""Keys of a description that are about what is being done with a collection, not about its content."""


MAX_POINTS = 4096
"""Of one part, so that memory stays bounded."""


MAX_BYTES = 2**30
"""Of one file; parts are cut at a fraction of it, so that only something else is larger."""


_ARTIFACT_NAMES = [f"{ARTIFACTS}/{name}" for name in ARTIFACT_FILES]


_PART_FILE = re.compile(r"points-[0-9]{5,9}\.parquet|vectors-[0-9]{5,9}\.safetensors")


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

    what: Literal["export of qdrant-late-interaction"] = "export of qdrant-late-interaction"
    format: Literal[1] = 1
    library: str
    collection: str
    info: dict[str, str]
    documents: Count
    passages: Count
    points: Count
    parts: list[Part]
    artifacts: list[File]
    sha256: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [file.name for file in self.files]
        parts = [name for number in range(len(self.parts)) for name in part_names(number)]
        if names != parts + [name for name in _ARTIFACT_NAMES if name in names]:
            raise ValueError("it names files that no export has")
        if self.points != sum(part.points for part in self.parts):
            raise ValueError("it counts other points than its parts")
        return self

    @property
    def files(self) -> list[File]:
        """All files but the manifest."""
        return [file for part in self.parts for file in (part.table, part.vectors)] + self.artifacts

    @property
    def count(self) -> int:
        """Of all files, the manifest too."""
        return 1 + len(self.files)

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


def part_names(number: int) -> tuple[str, str]:
    """The names of a part's two files."""
    return f"points-{number:05d}.parquet", f"vectors-{number:05d}.safetensors"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an export; its other files are not looked at.

    Raises:
        TransferError: there is none, a newer version wrote it, or it was changed.
    """
    path = Path(folder) / MANIFEST_FILE
    try:
        raw = regular(path).read_bytes() if regular(path).stat().st_size <= MAX_BYTES else b""
        manifest = Manifest.model_validate_json(raw)
    except OSError as error:
        raise TransferError(
            f"{folder} is not an export of a collection: {path.name} cannot be read ({error.strerror}); "
            "give the folder that `connector export` wrote"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        remedy = "upgrade this library" if where == "format" else "export the collection again"
        why = one_line(f"{where}: {first['msg']}" if where else first["msg"])
        raise TransferError(f"{path} is not a manifest of an export ({why}); {remedy}") from error
    if manifest.signed().text() != raw:
        raise TransferError(f"{path} was changed after it was written; export the collection again")
    return manifest


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
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise TransferError(f"{path} cannot be read ({error.strerror}); restore the file") from error
    if digest != file.sha256:
        raise TransferError(f"{path} has another content than was written (SHA-256); restore the file")


def is_export(folder: Path) -> bool:
    """Whether a folder holds an export, whole or not, and nothing else: then it may be replaced."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    known = {MANIFEST_FILE, LOCK_FILE, *_ARTIFACT_NAMES}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        ours = name == ARTIFACTS if path.is_dir() else name in known or _PART_FILE.fullmatch(name)
        if path.is_symlink() or not ours:
            return False
    return True

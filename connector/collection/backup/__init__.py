"""Collections to folders and back: a backup, and the way between Edge and a server."""

from connector.collection.backup.export import export_collection
from connector.collection.backup.manifest import Manifest, read_manifest
from connector.collection.backup.restore import import_collection

__all__ = ["Manifest", "export_collection", "import_collection", "read_manifest"]

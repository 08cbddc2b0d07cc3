"""Collections to folders and back: a backup, and the way between Edge and a server."""

from connector.transfer.exporting import ExportReport, export_collection
from connector.transfer.importing import import_collection
from connector.transfer.manifest import Manifest, read_manifest

__all__ = ["ExportReport", "Manifest", "export_collection", "import_collection", "read_manifest"]

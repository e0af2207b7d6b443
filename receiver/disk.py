"""What a file needs beyond its own bytes to be there after a power cut. Blocking."""

import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Brings the folder's names to the disk: a file that was made or renamed may be gone otherwise. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Zip archives of tensors, tested before anything of them is unpacked."""

import zipfile
from pathlib import Path

# What reading a damaged archive ends in; an encrypted one is a RuntimeError.
_FAULTS = (OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OverflowError)


def damage_of(path: Path) -> str | None:
    """What is wrong with a file that is a zip archive, as PyTorch writes them; None where nothing is, or it is none.

    PyTorch reads its archive without testing the sums in it, so a flipped bit would pass for a weight, and it unpacks
    whatever the archive promises. It never compresses, so all that is in an archive is no larger than its file.
    """
    try:
        if not zipfile.is_zipfile(path):
            return None
        with zipfile.ZipFile(path) as archive:
            unpacked, held = sum(part.file_size for part in archive.infolist()), path.stat().st_size
            if unpacked > held:
                return f"its {held} bytes would unpack to {unpacked}, and a checkpoint is not compressed"
            damaged = archive.testzip()
    except _FAULTS as error:
        return str(error)
    return None if damaged is None else f"in its part '{damaged}'"

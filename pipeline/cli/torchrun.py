"""What `torchrun` tells of a process that failed, below its own traceback: that process's own sentence."""

import contextlib
import json
import os
import time
from pathlib import Path

# torchrun names the earliest failure as the cause, in whole seconds; what others' end brought about comes behind it.
_CONSEQUENCE_SECONDS = 60


def tell_torchrun(said: str, *, is_cause: bool = True) -> None:
    """Leave a sentence where torchrun, if it started this process, looks for why it failed (its error file).

    Parameters
    ----------
    is_cause
        Not merely what another process's end brought about.
    """
    name = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not name:
        return
    noticed_seconds = int(time.time()) + (0 if is_cause else _CONSEQUENCE_SECONDS)
    content = {"message": {"message": said, "extraInfo": {"timestamp": str(noticed_seconds)}}}
    with contextlib.suppress(OSError):
        Path(name).write_text(json.dumps(content), encoding="utf-8")

"""Video ids as names of HDF5 groups and of files: readable, reversible, unable to leave their place."""

import hashlib
from pathlib import Path
from urllib.parse import quote, unquote

from ..errors import EtadError

# A file name may have 255 bytes; what is cut off a longer one is read from inside the file.
_LONGEST_STEM = 180
_LONGEST_ID = 4096


def escape(video_id: str) -> str:
    """Turn an id into one path component of plain ASCII that no file system and no HDF5 path reads as more.

    Letters, digits, `_`, `-` and `.` stay; all else becomes %XX of its UTF-8 bytes, and so does a leading dot.

    Raises
    ------
    EtadError
        The id is empty, is no valid text, or is longer than any real one.

    Examples
    --------
    >>> escape("v_Qo-3.1"), escape("../../etc/passwd"), escape("..")
    ('v_Qo-3.1', '%2E.%2F..%2Fetc%2Fpasswd', '%2E.')
    """
    if not video_id:
        raise EtadError("a video id is empty. Give every video a name.")
    if len(video_id) > _LONGEST_ID:
        raise EtadError(
            f"video id '{video_id[:60]}...' has {len(video_id)} characters, at most {_LONGEST_ID} are kept. Shorten it."
        )
    try:
        name = quote(video_id, safe="")
    except UnicodeEncodeError as error:
        raise EtadError(f"video id {video_id!r} has bytes that are no text. Rename the video in UTF-8.") from error
    return "%2E" + name[1:] if name.startswith(".") else name


def unescape(name: str) -> str:
    """Undo `escape`.

    Examples
    --------
    >>> unescape(escape("../a b"))
    '../a b'
    """
    return unquote(name) if "%" in name else name


def part_name(video_id: str) -> str:
    """Name the file of one video: the escaped id, then a digest that also tells `A` from `a` on any file system.

    Examples
    --------
    >>> part_name("v_Qo"), part_name("v_qo")
    ('v_Qo~1660075a.h5', 'v_qo~18b57519.h5')
    """
    name = escape(video_id)
    digest = hashlib.sha256(video_id.encode()).hexdigest()
    if len(name) <= _LONGEST_STEM:
        return f"{name}~{digest[:8]}.h5"
    return f"{name[:100]}~{digest}.h5"


def id_of_part(path: Path) -> str | None:
    """Read the id off a part file's name; None where the id was too long for it, or the name is not ours.

    Examples
    --------
    >>> id_of_part(Path("features.h5.parts") / part_name("a/b"))
    'a/b'
    """
    video_id = unescape(path.name.removesuffix(".h5").rpartition("~")[0])
    return video_id if video_id and part_name(video_id) == path.name else None

"""Files whose names do not say that they are videos: looked into, by what is in them."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from pathlib import Path

import av
from av.stream import Disposition

NO_FORMAT = "in no video format known here"
# Formats of pictures, text, captions, lists of other files, devices and the network: never a video of ours.
_NOT_VIDEOS = frozenset(
    {
        *("adf", "alias_pix", "alsa", "apng", "aqtitle", "ass", "bin", "brender_pix", "concat", "dash", "data"),
        *("dvbsub", "dvbtxt", "fbdev", "ffmetadata", "fits", "gif", "hls", "ico", "idf", "image2", "image2pipe"),
        *("imf", "jacosub", "jpegxl_anim", "kmsgrab", "lavfi", "lrc", "mcc", "microdvd", "mpl2", "mpsub", "oss"),
        *("pjs", "rawvideo", "rcwt", "realtext", "rtp", "rtsp", "sami", "sap", "sbg", "scc", "sdp", "srt", "stl"),
        *("subviewer", "subviewer1", "sup", "tedcaptions", "tty", "txd", "v210", "v210x", "video4linux2", "v4l2"),
        *("vobsub", "vplayer", "webm_dash_manifest", "webvtt", "x11grab", "xbin"),
    }
)
_IMAGE_FORMATS = "_pipe"
# Photographs in the container of MP4 (HEIF, AVIF), by the brand that it names first.
_IMAGE_BRANDS = frozenset({"avif", "heic", "heim", "heis", "heix", "mif1", "miaf"})


@functools.lru_cache(maxsize=65536)
def why_no_video(path: Path, stamp: Hashable) -> str | None:
    """Say why a file is passed over; None where a first frame of a video in it can be decoded.

    Parameters
    ----------
    stamp
        Changes when the file does: it is looked into once for as long as it is the same.
    """
    if not path.is_file():
        return "no regular file"
    if not path.stat().st_size:
        return "empty"
    try:
        options = {"protocol_whitelist": "file", "format_whitelist": ",".join(_video_formats())}
        with av.open(str(path.resolve()), metadata_errors="ignore", container_options=options) as container:
            streams = [
                stream
                for stream in container.streams.video
                if stream.codec_context and not stream.disposition & Disposition.attached_pic
            ]
            if container.metadata.get("major_brand") in _IMAGE_BRANDS:
                return NO_FORMAT
            if not streams:
                return "it holds sound alone" if container.streams.audio else NO_FORMAT
            return None if _has_frame(container) else "no frame of its video can be decoded"
    except (av.FFmpegError, OSError) as error:
        return f"cannot be read ({error.strerror})" if isinstance(error, PermissionError) else NO_FORMAT


def _has_frame(container: av.container.InputContainer) -> bool:
    for packet in container.demux(video=0):
        try:
            if packet.decode():
                return True
        except av.FFmpegError:
            continue
    return False


@functools.cache
def _video_formats() -> tuple[str, ...]:
    names = []
    for name in sorted(av.formats_available):
        if not _NOT_VIDEOS & set(name.split(",")) and not name.endswith(_IMAGE_FORMATS):
            try:
                av.ContainerFormat(name, "r")
            except ValueError:
                continue  # it can be written alone
            names.append(name)
    return tuple(names)

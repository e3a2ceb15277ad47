"""A piece of a blob on the wire: a JSON object that says what it is, and its bytes, in one message."""

import json
import struct
from typing import Any

CONTROL, PUT, GET = "/tenfold.control/", "/tenfold.bulk/put", "/tenfold.bulk/get"
"""Methods: the first is followed by the method of a message."""
_LENGTH = struct.Struct(">I")


def framed(what: dict[str, Any], data: bytes | memoryview) -> bytes:
    """Four bytes that say how long the JSON is, the JSON, the bytes."""
    head = json.dumps(what).encode()
    return b"".join((_LENGTH.pack(len(head)), head, data))


def unframed(message: bytes) -> tuple[dict[str, Any], bytes]:
    """What `framed` put together. Raises ValueError for anything else."""
    if len(message) < _LENGTH.size:
        raise ValueError(f"{len(message)} bytes are no piece")
    end = _LENGTH.size + _LENGTH.unpack_from(message)[0]
    if end > len(message):
        raise ValueError("a piece that is cut off")
    what = json.loads(message[_LENGTH.size : end])
    if not isinstance(what, dict):
        raise ValueError("not a JSON object")
    return what, message[end:]

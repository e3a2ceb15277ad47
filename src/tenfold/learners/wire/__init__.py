"""The wire between learners and syncer: Apache Arrow Flight, control apart from bulk. Front door."""

from tenfold.learners.wire.answers import Blob, Handler, Refused, Unreachable
from tenfold.learners.wire.link import Link, parse_address, reached
from tenfold.learners.wire.measure import LinkMeasure
from tenfold.learners.wire.security import Security, check_security, is_loopback
from tenfold.learners.wire.server import BlobServer

__all__ = [
    "Blob",
    "BlobServer",
    "Handler",
    "Link",
    "LinkMeasure",
    "Refused",
    "Security",
    "Unreachable",
    "check_security",
    "is_loopback",
    "parse_address",
    "reached",
]

"""The wire between learners and syncer: Apache Arrow Flight, control apart from bulk. Front door."""

from tenfold.cluster.wire.answers import Blob, Handler, Refused, Unreachable
from tenfold.cluster.wire.link import Link, parse_address, reached
from tenfold.cluster.wire.measure import LinkMeasure
from tenfold.cluster.wire.security import Security, check_security
from tenfold.cluster.wire.server import BlobServer

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
    "parse_address",
    "reached",
]

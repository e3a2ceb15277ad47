"""The wire between learners and syncer: gRPC, control apart from bulk. Front door."""

from tenfold.learners.messages import NotAdmitted, Refused, Unreachable
from tenfold.learners.wire.channels import Channels
from tenfold.learners.wire.link import Link, LinkMeasure, parse_address, reached
from tenfold.learners.wire.security import Security, check_security, is_loopback
from tenfold.learners.wire.server import Blob, BlobServer, Handler

__all__ = [
    "Blob",
    "BlobServer",
    "Channels",
    "Handler",
    "Link",
    "LinkMeasure",
    "NotAdmitted",
    "Refused",
    "Security",
    "Unreachable",
    "check_security",
    "is_loopback",
    "parse_address",
    "reached",
]

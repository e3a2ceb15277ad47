# What other rooms may use of this one. The package loads each name when it is first asked for.
from .auditing import AuditReport as AuditReport
from .auditing import audit as audit
from .build import build_corpus as build_corpus
from .corpus import HoldoutDocument as HoldoutDocument
from .corpus import load_holdout as load_holdout
from .corpus import token_byte_lengths as token_byte_lengths
from .inputs import Inputs as Inputs
from .listing import sources_of as sources_of
from .losses import funnel_line as funnel_line
from .losses import loss_warnings as loss_warnings
from .manifest import Manifest as Manifest
from .manifest import asked_for as asked_for
from .manifest import audit_passed as audit_passed
from .stream import Stream as Stream
from .workspace import Workspace as Workspace
from .workspace import open_workspace as open_workspace

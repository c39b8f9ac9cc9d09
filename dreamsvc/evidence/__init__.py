"""The evidence guard: before two memories become one, their texts are compared, not only their vectors."""

from dreamsvc.evidence.changing import Change, change
from dreamsvc.evidence.comparing import Conflict, Kind, conflict, same_text
from dreamsvc.evidence.reading import Signature, signature

__all__ = ["Change", "Conflict", "Kind", "Signature", "change", "conflict", "same_text", "signature"]

"""Client of a dreamsvc server: thin calls over gRPC with the generated messages of `dreamsvc.v1`."""

from dreamsvc_client.client import Client
from dreamsvc_client.errors import DreamsvcCallError
from dreamsvc_client.files import detect_format

__all__ = ["Client", "DreamsvcCallError", "detect_format"]

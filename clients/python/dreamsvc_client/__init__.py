"""Client of a dreamsvc server: thin calls over gRPC with the generated messages of `dreamsvc.v1`."""

from dreamsvc_client.client import Client
from dreamsvc_client.credentials import Credentials, CredentialsError
from dreamsvc_client.errors import DreamsvcCallError
from dreamsvc_client.files import detect_format

__all__ = ["Client", "Credentials", "CredentialsError", "DreamsvcCallError", "detect_format"]

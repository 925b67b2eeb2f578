"""A hub of one's own: what huggingface_hub asks for, and files behind it that fail to come on purpose."""

from hubkit.certificate import make_certificate
from hubkit.server import Fault, Hub

__all__ = ["Fault", "Hub", "make_certificate"]

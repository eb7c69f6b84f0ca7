"""A registry of packages: a folder in which names have versions, and versions never change."""

from modelbuild.registry.entries import Entry
from modelbuild.registry.references import Reference, parse_reference
from modelbuild.registry.registration import Registration, registration
from modelbuild.registry.store import Registry
from modelbuild.registry.versions import Version

__all__ = ["Entry", "Reference", "Registration", "Registry", "Version", "parse_reference", "registration"]

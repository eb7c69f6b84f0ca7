"""The fixtures of a package as small as it can be."""

from runtime_package import embeddings, model_file, package

__all__ = ["embeddings", "model_file", "package"]

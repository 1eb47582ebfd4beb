"""CNTK's models of version 2, `.dnn` and `.model`, read without CNTK."""

from importers.cntk.read import read

__all__ = ["read"]

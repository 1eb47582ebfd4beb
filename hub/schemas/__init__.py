"""File formats that are Protocol Buffers: our own minimal descriptions of them, ready to use.

`<name>.proto` is the description, `<name>.desc` the same compiled (`python -m tools.schemas`). The
messages live in a pool of their own, so that the modules of the framework itself, if one is loaded,
do not clash with them.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["Messages", "messages"]


class Messages:
    """The message classes of one schema, as attributes: `messages("caffe").NetParameter`."""

    def __init__(self, name: str) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool

        data = (files("hub.schemas") / f"{name}.desc").read_bytes()
        self._package = f"hub.{name}"
        self._pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
            self._pool.Add(file)

    def __getattr__(self, name: str) -> Any:
        from google.protobuf import message_factory

        try:
            descriptor = self._pool.FindMessageTypeByName(f"{self._package}.{name}")
        except KeyError:
            raise AttributeError(f"{self._package} has no message {name}") from None
        message = message_factory.GetMessageClass(descriptor)
        setattr(self, name, message)
        return message


@cache
def messages(name: str) -> Messages:
    """The messages of the schema `name`: "caffe", "coreml" or "mil"."""
    return Messages(name)

"""The compiled descriptions of file formats are those of their sources."""

from __future__ import annotations

import pytest
from conftest import need

need("grpc_tools")

from tools.schemas import FOLDER, compiled  # noqa: E402


@pytest.mark.parametrize("proto", sorted(FOLDER.glob("*.proto")), ids=lambda path: path.stem)
def test_a_descriptor_is_current(proto) -> None:
    assert proto.with_suffix(".desc").read_bytes() == compiled(proto), "run python -m tools.schemas"

"""What the tests of this room share."""

from pathlib import Path

import pytest

from tests.integration.bank import Bank


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    """Two tenants, `t0` and `t1`, on topics of their own."""
    return Bank(tmp_path / "bank", "bank")

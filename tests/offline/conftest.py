"""An offline Runflow that decides at once and retries quickly, and a client that holds its key."""

from collections.abc import AsyncIterator

import httpx
import pytest

from receiver.offline import OfflineRunflow

KEY = "rf_live_offline_tests"


@pytest.fixture
async def runflow() -> AsyncIterator[OfflineRunflow]:
    """Runs for one test, on a free port."""
    async with OfflineRunflow(
        secret="whsec_offline_tests", api_key=KEY, decide_delay=0, retries=(0.01, 0.02, 0.04), callback_timeout=60
    ) as running:
        yield running


@pytest.fixture
async def api(runflow: OfflineRunflow) -> AsyncIterator[httpx.AsyncClient]:
    """A client of its API with the right key."""
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=runflow.url, headers=headers, trust_env=False, timeout=30) as client:
        yield client

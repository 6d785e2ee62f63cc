from collections.abc import Iterator
from typing import Any

import pytest
from scripted_service import AUDIENCE, ISSUER, ScriptedService

from portcullis_verifier import Verifier


@pytest.fixture
def service() -> Iterator[ScriptedService]:
    service = ScriptedService()
    yield service
    service.shutdown()
    service.server_close()


class Verifiers:
    """Makes verifiers of a service, with a bound that passes soon, and closes them."""

    def __init__(self, service: ScriptedService) -> None:
        self._service = service
        self._open: list[Verifier] = []

    def __call__(self, **settings: Any) -> Verifier:
        verifier = Verifier(
            ISSUER,
            AUDIENCE,
            client_id="orders",
            client_secret="secret",
            url=self._service.url,
            max_staleness=1,
            **settings,
        )
        self._open.append(verifier)
        return verifier

    def close(self) -> None:
        for verifier in self._open:
            verifier.close()


@pytest.fixture
def new_verifier(service: ScriptedService) -> Iterator[Verifiers]:
    verifiers = Verifiers(service)
    yield verifiers
    verifiers.close()


@pytest.fixture
def verifier(new_verifier: Verifiers) -> Verifier:
    verifier = new_verifier()
    verifier.wait_until_ready(10)
    return verifier

from typing import Any

import pytest
from vectors import FEED, TOKENS, play

from portcullis_verifier import TokenInvalid
from portcullis_verifier.clock import system_clock
from portcullis_verifier.keys import KeySet, revocation_id
from portcullis_verifier.tokens import TokenRules


@pytest.mark.parametrize("vector", FEED, ids=lambda vector: vector["name"])
def test_receiver_passes_vector(vector: dict[str, Any]) -> None:
    assert play(vector) == []


def verdict_on(case: dict[str, Any]) -> str:
    keys = KeySet.from_jwks(TOKENS["jwks"], "max-age=300", system_clock())
    if case.get("with_secret"):
        keys = KeySet.from_secret(TOKENS["secret"], system_clock())
    rules = TokenRules(TOKENS["issuer"], TOKENS["audience"], TOKENS["leeway"])
    try:
        key = keys.find(case["token"])
        if key is None:
            return "unknown key"
        rules.decode(case["token"], key)
    except TokenInvalid:
        return "invalid"
    return "valid"


@pytest.mark.parametrize("case", TOKENS["tokens"], ids=lambda case: case["name"])
def test_verifier_passes_vector(case: dict[str, Any]) -> None:
    assert verdict_on(case) == case["verdict"]


def test_revocation_id_of_key_is_half_of_its_thumbprint() -> None:
    assert revocation_id(TOKENS["jwks"]["keys"][0]["kid"]) == TOKENS["revocation_id"]

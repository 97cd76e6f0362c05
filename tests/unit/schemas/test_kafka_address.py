"""Addresses of Kafka clusters: what is read from them, and what is wrong with one, without its secrets."""

import pytest
from penstock.schemas.errors import InvalidConfiguration
from penstock.schemas.kafka import parse_address


def test_an_address_with_everything() -> None:
    found = parse_address(
        "kafka://an%40n:p%2Fw@a:9092,b:9093/?tls=TRUE&sasl=SCRAM-SHA-512&ca=/ca.pem&certificate=/c&key=/k"
    )
    assert found.bootstrap == ("a:9092", "b:9093")
    assert (found.tls, found.mechanism, found.user, found.password) == (
        True,
        "SCRAM-SHA-512",
        "an@n",
        "p/w",
    )
    assert (found.ca, found.certificate, found.key) == ("/ca.pem", "/c", "/k")
    assert parse_address("a:9092") == parse_address("kafka://a:9092")


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("kafka://[a:9092", "no address"),
        ("kafka://a:9092#b", "write %23 for #"),
        ("http://a:9092", "a Kafka address looks like"),
        ("kafka://a:9092/topic", "a Kafka address looks like"),
        ("kafka://a:9092?acks=all", "the options of a Kafka address are"),
        ("kafka://ann:hidden@a:9092?sasl=GSSAPI", "sasl is one of"),
        ("kafka://ann@a:9092", "SASL needs a user and a password"),
        ("kafka://a:9092?sasl=PLAIN", "SASL needs a user and a password"),
        ("kafka://ann:hidden", "every broker is host:port"),
        ("kafka://a:65536", "every broker is host:port"),
        ("kafka://a:9092?tls=yes", "tls is true or false"),
    ],
)
def test_what_is_wrong_is_told_without_a_password(address: str, told: str) -> None:
    with pytest.raises(InvalidConfiguration, match=told) as caught:
        parse_address(address)
    assert "hidden" not in str(caught.value)

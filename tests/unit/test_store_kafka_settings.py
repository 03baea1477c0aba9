"""Addresses of Kafka logs."""

from __future__ import annotations

import pytest

from runstream_store.errors import ConfigError
from runstream_store.log import shared
from runstream_store.log.kafka_producer import partition_of
from runstream_store.log.kafka_settings import KafkaSettings


def test_brokers_prefix_and_options() -> None:
    found = KafkaSettings.parse(
        "kafka://a:1,b,[::1]:9/team.x?partitions=3&replication=2&security_protocol=SSL&ssl_check_hostname=false"
    )
    assert found.brokers == ("a:1", "b:9092", "[::1]:9")
    assert (found.prefix, found.partitions, found.replication) == ("team.x", 3, 2)
    assert not found.ssl_check_hostname


@pytest.mark.parametrize(
    ("replication", "wanted", "minimum"), [(1, 0, "1"), (2, 0, "2"), (3, 0, "2"), (5, 0, "3"), (3, 1, "1")]
)
def test_a_majority_confirms_unless_told_otherwise(replication: int, wanted: int, minimum: str) -> None:
    found = KafkaSettings.parse(f"kafka://a/p?replication={replication}&min_insync_replicas={wanted}")
    assert found.topic_config()["min.insync.replicas"] == minimum


def test_names_that_kafka_does_not_take_stay_apart() -> None:
    found = KafkaSettings.parse("kafka://a/p")
    names = ["points", "points.dead", "points_dead", "points dead", "pöints", "points_5fdead"]
    assert len({found.topic(name) for name in names}) == len(names)
    assert found.topic("points.dead") == "p.points.dead"
    assert found.topic("never used") == "p.never_20used"


@pytest.mark.parametrize(
    "url",
    [
        "kafka:///prefix",
        "kafka://a:1",
        "kafka://a:1/",
        "kafka://a:x/p",
        "kafka://user:secret@a:1/p",
        "kafka://a/p_q",
        "kafka://a/p?nonsense=1",
        "kafka://a/p?prefix=q",
        "kafka://a/p?partitions=many",
        "kafka://a/p?partitions=0",
        "kafka://a/p?ssl_check_hostname=1",
        "kafka://a/p?replication=1&min_insync_replicas=2",
        "kafka://a/p?security_protocol=TLS",
        "kafka://a/p?sasl_mechanism=MAGIC",
        "kafka://a/p?ssl_cafile=/ca.pem",
        "kafka://a/p?security_protocol=SASL_PLAINTEXT&sasl_username=u&sasl_password_file=/f&ssl_cafile=/ca.pem",
        "kafka://a/p?sasl_username=u&sasl_password_file=/f",
        "kafka://a/p?security_protocol=SSL&sasl_username=u",
        "kafka://a/p?security_protocol=SSL&ssl_keyfile=/key.pem",
        "kafka://a/p?security_protocol=SASL_SSL&sasl_password_file=/f",
        "kafka://a/p?security_protocol=SASL_SSL&sasl_username=u",
    ],
)
def test_nonsense_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as told:
        KafkaSettings.parse(url)
    assert "secret" not in str(told.value)


def test_keys_go_where_other_clients_of_kafka_send_them() -> None:
    # From the tests of Kafka's own Utils.murmur2.
    assert partition_of(b"21", 1 << 31) == -973932308 & 0x7FFFFFFF
    assert partition_of(b"foobar", 1 << 31) == -790332482 & 0x7FFFFFFF
    assert partition_of(b"", 1 << 31) == 275646681


def test_the_address_chooses_the_engine() -> None:
    assert shared("kafka://a:1,[::1]:9/p?replication=1")
    assert shared("KAFKA://a/p")
    assert not shared("sqlite:///a/b")

"""What is made of answers of Kafka's brokers."""

from __future__ import annotations

import pytest
from aiokafka.errors import CoordinatorLoadInProgressError, KafkaError, NotCoordinatorError
from aiokafka.protocol.commit import OffsetFetchResponse_v3

from runstream_store.log.kafka_cluster import committed_in


def answer(topics: list[object], code: int = 0) -> OffsetFetchResponse_v3:
    return OffsetFetchResponse_v3.decode(OffsetFetchResponse_v3(0, topics, code).encode())


def test_an_offset() -> None:
    assert committed_in(answer([("points", [(2, 17, "", 0)])]), "g") == 17
    assert committed_in(answer([("points", [(2, -1, "", 0)])]), "g") is None


@pytest.mark.parametrize(
    ("topics", "code", "error"),
    [
        ([], 14, CoordinatorLoadInProgressError),  # as after the coordinator's start
        ([], 16, NotCoordinatorError),
        ([("points", [(2, -1, "", 14)])], 0, CoordinatorLoadInProgressError),
    ],
)
def test_an_error_for_the_group_or_for_the_partition(
    topics: list[object], code: int, error: type[KafkaError]
) -> None:
    with pytest.raises(error):
        committed_in(answer(topics, code), "g")

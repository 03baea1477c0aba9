"""Every process of the line is killed, connections lose their answers, the log is read again: nothing is
lost, nothing is stored twice.

Each test runs a training of eight ranks on real engines, does its harm at moments that its seed chooses, and
compares identities afterwards. In `make test` each fault happens once; `make faults` does them longer, and
with more seeds.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Collection, Iterator

import pytest

from deploy.cluster import Cluster
from deploy.engines.process import EngineMissing
from runstream_store.log import EventLog, NewRecord, open_log
from runstream_store.log.protocol import Start
from runstream_store.tables import open_tables
from tests.faults.line import PATIENCE_S, Line, Outcome, Training, chance, long, seeds
from tests.server import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.engine]

SECONDS_OF_REBALANCES = 60 if long() else 4
POISON = 200 if long() else 20
PACE_S = 0.05 if long() else 0.2
TABLES = ("points", "series", "run_events", "attributes", "models", "dead_letters", "applied")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """One broker, one of each service."""
    root = tmp_path_factory.mktemp("line")
    try:
        cluster = Cluster(root / "cluster", log_options="partitions=4&session_timeout_ms=6000")
    except EngineMissing as missing:
        if os.environ.get("RUNSTREAM_REQUIRE_ENGINES"):
            raise
        pytest.skip(str(missing))
    cluster.start()
    made = Line(cluster, root)
    try:
        yield made
    finally:
        made.close()
        cluster.stop()


# ----------------------------------------------------------------------------------------- faults


def kill_broker(training: Training, random_: random.Random) -> str:
    training.hit(training.line.cluster.kafka.engines[0], 2 * random_.random())
    return ""


def kill_ingest(training: Training, random_: random.Random) -> str:
    training.hit(training.line.cluster.services["ingest"][0], 2 * random_.random())
    return ""


def kill_writer(training: Training, random_: random.Random) -> str:
    training.hit(training.line.cluster.services["writer"][0], 2 * random_.random())
    return ""


def kill_redis(training: Training, random_: random.Random) -> str:
    training.hit(training.line.cluster.redis.engine, 2 * random_.random())
    return ""


def kill_clickhouse(training: Training, random_: random.Random) -> str:
    training.hit(training.line.cluster.clickhouse.engine, 2 * random_.random())
    return ""


def kill_several(training: Training, random_: random.Random) -> str:
    """Two to five processes within a moment; they start again in the order in which they need each other."""
    cluster = training.line.cluster
    engines = [
        cluster.kafka.engines[0],
        cluster.redis.engine,
        cluster.clickhouse.engine,
        cluster.services["ingest"][0],
        cluster.services["writer"][0],
    ]
    chosen = random_.sample(engines, random_.randrange(2, 6))
    training.line.note_peaks()
    for engine in chosen:
        engine.kill()
        time.sleep(0.3 * random_.random())
    with training.recovering():
        for engine in engines:
            if engine in chosen:
                engine.start()
    return f"{len(chosen)} at once"


def lose_answers(training: Training, random_: random.Random) -> str:
    """Data go through, acknowledgements don't; then the connections are cut."""
    proxy = training.line.proxy
    before = proxy.lost_bytes
    for _ in range(3):
        proxy.lose()
        time.sleep(0.5 + random_.random())
        with training.recovering():
            proxy.cut()
    assert proxy.lost_bytes > before
    return f"{proxy.lost_bytes - before:,} bytes of answers swallowed"


def poison(training: Training, random_: random.Random) -> str:
    """Records that nobody should have been able to write become dead letters, and nobody waits for them."""
    line = training.line
    before = asyncio.run(dead_letters(line))

    async def write() -> None:
        log = await open_log(line.cluster.settings["RUNSTREAM_LOG_URL"])
        try:
            for topic in ("points", "runs"):
                for _ in range(POISON):
                    value = random_.choice([b"", random_.randbytes(random_.randrange(1, 3000)), b"\x08\x01"])
                    await log.append(topic, [NewRecord(random_.randbytes(16), value)])
        finally:
            await log.close()

    with training.recovering():
        asyncio.run(write())
    wait_for(lambda: asyncio.run(dead_letters(line)) - before >= 2 * POISON, "the dead letters", PATIENCE_S)
    letters = asyncio.run(dead_letters(line)) - before
    assert letters == 2 * POISON
    return f"{letters} dead letters"


def rebalance(training: Training, random_: random.Random) -> str:
    """Another member of the writers' group comes and goes about every second, with blocks under way."""

    async def disturb() -> int:
        log = await open_log(training.line.cluster.settings["RUNSTREAM_LOG_URL"])
        done = 0
        try:
            deadline = time.monotonic() + SECONDS_OF_REBALANCES
            while time.monotonic() < deadline:
                members = [
                    await log.subscribe(topic, topic, at_the_end(log, topic)) for topic in ("points", "runs")
                ]
                until = time.monotonic() + 0.3 + 0.4 * random_.random()
                while time.monotonic() < until:
                    for member in members:
                        await member.fetch(1 << 16, 0.1)
                for member in members:
                    await member.close()
                done += 1
                await asyncio.sleep(0.3 * random_.random())
        finally:
            await log.close()
        return done

    done = asyncio.run(disturb())
    with training.recovering():
        pass
    return f"{done} members came and went in {SECONDS_OF_REBALANCES} s"


def at_the_end(log: EventLog, topic: str) -> Start:
    async def start(partitions: Collection[int]) -> dict[int, int]:
        return {partition: (await log.bounds(topic, partition))[1] for partition in partitions}

    return start


async def dead_letters(line: Line) -> int:
    """How many there are, without those that stand for expired records."""
    tables = await open_tables(line.cluster.settings["RUNSTREAM_TABLES_URL"])
    try:
        found = await tables.query("SELECT count() AS n FROM dead_letters FINAL WHERE code != 6", {})
        return int(found.column("n")[0].as_py())
    finally:
        await tables.close()


FAULTS = {
    "kill -9 of the broker": (kill_broker, 5),
    "kill -9 of ingest": (kill_ingest, 5),
    "kill -9 of the writer": (kill_writer, 5),
    "kill -9 of Redis": (kill_redis, 5),
    "kill -9 of the ClickHouse endpoint": (kill_clickhouse, 5),
    "kill -9 of several at once": (kill_several, 5),
    "acknowledgements lost, data not": (lose_answers, 3),
    "poison written straight to the topics": (poison, 1),
    "a rebalance every second": (rebalance, 1),
}
"""With how often each is done in the long form."""


if long():

    @pytest.mark.parametrize("seed", seeds(1, 2, 3))
    @pytest.mark.parametrize("name", FAULTS)
    def test_a_fault(line: Line, outcomes: list[Outcome], name: str, seed: int) -> None:
        random_ = chance(seed, name)
        fault, times = FAULTS[name]
        outcome = Outcome(name, seed)
        outcomes.append(outcome)
        notes = []
        with line.training(outcome, pace_s=PACE_S) as training:
            for _ in range(times):
                time.sleep(3 * random_.random())
                notes.append(fault(training, random_))
        outcome.note = f"{times} times" if not any(notes) else "; ".join(dict.fromkeys(notes))

else:
    KILLS = [name for name in FAULTS if name.startswith("kill") and "several" not in name]
    OTHERS = [name for name in FAULTS if not name.startswith("kill")]

    @pytest.mark.parametrize("seed", seeds(1))
    @pytest.mark.parametrize("names", [KILLS, OTHERS], ids=["kills", "others"])
    def test_each_fault_once(line: Line, outcomes: list[Outcome], names: list[str], seed: int) -> None:
        random_ = chance(seed, "each fault once")
        outcome = Outcome("kill -9 of each once" if names is KILLS else "each other fault once", seed)
        outcomes.append(outcome)
        with line.training(outcome, pace_s=PACE_S) as training:
            for name in random_.sample(names, len(names)):
                time.sleep(random_.random())
                print(name, flush=True)
                FAULTS[name][0](training, random_)


# -------------------------------------------------------------------------------- the log again


@pytest.mark.parametrize("seed", seeds(1, 2))
def test_the_topics_are_read_again(line: Line, outcomes: list[Outcome], seed: int) -> None:
    """From their beginning: into tables that hold everything, and into tables that hold nothing."""
    chance(seed, "replay")
    full = Outcome("the topics read again into full tables", seed)
    empty = Outcome("the topics read again into empty tables", seed)
    outcomes += [full, empty]
    training = line.last
    if training is None or long():
        with line.training(Outcome("before the topics are read again", seed), pace_s=PACE_S) as training:
            time.sleep(2.0)
    writer = line.cluster.services["writer"][0]
    for outcome, emptied in ((full, TABLES[-1:]), (empty, TABLES)):
        assert writer.stop() == 0
        line.cluster.redis.engine.kill()  # it would still know the positions
        line.truncate(emptied)
        line.cluster.redis.start()
        began = time.monotonic()
        writer.start()
        line.await_read_up()
        outcome.recovery_s.append(time.monotonic() - began)
        training.outcome = outcome
        training.compare(training.truth())
        assert line.rows_written() > outcome.elements  # it did read them again
        line.note_peaks()
        outcome.peaks_mib = dict(line.peaks)


@pytest.mark.parametrize("seed", seeds(1, 2))
def test_what_expires_in_the_log_is_counted_and_shown(line: Line, outcomes: list[Outcome], seed: int) -> None:
    """The writer is away for longer than the log keeps records."""
    random_ = chance(seed, "expiry")
    outcome = Outcome("positions expire while the writer is away", seed)
    outcomes.append(outcome)
    writer = line.cluster.services["writer"][0]
    with line.training(outcome, pace_s=PACE_S, compare=False) as training:
        time.sleep(1 + random_.random())
        training.await_visible()
        assert writer.stop() == 0
        time.sleep(2 + random_.random())
        expired = asyncio.run(expire(line, random_.random()))
        time.sleep(1.0)
        writer.start()
    found = training.verify()
    logged = sum(one["scalars"] + 3 * one["lists"] for one in training.truth())
    stored = sum(one["stored"] for one in found["writers"])
    missing = sum(one["missing"] for one in found["writers"])
    outcome.elements, outcome.note = (
        stored,
        f"{missing:,} elements lost in {expired} expired records, all counted",
    )
    assert (found["state"], found["exit_code"]) == ("missing", 1)
    assert stored + missing == logged == sum(one["logged"] for one in found["writers"])
    assert missing > 0
    assert sum(one["records"] for one in found["expired"]) >= expired
    print(outcome)
    with line.client() as client:  # without being asked to compare
        shown = client.get_ledger("local", training.run, compare=False)
    assert (shown.state, sum(one.missing for one in shown.writers)) == (7, missing)


async def expire(line: Line, share: float) -> int:
    """Has a part of what is not applied yet expire in each partition. How many records."""
    log = await open_log(line.cluster.settings["RUNSTREAM_LOG_URL"])
    tables = await open_tables(line.cluster.settings["RUNSTREAM_TABLES_URL"])
    count = 0
    try:
        rows = await tables.query(
            "SELECT partition, offset FROM applied FINAL WHERE topic = 'points' AND consumer = 'points'", {}
        )
        applied = {row["partition"]: row["offset"] for row in rows.to_pylist()}
        for partition in range(await log.partitions("points")):
            first, end = await log.bounds("points", partition)
            begin = applied.get(partition, first - 1) + 1
            before = begin + max(1, round((end - begin) * share)) if end > begin else begin
            await log.trim("points", partition, before)
            count += before - begin
    finally:
        await log.close()
        await tables.close()
    assert count > 0
    return count

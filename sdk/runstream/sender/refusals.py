"""Why a server refused records of a run for good, counted, for the person whose run it was."""

from typing import Any, Final, NamedTuple

from runstream.v1 import error_pb2, run_pb2

MOST_REASONS: Final = 10
_OTHERS: Final = "other reasons; the sender's log has them"
_MOST_REASON: Final = 1000  # characters


class Reason(NamedTuple):
    """An ErrorCode, and the sentence that came with it."""

    code: int
    text: str

    def __str__(self) -> str:
        """For logs."""
        code = error_pb2.ErrorCode.DESCRIPTOR.values_by_number.get(self.code)
        return f"{code.name.removeprefix('ERROR_CODE_') if code else self.code}: {self.text}"


class Count(NamedTuple):
    """What was refused for one reason."""

    elements: int
    records: int


Refusals = dict[Reason, Count]
_REST: Final = Reason(error_pb2.ERROR_CODE_UNSPECIFIED, _OTHERS)


def note(refusals: Refusals, reason: Reason, count: Count) -> None:
    """Count a refusal. A reason beyond the first few is counted with the others."""
    reason = Reason(reason.code, reason.text[:_MOST_REASON] or "no reason was given")
    if reason not in refusals and len(refusals.keys() - {_REST}) >= MOST_REASONS:
        reason = _REST
    before = refusals.get(reason, Count(0, 0))
    refusals[reason] = Count(before.elements + count.elements, before.records + count.records)


def records(refusals: Refusals) -> int:
    """How many records were refused."""
    return sum(count.records for count in refusals.values())


def messages(refusals: Refusals) -> list[run_pb2.Refusal]:
    """As they are told to the server, the most frequent first."""
    ordered = sorted(refusals.items(), key=lambda item: (item[0] == _REST, -item[1].elements, item[0]))
    return [
        run_pb2.Refusal(
            code=reason.code,  # type: ignore[arg-type]
            reason=reason.text,
            elements=count.elements,
            records=count.records,
        )
        for reason, count in ordered
    ]


def dump(refusals: Refusals) -> list[list[Any]]:
    """As they are kept in `state.json`."""
    return [[*reason, *count] for reason, count in refusals.items()]


def load(rows: list[list[Any]]) -> Refusals:
    """The reverse. Raises ValueError or TypeError for what is no such list."""
    return {Reason(int(code), str(text)): Count(int(e), int(r)) for code, text, e, r in rows}

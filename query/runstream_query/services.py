"""Services as the ports see them: what they are called, what answers, and who may ask.

Both ports serve the same table of services. A service is a descriptor of the contract and an object with a
method for each of its calls, named like it in small letters: `get_run` for `GetRun`. A method takes the
request, and gives the response or, for a stream, an asynchronous generator of responses. It raises
`QueryServiceError`; errors of the engines are turned into it here.

A call without a method is answered with "unimplemented".
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from runstream_query.access import Access, Caller, Sharing
from runstream_query.errors import from_store
from runstream_store.errors import StoreError

_WORD: Final = re.compile(r"(?<!^)(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Service:
    """One service."""

    descriptor: ServiceDescriptor
    servicer: object
    shared: frozenset[str] = frozenset()
    """Calls that a share's token may make, for what it shows: each names the runs that it reads as `RunRef`s
    in its request, and reads nothing else."""
    shared_by_experiment: frozenset[str] = frozenset()
    """Calls that it may make for the experiment that it shows: their requests have `workspace` and
    `experiments`."""
    shared_freely: frozenset[str] = frozenset()
    """Calls that it may always make."""
    takes_caller: bool = False
    """The methods take who calls as a second argument."""
    twins: Mapping[type[Message], type[Message]] = field(default_factory=dict)
    """Public messages by the private twins that are given in their place."""

    def calls(self) -> Iterator[Call]:
        """The calls that are answered."""
        for method in self.descriptor.methods:
            function = getattr(self.servicer, _WORD.sub("_", method.name).lower(), None)
            if function is not None:
                yield Call(self, method, function)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a service."""

    service: Service
    method: MethodDescriptor
    function: Callable[..., Any]

    @property
    def name(self) -> str:
        """As in the contract."""
        return self.method.name

    @property
    def streams(self) -> bool:
        """Whether it answers with a stream."""
        return bool(self.method.server_streaming)

    @property
    def request(self) -> type[Message]:
        """Class of the request."""
        return GetMessageClass(self.method.input_type)

    @property
    def response(self) -> type[Message]:
        """Class of the response."""
        return GetMessageClass(self.method.output_type)

    def _begin(self, request: Message, caller: Caller) -> Any:
        return self.function(request, caller) if self.service.takes_caller else self.function(request)

    async def answer(self, access: Access, authorization: str | None, request: Message) -> Message:
        """The response.

        :raises QueryServiceError: there is none.
        """
        caller = await translated(self.enter(access, authorization, request))
        response: Message = await translated(self._begin(request, caller))
        return response

    async def stream(
        self, access: Access, authorization: str | None, request: Message
    ) -> AsyncGenerator[Message, None]:
        """The responses.

        :raises QueryServiceError: there is no more.
        """
        caller = await translated(self.enter(access, authorization, request))
        async for response in translated_stream(self._begin(request, caller)):
            yield response

    async def enter(self, access: Access, authorization: str | None, request: Message) -> Caller:
        """Who calls, if they may."""
        sharing = Sharing.NEVER
        if self.name in self.service.shared:
            sharing = Sharing.BY_RUNS
        elif self.name in self.service.shared_by_experiment:
            sharing = Sharing.BY_EXPERIMENT
        elif self.name in self.service.shared_freely:
            sharing = Sharing.FREELY
        return await access.enter(authorization, request, sharing)


async def translated(call: Awaitable[Any]) -> Any:
    """The result of a call; errors of the engines become errors of this service."""
    try:
        return await call
    except StoreError as error:
        raise from_store(error) from error


async def translated_stream(stream: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    """The same for a stream."""
    try:
        async for message in stream:
            yield message
    except StoreError as error:
        raise from_store(error) from error
    finally:
        await stream.aclose()

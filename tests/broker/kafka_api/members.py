"""Members of groups, as the tests of the group APIs want to talk."""

from collections.abc import Mapping
from typing import Any

from tests.broker.kafka_api.group_layouts import (
    HEARTBEAT,
    JOIN_GROUP,
    LEAVE_GROUP,
    OFFSET_COMMIT,
    OFFSET_FETCH,
    SYNC_GROUP,
)
from tests.broker.kafka_api.harness import Asked, Connection, Node

OK, NOT_LEADER = 0, 6
UNKNOWN_TOPIC_OR_PARTITION, METADATA_TOO_LARGE = 3, 12
LOADING, NOT_AVAILABLE, NOT_COORDINATOR = 14, 15, 16
ILLEGAL_GENERATION, INCONSISTENT_PROTOCOL, INVALID_GROUP_ID, UNKNOWN_MEMBER = 22, 23, 24, 25
INVALID_SESSION_TIMEOUT, REBALANCING, INVALID_COMMIT_SIZE = 26, 27, 28
NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, MEMBER_ID_REQUIRED = 68, 69, 79
FENCED_INSTANCE, SUBSCRIBED = 82, 86

SUBSCRIPTION = b"\0\1\0\0\0\1\0\1t\xff\xff\xff\xff"
"""A consumer's metadata: version 1, the topic `t`, no user data."""


class Member:
    """A client on a connection of its own, which joins as clients of `version` do."""

    def __init__(self, node: Node, group: str = "g", **settings: Any) -> None:
        self.connection: Connection = node.connect()
        self.group = group
        self.settings = settings
        self.member_id = ""
        self.generation = -1

    async def send_join(self, version: int = 9, **values: Any) -> Asked:
        wanted = {"protocols": [{"name": "range", "metadata": SUBSCRIPTION}]}
        return await self.connection.send(
            JOIN_GROUP,
            version,
            group=self.group,
            member_id=self.member_id,
            **(wanted | self.settings | values),
        )

    async def joined(self, asked: Asked) -> dict[str, Any]:
        answer = await asked.answer()
        if answer["error"] in (OK, MEMBER_ID_REQUIRED):
            self.member_id, self.generation = answer["member_id"], answer["generation"]
        return answer

    async def join(self, version: int = 9, **values: Any) -> dict[str, Any]:
        """Both steps, if there are two."""
        answer = await self.joined(await self.send_join(version, **values))
        if answer["error"] == MEMBER_ID_REQUIRED:
            answer = await self.joined(await self.send_join(version, **values))
        return answer

    async def send_sync(
        self, version: int = 5, assignments: Mapping[str, bytes] | None = None
    ) -> Asked:
        values = {"instance_id": self.settings["instance_id"]} if self.settings else {}
        return await self.connection.send(
            SYNC_GROUP,
            version,
            protocol_type="consumer",
            protocol="range",
            group=self.group,
            generation=self.generation,
            member_id=self.member_id,
            assignments=[
                {"member_id": member_id, "assignment": data}
                for member_id, data in (assignments or {}).items()
            ],
            **values,
        )

    async def stable(self) -> "Member":
        """A group of this member alone."""
        assert (await self.join())["error"] == OK
        answer = await (await self.send_sync(assignments={self.member_id: b"all"})).answer()
        assert (answer["error"], answer["assignment"]) == (OK, b"all")
        return self

    async def heartbeat(self, version: int = 4) -> int:
        answer = await self.connection.ask(
            HEARTBEAT,
            version,
            group=self.group,
            generation=self.generation,
            member_id=self.member_id,
        )
        assert isinstance(answer["error"], int)
        return answer["error"]

    async def leave(self) -> dict[str, Any]:
        member = {"member_id": self.member_id, "reason": "enough"}
        return await self.connection.ask(LEAVE_GROUP, 5, group=self.group, members=[member])

    async def commit(self, offset: int, version: int = 9, **partition: Any) -> int:
        """The one code of a commit to partition 0 of `t`."""
        wanted = {"partition": 0, "offset": offset, **partition}
        answer = await self.connection.ask(
            OFFSET_COMMIT,
            version,
            group=self.group,
            generation=self.generation,
            member_id=self.member_id,
            topics=[{"name": "t", "partitions": [wanted]}],
        )
        code = answer["topics"][0]["partitions"][0]["error"]
        assert isinstance(code, int)
        return code

    async def committed(self, version: int = 9) -> dict[str, Any]:
        """What is known of partition 0 of `t`, with the code at the top, if there is one."""
        asked = {"group": self.group, "topics": [{"name": "t", "partitions": [0]}]}
        values = asked if version < 8 else {"groups": [asked]}
        answer = await self.connection.ask(OFFSET_FETCH, version, **values)
        answer = answer if version < 8 else answer["groups"][0]
        found = answer["topics"][0]["partitions"][0]
        return {**found, "top": answer.get("error")}

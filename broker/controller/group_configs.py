"""What is set for consumer groups: part of the metadata, so that every node knows it.

A group's members and positions are elsewhere (`broker/groups`), and come and go without this: as
with Kafka, configs may be set for a group that is not there, and stay when it is deleted.
"""

from collections.abc import Mapping

from broker.controller import group_config
from broker.controller.metadata import Metadata
from broker.controller.topics import CONFIGURE_ATTEMPTS_MAX
from broker.errors import InvalidRequest, MetadataUnavailable
from broker.ports import EditConfigs
from raft.commands import ChangeGroupConfig
from raft.groups import NAME_SIZE_MAX
from raft.state import GROUPS_CONFIGURED_MAX, Refusal


class GroupConfigs:
    """Changes of group configs proposed by this node."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def of(self, group: str) -> Mapping[str, str]:
        """What is set; {} for a group nobody knows. Raises InvalidRequest for what cannot be a
        group's name here."""
        if not 0 < len(group) <= NAME_SIZE_MAX:
            raise InvalidRequest(
                f"a group with configs has a name of 1 to {NAME_SIZE_MAX} characters"
            )
        return self._metadata.state.group_configs.get(group, {})

    async def configure(self, group: str, edit: EditConfigs, *, validate_only: bool) -> None:
        """See `ports.AdminController.configure_group`."""
        for _ in range(CONFIGURE_ATTEMPTS_MAX):
            before = self.of(group)
            after = edit(before)
            group_config.validate(after)
            if validate_only or after == before:
                return
            command = ChangeGroupConfig(group, dict(before), dict(after))
            applied = await self._metadata.propose(command)
            if not applied.refusal:
                return
            if applied.refusal == Refusal.TOO_MANY_CONFIGS:
                raise InvalidRequest(f"{GROUPS_CONFIGURED_MAX} groups have configs already")
        raise MetadataUnavailable("others change the configs of this group all the time: ask again")

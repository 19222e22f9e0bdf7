"""Commands about consumer groups, of which the metadata knows the configs alone (pure)."""

from raft.commands import Applied, ChangeGroupConfig
from raft.draft import Draft, require
from raft.state import GROUPS_CONFIGURED_MAX, Refusal

NAME_SIZE_MAX = 1024
"""Of a group with configs. Kafka bounds no group's name, but this one is in everybody's memory."""
CONFIGS_MAX = 16
CONFIGS_SIZE_MAX = 1024
"""Of one group: those that mean something are a handful of numbers."""


def change_config(draft: Draft, command: ChangeGroupConfig) -> Applied:
    """A group with configs need not exist, and one whose configs go is forgotten here."""
    before = draft.state.group_configs
    require(0 < len(command.group) <= NAME_SIZE_MAX, Refusal.BAD_COMMAND)
    require(before.get(command.group, {}) == command.expect, Refusal.STALE_CONFIGS)
    size = sum(len(key) + len(value) for key, value in command.configs.items())
    is_small = len(command.configs) <= CONFIGS_MAX and size <= CONFIGS_SIZE_MAX
    has_room = command.group in before or len(before) < GROUPS_CONFIGURED_MAX
    require(is_small and (has_room or not command.configs), Refusal.TOO_MANY_CONFIGS)
    if command.configs:
        draft.set(group_configs=before.set(command.group, command.configs))
    elif command.group in before:
        draft.set(group_configs=before.remove(command.group))
    draft.written.append(sorted(command.configs.items()))
    return draft.applied()

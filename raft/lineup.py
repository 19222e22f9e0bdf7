"""Who takes part: the members as the log names them, and pysyncobj told of them."""

import msgspec

from raft.ground import MEMBERSHIP, NEVER, Ground
from raft.members import Members, is_single_step

_encode_members = msgspec.msgpack.Encoder().encode
_decode_members = msgspec.msgpack.Decoder(Members).decode


class Lineup(Ground):
    """Members count from the moment they are written to the log, not when that is committed."""

    def adopt_members(self, base: Members) -> None:
        """Read the members off the log; `base` are those at its beginning."""
        self._members = [(self.log.first_index, base)]
        for command, index, _term in self.log[1:]:
            self._note_members(command, index)
        self._members_changed()

    def change_members(self, members: Members) -> bool:
        """Write `members` to the log. False while an earlier change is not committed, or when this
        is too much at once.

        Nor before this leader has committed an entry of its own term, because until then it may not
        know the last change: the first entry of its term names the members, so it is an earlier
        change, too."""
        at, current = self._members[-1]
        is_settled = self.commit_index >= at
        if not self.is_leader or not is_settled or not is_single_step(current, members):
            return False
        self._append_members(members)
        self._SyncObj__sendAppendEntries()
        return True

    def _append_members(self, members: Members) -> None:
        index = self.log.last_index + 1
        self.log.add(MEMBERSHIP + _encode_members(members), index, self.term)
        self._members.append((index, members))
        self._members_changed()

    def _note_members(self, command: bytes, index: int) -> None:
        if command[:1] == MEMBERSHIP:
            try:
                self._members.append((index, _decode_members(command[1:])))
            except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
                raise AssertionError(f"entry {index} names no members: {wrong}") from wrong

    def _members_changed(self) -> None:
        """Give pysyncobj the voters and learners it is to count and to send to, in the same order
        in every process: a run of the simulator says everything by its seed."""
        members, peer = self.members, self.peer
        now = self.machine.now()
        voters = [peer(voter) for voter in members.voters if voter != self.me]
        learners = [peer(voter) for voter in members.learners if voter != self.me]
        self._SyncObj__otherNodes = dict.fromkeys(voters).keys()
        self._SyncObj__readonlyNodes = dict.fromkeys(learners).keys()
        for node in (*voters, *learners):
            self._SyncObj__raftMatchIndex.setdefault(node, 0)
            self._SyncObj__raftNextIndex.setdefault(node, self.log.last_index + 1)
            self._SyncObj__lastResponseTime.setdefault(node, now)
        if not self.is_voter:
            # Perhaps it was about to stand, when it lost its vote.
            self._SyncObj__raftElectionDeadline = NEVER

    def connected(self, voter: str) -> None:
        """A new connection: whatever was under way on an older one is lost.

        Of a member that never acknowledged anything nothing is known: ask at the end of the log.
        """
        node = self.peer(voter)
        self._SyncObj__connectedNodes.add(node)
        self._retried.pop(voter, None)
        if self.is_leader and node in self._SyncObj__raftMatchIndex:
            match_index = self._SyncObj__raftMatchIndex[node] or self.log.last_index
            self._SyncObj__raftNextIndex[node] = match_index + 1

    def disconnected(self, voter: str) -> None:
        self._SyncObj__connectedNodes.discard(self.peer(voter))

    def is_connected(self, voter: str) -> bool:
        return self.peer(voter) in self._SyncObj__connectedNodes

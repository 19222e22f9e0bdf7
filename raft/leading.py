"""What a leader knows of the others, and what it sends them.

Of each member it believes only what that said in this very term: up to where it has the log,
durably. It sends on from there without waiting, as far as may be under way; who refuses gets one
message until it agrees, and who is behind the log's beginning gets a snapshot."""

from collections.abc import Iterable

from raft.elections import Elections
from raft.ground import CAUGHT_UP, NEVER, UNACKNOWLEDGED_MAX
from raft.messages import BATCH_SIZE, Append, AppendReply

NO_HINT = 0
"""Where to send from, in the answer to a leader of the past: nobody asked."""


class Leading(Elections):
    """The storey that has the others hold what this node holds."""

    def _SyncObj__sendAppendEntries(self) -> None:
        """To everybody connected, what they lack; at least a heartbeat."""
        self._SyncObj__newAppendEntriesTime = self.machine.now() + self.heartbeat_s
        for voter in (*self.members.voters, *self.members.learners):
            if voter != self.me and self.is_connected(voter):
                self._send_append(voter)

    def _send_append(self, voter: str, *, is_probe: bool = False) -> None:
        """What this member lacks, as far as it may be under way; of a probe only the first message.

        A probe follows a refusal. Had it everything behind it, each of its messages could be
        refused again and bring everything again, and their number would grow without end."""
        node = self.peer(voter)
        next_index = self._SyncObj__raftNextIndex[node]
        if next_index <= self.log.first_index:
            self.machine.send(voter, Append(self.term, 0, 0, 0, ()))
            self.machine.send_snapshot(voter)
            return
        while True:
            is_slow = next_index - self._SyncObj__raftMatchIndex[node] > UNACKNOWLEDGED_MAX
            entries = () if is_slow else self._batch(next_index)
            message = self._append_from(next_index, entries)
            if not self.machine.send(voter, message):
                return
            next_index += len(entries)
            self._SyncObj__raftNextIndex[node] = next_index
            if not entries or next_index > self.log.last_index or is_probe:
                return

    def _append_from(self, next_index: int, entries: tuple[tuple[int, bytes], ...]) -> Append:
        prev_term = self.log.term_at(next_index - 1)
        assert prev_term is not None, f"entry {next_index - 1} is not in the log"
        return Append(
            self.term,
            next_index - 1,
            prev_term,
            self.commit_index,
            entries,
            self.machine.checkpoint(),
        )

    def _batch(self, first: int) -> tuple[tuple[int, bytes], ...]:
        """(term, command) from `first` on, as many as go into one message."""
        batch: list[tuple[int, bytes]] = []
        size = 0
        at = first - self.log.first_index
        while at < len(self.log) and size < BATCH_SIZE:
            command, _index, term = self.log[at]
            batch.append((term, command))
            size += len(command) + 16
            at += 1
        return tuple(batch)

    def _heard_from(self, voter: str) -> None:
        self._SyncObj__lastResponseTime[self.peer(voter)] = self.machine.now()

    def _on_append_reply(self, voter: str, reply: AppendReply) -> None:
        """Reached only with a reply of this very term: one of an earlier term speaks of a log that
        may be gone."""
        node = self.peer(voter)
        if node not in self._SyncObj__raftMatchIndex:
            return
        self._heard_from(voter)
        if reply.ok:
            self.has_up_to(voter, reply.index)
            return
        if reply.index == NO_HINT:
            # Said to an earlier leader, of this term alone; it speaks of no log.
            return
        retry_from = max(reply.index, self._SyncObj__raftMatchIndex[node] + 1)
        if retry_from < self._SyncObj__raftNextIndex[node] and self._may_retry(voter, retry_from):
            self._SyncObj__raftNextIndex[node] = retry_from
            self._send_append(voter, is_probe=True)

    def _may_retry(self, voter: str, retry_from: int) -> bool:
        """Once per heartbeat for the same place: several messages under way are refused for one
        reason, and answering each with everything again would never end."""
        last, at = self._retried.get(voter, (0, -NEVER))
        now = self.machine.now()
        if last == retry_from and now - at < self.heartbeat_s:
            return False
        self._retried[voter] = (retry_from, now)
        return True

    def has_up_to(self, voter: str, index: int) -> None:
        """This member holds our log up to `index`, durably."""
        node = self.peer(voter)
        if node not in self._SyncObj__raftMatchIndex:
            return
        match_index = max(self._SyncObj__raftMatchIndex[node], min(index, self.log.last_index))
        self._SyncObj__raftMatchIndex[node] = match_index
        next_index = max(self._SyncObj__raftNextIndex[node], match_index + 1)
        self._SyncObj__raftNextIndex[node] = next_index

    def answers(self, voter: str) -> bool:
        """Whether it has acknowledged something to this leader, and said something since in less
        than the time in which a leader is given up."""
        heard_at = self._SyncObj__lastResponseTime.get(self.peer(voter), -NEVER)
        is_quiet = self.machine.now() - heard_at >= self.election_wait_s[1]
        return self.match_index(voter) > 0 and not is_quiet

    def learners_caught_up(self) -> Iterable[str]:
        """Those who could become voters now: they said themselves that they have nearly all of the
        log, and have it durably."""
        for voter in self.members.learners:
            match_index = self.match_index(voter)
            if match_index and match_index + CAUGHT_UP >= self.log.last_index:
                yield voter

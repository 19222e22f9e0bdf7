"""Who leads: pysyncobj's elections, with what they lack.

A vote is durable before it is sent, and counted once for each voter. Before a node stands, it asks
whether anybody would vote for it, and whoever hears a leader says no: so a node that was cut off
deposes nobody on its return."""

from raft.ground import AT_ONCE, CANDIDATE, LEADER, NEVER
from raft.lineup import Lineup
from raft.messages import TimeoutNow, Vote, VoteReply


class Elections(Lineup):
    """The storey that makes leaders."""

    def before_tick(self) -> None:
        """pysyncobj would campaign when a timer says so; we ask first whether anybody would vote
        for us, and set off its timer only then."""
        if self.is_leader or not self.is_voter or self.machine.now() < self._election_at:
            return
        self._postpone_election()
        self._is_transfer = False
        if self.members.voters == (self.me,):
            self.campaign()
            return
        self._pre_votes = (self.term + 1, {self.me})
        self._ask_for_votes(
            Vote(self.term + 1, *self._last_entry(), is_pre=True, is_transfer=False)
        )

    def tick(self) -> None:
        """Do what is due."""
        self.before_tick()
        self._onTick(0.0)

    def campaign(self) -> None:
        """Be a candidate in the next tick."""
        assert self.is_voter, "who has no vote wants none"
        self._postpone_election()
        self._SyncObj__raftElectionDeadline = AT_ONCE

    def vote_request(self) -> Vote:
        """What pysyncobj's candidate asks of everybody."""
        return Vote(self.term, *self._last_entry(), is_pre=False, is_transfer=self._is_transfer)

    def _ask_for_votes(self, request: Vote) -> None:
        for voter in self.members.voters:
            if voter != self.me:
                self.machine.send(voter, request)

    def _last_entry(self) -> tuple[int, int]:
        _command, index, term = self.log[-1]
        return index, term

    def _postpone_election(self) -> None:
        """Draws from our own generator: elections must be as reproducible as everything else."""
        self._election_at = self.machine.now() + self.rng.uniform(*self.election_wait_s)
        self._SyncObj__raftElectionDeadline = NEVER

    def _SyncObj__generateRaftTimeout(self) -> float:
        """pysyncobj's timer never goes off by itself (see `before_tick`)."""
        return NEVER

    def _hears_a_leader(self) -> bool:
        """While there is one, nobody helps to depose it: a node that was cut off would otherwise,
        on its return."""
        quiet_s = self.machine.now() - self._heard_leader_at
        return self.is_leader or quiet_s < self.election_wait_s[0]

    def _is_up_to_date(self, request: Vote) -> bool:
        index, term = self._last_entry()
        return (request.last_term, request.last_index) >= (term, index)

    def _on_pre_vote(self, voter: str, request: Vote) -> None:
        granted = (
            request.term > self.term and self._is_up_to_date(request) and not self._hears_a_leader()
        )
        term = request.term if granted else self.term
        self.machine.send(voter, VoteReply(term, is_pre=True, granted=granted))

    def _on_vote(self, voter: str, request: Vote) -> None:
        granted = self._SyncObj__votedForNodeId in (None, voter) and self._is_up_to_date(request)
        if granted:
            self._SyncObj__setCurrentTerm(self.term, voter)
            self._postpone_election()
        self.machine.send(voter, VoteReply(self.term, is_pre=False, granted=granted))

    def _on_vote_reply(self, voter: str, reply: VoteReply) -> None:
        if self._SyncObj__raftState != CANDIDATE or not reply.granted:
            return
        if self._votes[0] != self.term:
            self._votes = (self.term, {self.me})
        if self._counts(self._votes[1], voter):
            self._SyncObj__onBecomeLeader()

    def _on_pre_vote_reply(self, voter: str, reply: VoteReply) -> None:
        term, votes = self._pre_votes
        is_current = term == reply.term == self.term + 1 and not self.is_leader
        if is_current and self._counts(votes, voter):
            self._pre_votes = (0, set())
            self.campaign()

    def _counts(self, votes: set[str], voter: str) -> bool:
        """Add one vote; whether they are a majority of the voters now."""
        votes.add(voter)
        return self.members.is_majority(votes)

    def _SyncObj__onBecomeLeader(self) -> None:
        """The first entry of a term names the members: it commits what came before, and tells
        newcomers who there is."""
        now = self.machine.now()
        self._is_transfer = False
        self._SyncObj__raftLeader = self.peer(self.me)
        self._SyncObj__setState(LEADER)
        self._SyncObj__raftMatchIndex.clear()
        self._SyncObj__raftNextIndex.clear()
        self._SyncObj__lastResponseTime.clear()
        self._append_members(self.members)
        for node in self._SyncObj__raftNextIndex:
            self._SyncObj__raftNextIndex[node] = self.log.last_index
            self._SyncObj__lastResponseTime[node] = now
        self._SyncObj__sendAppendEntries()

    def transfer(self, to: str) -> bool:
        """Ask `to` to take over. False unless it has the whole log; the sign of success is another
        leader."""
        is_ready = self.is_leader and to in self.members.voters and to != self.me
        if not is_ready or self.match_index(to) != self.log.last_index:
            return False
        return self.machine.send(to, TimeoutNow(self.term))

    def _on_timeout_now(self) -> None:
        if self.is_voter and not self.is_leader:
            self._is_transfer = True
            self.campaign()

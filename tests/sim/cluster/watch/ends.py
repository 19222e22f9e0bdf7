"""The way to a segment's end: what is proposed by its writer, promised and chosen without it, and
where the copies are closed."""

from collections.abc import Callable
from typing import Any

from broker.controller.metadata import Metadata
from broker.replication import messages
from broker.replication.copies import LocalCopy
from broker.replication.repair import CatchUp
from broker.replication.replica import Definite, Refused, SealAnswer
from raft.commands import AnyCommand, Applied, CommitRoll
from tests.sim.cluster.model import Key
from tests.sim.cluster.node import Process
from tests.sim.cluster.watch.facts import Facts, Steps, actor, key_of


class Ends:
    """Of all segments."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._model = facts.model
        self._violated = facts.violated

    def steps(self) -> Steps:
        return (
            (Metadata, "propose", self._watch_proposals),
            (LocalCopy, "answer_seal", self._watch_promise),
            (CatchUp, "copy", self._watch_chosen),
            (LocalCopy, "sealed", self._watch_closed),
        )

    def _watch_proposals(self, propose: Callable[..., Any]) -> Callable[..., Any]:
        """`ProposeRoll`."""

        async def wrapped(metadata: Metadata, command: AnyCommand) -> Applied:
            process = actor()
            if process is not None and isinstance(command, CommitRoll):
                key = (command.topic_id, command.sid)
                with self._facts.step(key):
                    disk, end = process.machine.disk_id, command.end.end_offset
                    self._model.propose_roll(process, disk, key, end)
            applied: Applied = await propose(metadata, command)
            return applied

        return wrapped

    def _watch_promise(self, answer_seal: Callable[..., Any]) -> Callable[..., Any]:
        """`Promise`; PromisesKept."""

        async def wrapped(copy: LocalCopy, seal_epoch: int) -> SealAnswer:
            answer: SealAnswer = await answer_seal(copy, seal_epoch)
            process = actor()
            if process is not None and not isinstance(answer, Refused):
                self._answered(process, key_of(copy), seal_epoch, answer)
            return answer

        return wrapped

    def _answered(self, process: Process, key: Key, seal_epoch: int, answer: SealAnswer) -> None:
        node, disk = process.node, process.machine.disk_id
        end = answer.end.end_offset if isinstance(answer, Definite) else None
        with self._facts.step(key):
            self._model.ask_promise(node, disk, key, seal_epoch, end)
        if key in self._model.ends:
            return
        who = f"node {node} answered {answer} to the seal {seal_epoch} of {self._facts.name(key)}"
        if end is not None and (disk, key) in self._facts.harmed:
            self._violated(f"{who}, though its copy was damaged")
        if self._facts.promised_epoch(node, key) < seal_epoch:
            self._violated(f"{who}, and would have forgotten it")
        if end is not None and end > (durable := self._facts.durable_end(node, key)):
            self._violated(f"{who}, and is durable to {durable}")

    def _watch_chosen(self, copy: Callable[..., Any]) -> Callable[..., Any]:
        """`ChooseEnd`: what is chosen covers what is acknowledged."""

        async def wrapped(catch_up: CatchUp, ask: messages.CopyAsk) -> int:
            key, model = (ask.topic_id, ask.sid), self._model
            if actor() is not None and key not in model.ends:
                accepts_loss = model.segments[key].accepts_loss
                choose = model.accept_end if accepts_loss else model.choose_end
                with self._facts.step(key):
                    choose(key, ask.seal_epoch, ask.end_offset)
                acked = model.acked.get(key, 0)
                if ask.end_offset < acked and not accepts_loss:
                    what = f"is to end at {ask.end_offset}, is acknowledged to {acked}"
                    self._violated(f"{self._facts.name(key)} {what}")
            end_offset: int = await copy(catch_up, ask)
            return end_offset

        return wrapped

    def _watch_closed(self, sealed: Callable[..., None]) -> Callable[..., None]:
        """`Close`."""

        def wrapped(copy: LocalCopy, end_offset: int) -> None:
            key, process = key_of(copy), actor()
            if process is not None:
                with self._facts.step(key):
                    self._model.close(process.machine.disk_id, key, end_offset)
            sealed(copy, end_offset)

        return wrapped

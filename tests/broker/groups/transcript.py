"""Transcripts of a group: commands, `----`, and what came out.

    join TICKET [id=M] [instance=I] [protocols=NAME:META,…] [type=T] [session=MS] [rebalance=MS]
                [old] [skip]                      old: before KIP-394; skip: knows KIP-814
    sync TICKET id=M gen=G [instance=I] [type=T] [protocol=P] [assign=M:BYTES,…]
    heartbeat id=M gen=G [instance=I]             commit id=M gen=G [instance=I]
    leave M[/I]…                                  wait MS (timers fire on the way)
    saved (the oldest save is durable)            restart (from what is durable)
    close                                         members (who is in it)

The last line of every answer is the group's state; the leader has a star.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from broker.groups.group import Group
from broker.groups.messages import (
    Answer,
    Effect,
    Join,
    JoinAnswer,
    Refusal,
    Save,
    Sync,
    SyncAnswer,
    Who,
)
from broker.groups.records import GroupValue
from broker.groups.states import GroupLimits


class Script:
    """One group, driven by lines of text."""

    def __init__(self, limits: GroupLimits | None = None) -> None:
        self.limits = limits or GroupLimits(members_max=3)
        self.group = Group("g", self.limits)
        self.now_ms = 0
        self.saves: list[Save] = []
        self.durable: GroupValue | None = None
        self.id_count = 0

    def run(self, line: str) -> str:
        name, *words = line.split()
        plain = [word for word in words if "=" not in word]
        values = dict(word.split("=", 1) for word in words if "=" in word)
        out = list(getattr(self, f"do_{name}")(plain, values))
        return "\n".join([*out, self.state()]) + "\n"

    # ---- commands

    def do_join(self, plain: list[str], values: dict[str, str]) -> Iterator[str]:
        ticket, *flags = plain
        member_id = values.get("id", "")
        if not member_id:
            self.id_count += 1
        join = Join(
            ticket=ticket,
            member_id=member_id,
            fresh_id=f"m{self.id_count}",
            instance_id=values.get("instance"),
            session_ms=int(values.get("session", 10_000)),
            rebalance_ms=int(values.get("rebalance", 5_000)),
            protocol_type=values.get("type", "consumer"),
            protocols=tuple(
                (name, data.encode())
                for name, _, data in (
                    pair.partition(":") for pair in values.get("protocols", "range").split(",")
                )
            ),
            must_know_its_id="old" not in flags,
            may_skip_assignment="skip" in flags,
        )
        yield from self.tell(self.group.join(join, self.now_ms))

    def do_sync(self, plain: list[str], values: dict[str, str]) -> Iterator[str]:
        pairs = [pair.split(":") for pair in values.get("assign", "").split(",") if pair]
        sync = Sync(
            ticket=plain[0],
            member_id=values["id"],
            generation=int(values["gen"]),
            instance_id=values.get("instance"),
            protocol_type=values.get("type"),
            protocol=values.get("protocol"),
            assignments={member_id: data.encode() for member_id, data in pairs},
        )
        yield from self.tell(self.group.sync(sync, self.now_ms))

    def do_heartbeat(self, _: list[str], values: dict[str, str]) -> Iterator[str]:
        who = Who(values["id"], values.get("instance"))
        yield _said(self.group.heartbeat(who, int(values["gen"]), self.now_ms))

    def do_commit(self, _: list[str], values: dict[str, str]) -> Iterator[str]:
        who = Who(values["id"], values.get("instance"))
        yield _said(self.group.check_commit(who, int(values["gen"]), self.now_ms))

    def do_leave(self, plain: list[str], _: dict[str, str]) -> Iterator[str]:
        leavers = [
            Who(member_id, instance or None)
            for member_id, _, instance in (word.partition("/") for word in plain)
        ]
        refusals, effects = self.group.leave(leavers, self.now_ms)
        yield ", ".join(map(_said, refusals))
        yield from self.tell(effects)

    def do_wait(self, plain: list[str], _: dict[str, str]) -> Iterator[str]:
        until_ms = self.now_ms + int(plain[0])
        while self.group.wake_ms is not None and self.group.wake_ms <= until_ms:
            self.now_ms = max(self.now_ms, self.group.wake_ms)
            for line in self.tell(self.group.tick(self.now_ms)):
                yield f"at {self.now_ms}: {line}"
        self.now_ms = until_ms

    def do_saved(self, _: list[str], __: dict[str, str]) -> Iterator[str]:
        save = self.saves.pop(0)
        self.durable = save.value
        yield from self.tell(self.group.saved(save, self.now_ms))

    def do_restart(self, _: list[str], __: dict[str, str]) -> Iterator[str]:
        assert self.durable is not None
        self.saves.clear()
        self.group = Group.restored("g", self.limits, self.durable, self.now_ms)
        yield from ()

    def do_close(self, _: list[str], __: dict[str, str]) -> Iterator[str]:
        yield from self.tell(self.group.close(Refusal.MOVED))

    def do_limits(self, _: list[str], values: dict[str, str]) -> Iterator[str]:
        changes: dict[str, Any] = {name: int(value) for name, value in values.items()}
        self.limits = replace(self.limits, **changes)
        self.group = Group("g", self.limits)
        yield from ()

    def do_members(self, _: list[str], __: dict[str, str]) -> Iterator[str]:
        for member in self.group.roster:
            instance = f"/{member.instance_id}" if member.instance_id else ""
            yield f"{member.member_id}{instance} holds {member.assignment!r}"

    # ---- what came out

    def tell(self, effects: list[Effect]) -> Iterator[str]:
        for effect in effects:
            if isinstance(effect, Save):
                self.saves.append(effect)
                value = effect.value
                members = " ".join(one.member_id for one in value.members) or "nobody"
                yield f"save gen={value.generation} with {members}"
            else:
                yield _told(effect)

    def state(self) -> str:
        group = self.group
        leader = group.roster.leader
        members = [
            member.member_id
            + ("*" if member.member_id == leader else "")
            + ("?" if member.is_waiting() else "")
            for member in group.roster
        ]
        pending = [f"({member_id})" for member_id in group.pending]
        protocol = f" {group.protocol}" if group.protocol else ""
        words = [f"= {group.state.value} gen={group.generation}{protocol}", *members, *pending]
        return " ".join(words)


def _said(refusal: Refusal | None) -> str:
    return "ok" if refusal is None else refusal.name


def _told(effect: Answer) -> str:
    answer = effect.answer
    if isinstance(answer, SyncAnswer):
        said = answer.refusal.name if answer.refusal else f"assigned {answer.assignment!r}"
        return f"{effect.ticket} <- {said}"
    assert isinstance(answer, JoinAnswer)
    if answer.refusal is not None:
        return f"{effect.ticket} <- {answer.refusal.name} {answer.member_id}".rstrip()
    members = [
        one.member_id + (f"/{one.instance_id}" if one.instance_id else "") + f":{one.metadata!r}"
        for one in answer.members
    ]
    skip = " skip" if answer.skip_assignment else ""
    led = f" of {' '.join(members)}" if members else ""
    return (
        f"{effect.ticket} <- {answer.member_id} gen={answer.generation} {answer.protocol}"
        f" led by {answer.leader}{led}{skip}"
    )


def replay(text: str) -> str:
    """The transcript, as it should be if what happens now is right."""
    script, out, is_answer = Script(), [], False
    for line in text.splitlines():
        if line == "----":
            is_answer = True
        elif not line:
            is_answer = False
            out.append("")
        elif is_answer:
            continue
        elif line.startswith("#"):
            out.append(line)
        else:
            out += [line, "----", *script.run(line).splitlines()]
    return "\n".join(out).rstrip() + "\n"

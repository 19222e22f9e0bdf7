"""Probes that say ready when it is not, and pages that break."""

from collections.abc import Callable, Coroutine, Mapping
from functools import partial

import anyio
import pytest
from starlette.applications import Starlette

from broker.admin.app import make_app
from broker.errors import InvalidRequest, MetadataUnavailable
from broker.ports import NodeStatus
from broker.telemetry.metrics import READY, Registry, Sample
from tests.broker.admin.fakes import TOPIC, no_surplus, nobody, nothing, overview, status, unknown
from tests.broker.admin.http import Answer, get

pytestmark = pytest.mark.anyio


def app(
    node: Callable[[], NodeStatus] = status,
    cluster: str = "Zm9v",
    leave: Callable[[int, bool], Coroutine[object, object, None]] = nobody,
    unclean_seal: Callable[[str, str], Coroutine[object, object, None]] = nothing,
    forget: Callable[[str], Coroutine[object, object, None]] = unknown,
    drop_surplus: Callable[[], Coroutine[object, object, Mapping[str, object]]] = no_surplus,
) -> Starlette:
    registry = Registry()
    registry.register(lambda: [Sample(READY, int(node().ready))])
    return make_app(
        status=node,
        topics=lambda: [TOPIC],
        cluster=partial(overview, cluster),
        registry=registry,
        leave=leave,
        forget=forget,
        unclean_seal=unclean_seal,
        drop_surplus=drop_surplus,
    )


async def test_alive_even_when_not_ready() -> None:
    answer = await get(app(lambda: status(ready=False)), "/healthz")
    assert (answer.code, answer.body) == (200, b"ok\n")


async def test_ready_says_so() -> None:
    answer = await get(app(), "/readyz")
    assert answer.code == 200
    assert answer.json() == {"ready": True, "reasons": []}


async def test_not_ready_says_why() -> None:
    answer = await get(app(lambda: status(ready=False, detail="reading back 3 topics")), "/readyz")
    assert answer.code == 503
    assert answer.json() == {"ready": False, "reasons": ["reading back 3 topics"]}


async def test_not_ready_without_a_reason_still_gives_one() -> None:
    answer = await get(app(lambda: status(ready=False)), "/readyz")
    assert answer.json()["reasons"] == ["starting"]


async def test_metrics_are_prometheus_text_of_node_and_process() -> None:
    answer = await get(app(), "/metrics")
    assert answer.code == 200
    assert answer.content_type.startswith("text/plain; version=0.0.4")
    assert b"\nwalrus_ready 1.0\n" in answer.body
    assert b"process_open_fds" in answer.body


async def test_status_shows_node_and_topics() -> None:
    answer = await get(app(), "/v1/status")
    value = answer.json()
    assert value["node"]["backend_reason"] == "io_uring refused (EPERM)"
    (topic,) = value["topics"]
    assert (topic["name"], topic["leader_epoch"], topic["segment_count"]) == ("hello", 3, 2)
    assert topic["topic_id"] == "00000000-0000-0000-0000-000000000007"
    assert topic["sealed_size"] == 4096


async def test_a_cluster_that_is_not_there_yet_is_no_answer() -> None:
    answer = await get(app(), "/v1/cluster")
    assert (answer.code, answer.json()) == (200, {"cluster_id": "Zm9v"})
    assert (await get(app(cluster=""), "/v1/cluster")).code == 503


@pytest.mark.parametrize(("method", "path"), [("POST", "/readyz"), ("GET", "/nothing")])
async def test_anything_else_is_refused(method: str, path: str) -> None:
    with anyio.fail_after(5):
        answer: Answer = await get(app(), path, method=method)
    assert answer.code in {404, 405}


async def test_a_node_is_taken_out_and_taken_back() -> None:
    asked: list[tuple[int, bool]] = []

    async def leave(node: int, leaving: bool) -> None:
        asked.append((node, leaving))

    for word in ("decommission", "recommission"):
        path = f"/v1/nodes/3/{word}"
        answer = await get(app(leave=leave), path, method="POST", content_type="application/json")
        assert answer.code == 200
    assert asked == [(3, True), (3, False)]


async def test_a_member_that_never_came_is_forgotten() -> None:
    asked: list[str] = []

    async def forget(member: str) -> None:
        asked.append(member)

    path, made = "/v1/members/ab12/forget", app(forget=forget)
    assert (await get(made, path, method="POST")).code == 415
    assert (await get(made, path, method="POST", content_type="application/json")).code == 200
    assert asked == ["ab12"]


@pytest.mark.parametrize(
    ("error", "code"), [(InvalidRequest("no such node"), 409), (MetadataUnavailable("later"), 503)]
)
async def test_a_change_that_cannot_be_says_why(error: Exception, code: int) -> None:
    async def leave(node: int, leaving: bool) -> None:
        raise error

    path = "/v1/nodes/3/decommission"
    answer = await get(app(leave=leave), path, method="POST", content_type="application/json")
    assert (answer.code, answer.json()) == (code, {"error": str(error)})


async def test_a_page_in_an_operators_browser_changes_nothing() -> None:
    """A form may be sent anywhere; what says that it is JSON may not."""

    async def leave(node: int, leaving: bool) -> None:
        raise AssertionError

    path = "/v1/nodes/3/decommission"
    for content_type in ("", "text/plain", "application/x-www-form-urlencoded"):
        answer = await get(app(leave=leave), path, method="POST", content_type=content_type)
        assert answer.code == 415
    assert (await get(app(leave=leave), path)).code == 405


async def test_a_topic_goes_on_with_what_is_left() -> None:
    asked: list[tuple[str, str]] = []

    async def unclean_seal(topic: str, force: str) -> None:
        asked.append((topic, force))

    path, made = "/v1/topics/logs/unclean-seal", app(unclean_seal=unclean_seal)
    for body in (b'{"force": "logs"}', b"{}"):
        answer = await get(made, path, method="POST", content_type="application/json", body=body)
        assert answer.code == 200
    assert asked == [("logs", "logs"), ("logs", "")]
    answer = await get(made, path, method="POST", content_type="application/json", body=b"null")
    assert answer.code == 400


async def test_copies_that_nobody_needs_are_dropped_and_counted() -> None:
    async def drop_surplus() -> Mapping[str, object]:
        return {"segments": 3, "size": 700}

    path, made = "/v1/surplus/drop", app(drop_surplus=drop_surplus)
    answer = await get(made, path, method="POST", content_type="application/json")
    assert (answer.code, answer.json()) == (200, {"segments": 3, "size": 700})
    assert (await get(made, path, method="POST", content_type="text/plain")).code == 415

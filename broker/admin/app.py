"""The admin routes.

    GET /healthz    200 while the process answers at all: restart it when this fails
    GET /readyz     200 when it serves clients, else 503; JSON {"ready": …, "reasons": […]}
    GET /metrics    Prometheus text
    GET /v1/status  JSON: the node and its topics
    GET /v1/cluster JSON: nodes, leaders, segments and copies, as this node sees them, and the lag,
                    as their writers know it; 503 before it has taken part

    POST /v1/nodes/ID/decommission    take a node out for good; what is left to do is in /v1/cluster
    POST /v1/nodes/ID/recommission    let it stay after all
    POST /v1/members/ID/forget        take a member that never registered off Raft's list
    POST /v1/topics/NAME/unclean-seal {"force": NAME}: go on with what is left of a topic
    POST /v1/surplus/drop             drop this node's copies that nobody needs; JSON: how many

What is asked by GET is answered from the nodes' memory and changes nothing. A POST must say that it
is JSON: no page in an operator's browser can send that to another host unasked.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict

import anyio.to_thread
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.errors import InvalidRequest, RequestError
from broker.ports import NodeStatus, TopicView
from broker.telemetry.metrics import CONTENT_TYPE, Registry


def make_app(
    *,
    status: Callable[[], NodeStatus],
    topics: Callable[[], Sequence[TopicView]],
    cluster: Callable[[], Coroutine[object, object, Mapping[str, object]]],
    registry: Registry,
    leave: Callable[[int, bool], Coroutine[object, object, None]],
    forget: Callable[[str], Coroutine[object, object, None]],
    unclean_seal: Callable[[str, str], Coroutine[object, object, None]],
    drop_surplus: Callable[[], Coroutine[object, object, Mapping[str, object]]],
) -> Starlette:
    """The routes over these callables, which are called on the event loop and must not block.

    `leave(node, leaving)`, `forget(member)`, `unclean_seal(topic, force)` and `drop_surplus()`
    raise RequestError.
    """

    # Coroutines all: starlette would run a plain function on a worker thread, beside the loop that
    # owns the state.

    async def healthz(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def readyz(_: Request) -> Response:
        node = status()
        reasons = [] if node.ready else [node.detail or "starting"]
        return _json({"ready": node.ready, "reasons": reasons}, 200 if node.ready else 503)

    async def metrics(_: Request) -> Response:
        process = await anyio.to_thread.run_sync(registry.render_process)
        return Response(registry.render() + process, headers={"content-type": CONTENT_TYPE})

    async def node_status(_: Request) -> Response:
        return _json({"node": asdict(status()), "topics": [_summary(topic) for topic in topics()]})

    async def cluster_status(_: Request) -> Response:
        found = await cluster()
        return _json(found, 200 if found["cluster_id"] else 503)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/v1/status", node_status),
            Route("/v1/cluster", cluster_status),
            *_wishes(leave, forget, unclean_seal, drop_surplus),
        ]
    )


def _wishes(
    leave: Callable[[int, bool], Coroutine[object, object, None]],
    forget: Callable[[str], Coroutine[object, object, None]],
    unclean_seal: Callable[[str, str], Coroutine[object, object, None]],
    drop_surplus: Callable[[], Coroutine[object, object, Mapping[str, object]]],
) -> list[Route]:
    """What an operator may want to be done."""

    async def decommission(request: Request) -> Response:
        return await _done(request, leave(request.path_params["node"], True))

    async def recommission(request: Request) -> Response:
        return await _done(request, leave(request.path_params["node"], False))

    async def forget_member(request: Request) -> Response:
        return await _done(request, forget(request.path_params["member"]))

    async def seal(request: Request) -> Response:
        try:
            force = msgspec.json.decode(await request.body(), type=_UncleanSeal).force
        except msgspec.MsgspecError as error:
            return _json({"error": f"the body: {error}"}, 400)
        return await _done(request, unclean_seal(request.path_params["topic"], force))

    async def surplus(request: Request) -> Response:
        return await _done(request, drop_surplus())

    return [
        Route(path, wish, methods=["POST"])
        for path, wish in (
            ("/v1/nodes/{node:int}/decommission", decommission),
            ("/v1/nodes/{node:int}/recommission", recommission),
            ("/v1/members/{member}/forget", forget_member),
            ("/v1/topics/{topic}/unclean-seal", seal),
            ("/v1/surplus/drop", surplus),
        )
    ]


class _UncleanSeal(msgspec.Struct):
    force: str = ""


async def _done(
    request: Request, work: Coroutine[object, object, Mapping[str, object] | None]
) -> Response:
    """Do what an operator asks for; the answer is what came of it."""
    if request.headers.get("content-type") != "application/json":
        work.close()
        return _json({"error": "the content type must be application/json"}, 415)
    try:
        found = await work
    except InvalidRequest as error:
        return _json({"error": str(error)}, 409)
    except RequestError as error:
        return _json({"error": str(error)}, 503)
    return _json(found or {})


def _summary(topic: TopicView) -> dict[str, object]:
    return {
        "name": topic.name,
        "topic_id": str(topic.topic_id),
        "is_internal": topic.is_internal,
        "leader_id": topic.leader_id,
        "leader_epoch": topic.leader_epoch,
        "replicas": topic.replicas,
        "in_sync": topic.in_sync,
        "log_start_offset": topic.log_start_offset,
        "segment_count": len(topic.segments),
        "sealed_size": sum(segment.size or 0 for segment in topic.segments),
        "configs": dict(topic.configs),
    }


def _json(value: object, status_code: int = 200) -> Response:
    body = msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"
    return Response(body, status_code, media_type="application/json")

"""A picture of the cluster that nobody can read, or that hides what is wrong."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner

from broker.cli.cluster import in_words
from broker.cli.decommission import progress
from broker.cli.main import walrus

NODES = [
    {
        "node_id": node,
        "is_alive": node != 3,
        "is_raft_leader": node == 2,
        "raft_role": "voter",
        "incarnation": node,
        "peer": f"127.0.0.1:600{node}",
        "listeners": {"native": f"127.0.0.1:808{node}"},
        "led_topics": int(node == 1),
        "is_leaving": node == 2,
        "remaining": {"unsealed": 1, "sealed": 7} if node == 2 else None,
    }
    for node in (1, 2, 3)
]

FOUND: dict[str, Any] = {
    "cluster_id": "Zm9v",
    "answered_by": 1,
    "raft_leader": 2,
    "reaches_majority": True,
    "revision": 9,
    "nodes": NODES,
    "unregistered_members": [],
    "topics": [
        {
            "name": "logs",
            "leader_id": 1,
            "leader_epoch": 4,
            "replicas": [1, 2, 3],
            "live_replicas": [1, 2],
            "under_replicated_segments": 2,
            "unreadable": [],
            "lag": {"2": 0, "3": 17},
            "segments": [{}, {}, {}, {}],
        },
        {
            "name": "orphan",
            "leader_id": None,
            "leader_epoch": 1,
            "replicas": [3],
            "live_replicas": [],
            "under_replicated_segments": 1,
            "unreadable": [],
            "lag": None,
            "segments": [{}],
        },
    ],
}


def test_what_is_wrong_is_in_the_first_line() -> None:
    first = in_words(FOUND).splitlines()[0]
    assert "2 of 3 nodes alive" in first
    assert "Raft is led by node 2" in first
    assert "3 under-replicated segments" in first


def test_nodes_and_topics_are_rows() -> None:
    rows = [line.split() for line in in_words(FOUND).splitlines()]
    assert ["3", "fenced", "voter", "0", "127.0.0.1:6003", "native=127.0.0.1:8083"] in rows
    assert ["logs", "1", "4", "4", "1,2,3", "1,2", "2", "2:0", "3:17"] in rows
    assert ["orphan", "none", "1", "1", "3", "none", "1", "?"] in rows


def test_how_far_a_node_is_that_leaves() -> None:
    assert "alive, leaving" in in_words(FOUND)
    assert "7 closed segments have too few copies elsewhere" in progress(FOUND, 2)
    assert "stays" in progress(FOUND, 1)
    assert "is out" in progress(FOUND, 9)


def test_a_cluster_without_leader_or_topics() -> None:
    text = in_words(FOUND | {"raft_leader": None, "topics": []})
    assert "Raft has no leader" in text
    assert "every segment has all its copies" in text
    assert text.endswith("No topics.")


@pytest.fixture
def admin() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/v1/cluster" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(FOUND).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_json_is_everything(admin: str) -> None:
    result = CliRunner().invoke(walrus, ["cluster", "status", "--addr", admin, "--json"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == FOUND


def test_words_by_default(admin: str) -> None:
    result = CliRunner().invoke(walrus, ["cluster", "status", "--addr", admin])
    assert result.exit_code == 0
    assert result.stdout.startswith("Cluster Zm9v: ")


def test_nobody_there_is_one_line() -> None:
    result = CliRunner().invoke(walrus, ["cluster", "status", "--addr", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "no answer from the admin listener 127.0.0.1:1: Connection refused" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_member_that_never_registered_is_not_hidden() -> None:
    stranger = {"member": "ab" * 16, "raft_role": "learner"}
    text = in_words(FOUND | {"unregistered_members": [stranger]})
    assert f"walrus cluster forget {'ab' * 16}" in text
    assert "forget" not in in_words(FOUND)


def test_a_node_that_is_left_alone_says_that_it_knows_nothing_new() -> None:
    text = in_words(FOUND | {"reaches_majority": False, "raft_leader": None})
    assert "Node 1 reaches no majority of the metadata" in text
    assert "reaches no majority" not in in_words(FOUND)


def test_offsets_that_nobody_has_are_named() -> None:
    gone = FOUND["topics"][0] | {"unreadable": [[3, 10], [10, 20], [30, 40]]}
    text = in_words(FOUND | {"topics": [gone]})
    assert "logs: no live node has offsets 3 to 19." in text
    assert "logs: no live node has offsets 30 to 39." in text
    assert "everything below 40 is deleted" in text
    assert "no live node" not in in_words(FOUND)

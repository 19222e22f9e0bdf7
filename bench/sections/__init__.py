"""What is measured: each section is a list of cells, the most telling first."""

from collections.abc import Callable

from bench.cells import Cell, Options
from bench.sections.ceiling import ceilings
from bench.sections.clusters import clusters
from bench.sections.consuming import consumers
from bench.sections.latency import end_to_end
from bench.sections.life import life
from bench.sections.natives import natives
from bench.sections.producing import connections, producers, topics
from bench.sections.stored import stored

SECTIONS: dict[str, Callable[[Options], list[Cell]]] = {
    "life": life,
    "producer": producers,
    "ceiling": ceilings,
    "consumer": consumers,
    "end-to-end": end_to_end,
    "topics": topics,
    "connections": connections,
    "native": natives,
    "cluster": clusters,
    "stored": stored,
}

"""What a client reaches at most: the same cells against servers that no broker can be ahead of."""

from dataclasses import replace

from bench.cells import Cell, Options
from bench.peers import Walrus
from bench.rust_peers import File, Memory, Nothing
from bench.sections.latency import end_to_end
from bench.sections.producing import producers

SHARE = 0.5
"""Of the peak, for end-to-end latency."""


def ceilings(options: Options) -> list[Cell]:
    rates = [
        replace(
            cell,
            section="ceiling",
            name=cell.name + suffix,
            peers=(Walrus, peer),
            is_counted=False,
        )
        for peer, suffix in ((Nothing, ""), (File, ", into a file"))
        for cell in producers(options)
    ]
    latencies = [
        replace(cell, section="ceiling", peers=(Walrus, Memory))
        for cell in end_to_end(replace(options, shares=(SHARE,)))
    ]
    return rates + latencies

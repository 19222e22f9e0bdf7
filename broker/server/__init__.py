"""The composition root: builds a node, wires it, runs it in one task group, and drains it.

node.py     the node: what is made in which order, and what ends it
samples.py  what it shows at /metrics and through METRICS
"""

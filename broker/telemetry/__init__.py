"""What a node tells about itself: log lines, metrics, the clock behind both.

logging.py    structlog and the standard library's loggers, through one pipeline to stderr
metrics.py    plain integers on the hot path, and the table of metrics they are shown as
reference.py  that table as Markdown, for `docs/operations.md`
start.py      what a node knows when it has started, for the banner
clock.py      the system's clocks
version.py    which Walrus this is
"""

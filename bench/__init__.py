"""Side by side: this broker, Apache Kafka and the Walrus engine, on one machine in one run.

`matrix`, `stats`, `readings` and `table` are pure; `peers`, `rust_peers` and `meter` are skins
around processes, `pages` around the page cache;
`java`, `load` and `closed_loop` are the clients; `sections` says what is measured, `run` measures.
"""

"""What the tests with real clients share.

server.py    a broker as a process of its own: start, wait until ready, kill, stop
clients.py   short forms of what every client can do: write these, read those
foreign.py   clients in Go, JavaScript and Rust, as programs
java.py      Kafka's own programs and our small ones, on one Kafka version
native.py    the native protocol on a plain socket
processes.py clients as processes that tell what happens to them
wire.py      Kafka requests as bytes, for what no well-behaved client would send
page.py      docs/kafka-compat.md, from what clients were seen to ask
recorder.py  notes the requests of one client on their way
programs.py  programs a test needs, and what happens where they are missing
"""

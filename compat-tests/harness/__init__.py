"""What the tests with real clients share.

server.py     a broker as a process of its own: start, wait until ready, kill, stop
trace.py      its system calls, in order
counting.py   its work, counted where it is done; counted.py reads that
clients.py    short forms of what every client can do: write these, read those
groups.py     members of groups, as objects
processes.py  clients as processes that tell what happens to them: writer.py, member.py, and
              defaults.py for those that nobody has configured
history.py    what members told, against what must hold of every group (pure)
foreign.py    clients in Go, JavaScript and Rust, as programs
java.py       Kafka's own programs and our small ones, on one Kafka version
connection.py a plain socket to a node
native.py     the native protocol on one
wire.py       Kafka requests as bytes, for what no well-behaved client would send
group_wire.py those of a group's members
page.py       docs/kafka-compat.md, from what clients were seen to ask
recorder.py   notes the requests of one client on their way
programs.py   programs a test needs, and what happens where they are missing
"""

"""HTTP for the people and programs that look after a node: health, metrics, status.

app.py         the routes, over callables that are passed in
connection.py  one that gives its place up
server.py      uvicorn inside the node's own task group
"""

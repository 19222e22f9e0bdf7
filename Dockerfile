# A node, as small as the base image lets it be, run by nobody in particular.
FROM python:3.11-slim-bookworm AS build

# The lock before the sources: a change of code does not install the dependencies again.
WORKDIR /src
COPY requirements.txt ./
RUN python -m venv /app \
 && /app/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY broker broker
COPY engine engine
COPY raft raft
RUN /app/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /app/bin/python -m compileall -q /app


FROM python:3.11-slim-bookworm

RUN groupadd --system --gid 10001 walrus \
 && useradd --system --uid 10001 --gid walrus --home-dir /data --no-create-home walrus \
 && install --directory --owner walrus --group walrus /data
COPY --from=build /app /app

# Inside a container other addresses than its own are the world; what is published decides who
# may come in.
ENV PATH=/app/bin:$PATH \
    WALRUS_DATA_DIR=/data \
    WALRUS_CLIENT_HOST=0.0.0.0 \
    WALRUS_KAFKA_LISTENER=PLAINTEXT://0.0.0.0:9092=127.0.0.1:9092 \
    WALRUS_ADMIN_HOST=0.0.0.0 \
    WALRUS_RAFT_HOST=0.0.0.0

USER walrus
VOLUME /data
EXPOSE 8080 9092 9644 6000
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9644/readyz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["walrus"]
CMD ["serve"]

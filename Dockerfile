# The service as a container: this checkout and what requirements.lock names, checked by hash, on Python's slim image.
# It runs under any user id and on a read-only root file system; what it writes goes to /data. `make image` builds it,
# `make test-image` tries it, also where no container engine runs.

# Any image with Python 3.11 or newer, venv, pip, CA certificates and time zones will do.
ARG BASE=python:3.13-slim-trixie


FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python3 -m venv --without-pip /opt/agent-service

# Wheels alone: what would have to be compiled here needs a compiler, and a thought.
COPY requirements.lock ./
RUN python3 -m pip --python /opt/agent-service/bin/python install --only-binary :all: --require-hashes \
    -r requirements.lock

# The build backend is checked by its hash too, and stays in this stage.
COPY requirements-dev.lock ./
RUN awk '/^[^ #]/ { wanted = /^setuptools==/ } wanted' requirements-dev.lock >build.lock \
    && python3 -m pip install --require-hashes --target /build -r build.lock

COPY pyproject.toml README.md LICENSE ./
COPY agent_service agent_service
COPY clients/python/pyproject.toml clients/python/README.md clients/python/LICENSE clients/python/
RUN PYTHONPATH=/build python3 -m pip --python /opt/agent-service/bin/python install \
    --no-deps --no-build-isolation . ./clients/python

# A read-only root can keep no bytecode, so all of it is made here. By hash and unchecked: it stays valid where a builder
# rewrites the times of files.
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/agent-service/lib


FROM ${BASE}

# Python's image comes without the bytecode of the standard library. What no service needs is left out.
RUN test -s /etc/ssl/certs/ca-certificates.crt \
    && test -s /usr/share/zoneinfo/UTC \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        -x '/(site-packages|dist-packages|ensurepip|idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && install -d -m 1777 -o 65532 -g 65532 /data

COPY --from=build /opt/agent-service /opt/agent-service

# Production: without an API_KEY of 32 characters or an API_KEYS_FILE the server refuses to start, and it never answers
# from a script unless LLM_PROVIDER=scripted asks for that. ./config.yaml is /app/config.yaml.
ENV PATH=/opt/agent-service/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    AGENT_SERVICE_ENV=production \
    API_HOST=0.0.0.0 \
    API_PORT=9000 \
    METRICS_PORT=9464 \
    DATABASE_URL=sqlite:////data/agent_service.db
WORKDIR /app
VOLUME /data
EXPOSE 9000 9464

# A number, so that Kubernetes can tell that it is not root. It has no name: any other id does as well.
USER 65532:65532

# Asks localhost:$API_PORT, hence a port is better changed there than by `serve --port`.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5s --retries=3 CMD ["agent-service", "health"]

# Drains; give it DRAIN_DELAY + DRAIN_GRACE + 5 s before it is killed.
STOPSIGNAL SIGTERM
ENTRYPOINT ["agent-service"]
CMD ["serve"]

ARG REVISION=unknown
LABEL org.opencontainers.image.title="agent-service" \
    org.opencontainers.image.description="Runs LLM agents as a durable production service behind gRPC." \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.source="https://git.example.org/agent-service/agent-service" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"

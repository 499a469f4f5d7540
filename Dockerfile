# docker build -t foretrace --build-arg COMMIT="$(git rev-parse HEAD)" .
# docker run --rm --gpus all -v "$PWD/mlruns:/app/mlruns" foretrace trainer.max_epochs=50
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}

WORKDIR /app
# What changes least comes first: the libraries are one layer that most builds take from the cache.
COPY requirements.lock ./
RUN python3 -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir --requirement requirements.lock

COPY pyproject.toml README.md ./
COPY src src
COPY conf conf
# Any user may write runs and caches; a bare `mlflow ui` reads ./mlflow.db.
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --editable . \
    && ln -s mlruns/mlflow.db mlflow.db \
    && mkdir -p mlruns .cache \
    && chmod 1777 mlruns .cache

# A user without an entry in /etc/passwd has neither a home nor a name, and libraries ask for both.
ARG COMMIT=unknown
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib USER=foretrace PYTHONUNBUFFERED=1 FORETRACE_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="foretrace" org.opencontainers.image.revision="${COMMIT}"
USER 1000:1000
VOLUME /app/mlruns
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/venv/bin/python", "src/train.py"]

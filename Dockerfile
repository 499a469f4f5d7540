# docker build -t foretrace --build-arg COMMIT="$(git rev-parse HEAD)" .
# docker run --rm --gpus all -v "$PWD/mlruns:/app/mlruns" foretrace trainer.max_epochs=50
# docs/image.md says the rest.
ARG BASE_IMAGE=python:3.11-slim-bookworm
FROM ${BASE_IMAGE}
WORKDIR /app

# What changes least comes first: the libraries are one layer that most builds take from the cache. They come in the
# versions of the lock, and only those that run. TORCH_BUILD=cpu asks for torch==…+cpu; empty takes the registry's own,
# with CUDA on x86-64. The secret pip.conf, if given, says where pip finds it, and stays out of the image.
ARG TORCH_BUILD=
COPY pyproject.toml requirements.lock ./
RUN --mount=type=secret,id=pip.conf \
    sed -i "s/^torch==.*/&${TORCH_BUILD:+"+${TORCH_BUILD}"}/" requirements.lock \
    && mkdir -p conf src/foretrace src/hydra_plugins && touch README.md src/foretrace/__init__.py \
    && python3 -m venv /opt/venv \
    && PIP_CONFIG_FILE=/run/secrets/pip.conf /opt/venv/bin/pip install --no-cache-dir \
        --constraint requirements.lock --editable '.[simulation,serving,sweeps,server]' pip

# Any user may write runs and caches; a bare `mlflow ui` reads ./mlflow.db.
RUN ln -s mlruns/mlflow.db mlflow.db && mkdir -m 1777 mlruns .cache
COPY conf conf
COPY src src
# Later its user could not: each start would compile them, or not even read those of a checkout closed to others.
RUN chmod -R a+rX conf src && /opt/venv/bin/python -m compileall -q src

# A user without an entry in /etc/passwd has neither a home nor a name, and libraries ask for both. NVIDIA's two say
# what the host's container toolkit mounts; without it they mean nothing.
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib USER=foretrace PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 \
    FORETRACE_MOUNTED=1 NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000:1000
VOLUME /app/mlruns
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/venv/bin/python", "src/train.py"]

ARG COMMIT=unknown
ARG CREATED=unknown
ARG VERSION=unknown
ENV FORETRACE_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="foretrace" \
      org.opencontainers.image.description="Train stacked LSTMs on multivariate sequences, and know how good they are" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${COMMIT}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.version="${VERSION}"

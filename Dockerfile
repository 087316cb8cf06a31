# Three images of one commit: `train` runs every step, `serve` answers requests, `station` works at the line. `make image`
# builds them; docs/image.md.
# Any base with Python 3.11, pip and venv will do: make image BASE=registry.example.com/python:3.11
ARG BASE=python:3.11-slim-bookworm

# ---- ndpnet itself: a layer of its own, the only one that a commit changes
FROM ${BASE} AS code
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG GIT_COMMIT
ARG GIT_DIRTY
ARG LOCK_HASH
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY . .
# the scripts of a package name the Python that installs it: the path is that of the images below
RUN python3 deploy/image/identity.py ndpnet/build.json \
 && python3 -m venv --without-pip /opt/ndpnet \
 && python3 -m pip --python /opt/ndpnet/bin/python install "$(grep '^setuptools==' requirements.lock)" \
 && python3 -m pip --python /opt/ndpnet/bin/python install --no-deps --no-build-isolation --prefix /opt/code .

# ---- names of what each image installs: other changes to pyproject.toml leave the libraries as they are
FROM ${BASE} AS requirements
WORKDIR /source
COPY deploy/image/requirements.py pyproject.toml ./
RUN for each in train serve station; do python3 requirements.py "$each" > "$each.txt"; done

# ---- where all images run: any user, a read-only root; what is written goes under /tmp or to a volume
FROM ${BASE} AS runtime
RUN useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin ndpnet \
 && mkdir /work && chown 10001:10001 /work
ENV PATH=/opt/ndpnet/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/tmp USER=ndpnet \
    MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/tmp/cache XDG_CONFIG_HOME=/tmp/config TORCH_HOME=/tmp/torch \
    DVC_SITE_CACHE_DIR=/tmp/dvc DVC_NO_ANALYTICS=1 MLFLOW_DISABLE_TELEMETRY=true GIT_PYTHON_REFRESH=quiet \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /work
# the first process of a container hears only signals that it asks for: Python asks for this one, and not for SIGTERM
STOPSIGNAL SIGINT
USER 10001:10001

# ---- train: every dependency, CUDA included; its environment has no pip, nothing is installed at run time
FROM ${BASE} AS train-libraries
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY --from=requirements /source/train.txt ./
COPY requirements.lock ./
RUN python3 -m venv --without-pip /opt/ndpnet \
 && python3 -m pip --python /opt/ndpnet/bin/python install -r train.txt --constraint requirements.lock \
 && python3 -m pip --python /opt/ndpnet/bin/python check

FROM runtime AS train
COPY --from=train-libraries /opt/ndpnet /opt/ndpnet
COPY --from=code /opt/code /opt/ndpnet
ARG GIT_COMMIT
ARG GIT_DIRTY
ARG LOCK_HASH
LABEL org.opencontainers.image.title="ndpnet, every step" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.revision=${GIT_COMMIT} \
      ndpnet.git-dirty=${GIT_DIRTY} \
      ndpnet.lock-hash=${LOCK_HASH}
# no entrypoint: the engines that run pipelines pass whole commands
CMD ["ndpnet", "--help"]

# ---- serve: what inspecting and serving need; torch without CUDA where that index can be reached
FROM ${BASE} AS serve-libraries
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
COPY --from=requirements /source/serve.txt ./
COPY requirements.lock ./
RUN python3 -m venv --without-pip /opt/ndpnet \
 && python3 -m pip --python /opt/ndpnet/bin/python install $(grep -E "^torch(vision)?==" requirements.lock) --no-deps \
    --index-url "${TORCH_INDEX}" \
 && python3 -m pip --python /opt/ndpnet/bin/python install -r serve.txt --constraint requirements.lock \
 && python3 -m pip --python /opt/ndpnet/bin/python check

FROM runtime AS serve
COPY --from=serve-libraries /opt/ndpnet /opt/ndpnet
COPY --from=code /opt/code /opt/ndpnet
ARG GIT_COMMIT
ARG GIT_DIRTY
ARG LOCK_HASH
LABEL org.opencontainers.image.title="ndpnet, a registered model over HTTP" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.revision=${GIT_COMMIT} \
      ndpnet.git-dirty=${GIT_DIRTY} \
      ndpnet.lock-hash=${LOCK_HASH}
EXPOSE 5001
# files come through MLflow's server: at the store's own addresses, which MLflow asks for otherwise, only the server may be
ENV MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD=false
# what `mlflow models serve` starts, without the process that would wait for it and not hear that it should end
CMD ["/bin/sh", "-ec", "export __pyfunc_model_path__=\"${MODEL_URI:?as in models:/ndpnet-brick@champion, with MLFLOW_TRACKING_URI}\"; \
exec uvicorn --host 0.0.0.0 --port 5001 mlflow.pyfunc.scoring_server.app:app"]

# ---- station: what `serve` has, the same layer, and a small one that connects it to cameras, people and machines
FROM serve-libraries AS station-libraries
COPY --from=requirements /source/station.txt ./
COPY requirements-station.lock ./
RUN cat requirements.lock requirements-station.lock > both.lock \
 && python3 -m pip --python /opt/ndpnet/bin/python install -r station.txt --constraint both.lock --prefix /opt/station \
 && PYTHONPATH=$(echo /opt/station/lib/python3*/site-packages) python3 -m pip --python /opt/ndpnet/bin/python check

FROM runtime AS station
COPY --from=serve-libraries /opt/ndpnet /opt/ndpnet
COPY --from=station-libraries /opt/station /opt/ndpnet
COPY --from=code /opt/code /opt/ndpnet
ARG GIT_COMMIT
ARG GIT_DIRTY
ARG LOCK_HASH
LABEL org.opencontainers.image.title="ndpnet, a station at the line" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.revision=${GIT_COMMIT} \
      ndpnet.git-dirty=${GIT_DIRTY} \
      ndpnet.lock-hash=${LOCK_HASH}
EXPOSE 8600
CMD ["ndpnet", "station", "--config", "/settings/station.yaml"]

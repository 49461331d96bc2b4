# Draw, train, serve web pages or answer in LINE: docs/container.md.
#
#   docker build -t latent-diffusion .
#   docker run --rm -v "$PWD/outputs:/data/outputs" latent-diffusion txt2img --prompt "a red cat"
#
# TORCH: cpu, or cu126 for NVIDIA's devices. PACKAGES: draw, or all, which adds what training,
# measuring, the search for neighbours and diffusers need.
ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS python
# Debian's own Python 3.11: its security updates come with the base's.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/*

FROM python AS packages
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip python3-venv \
    && rm -rf /var/lib/apt/lists/*
ARG TORCH=cpu
ARG PACKAGES=draw
COPY container/requirements-*.txt container/torch*.txt /locks/
# Without pip of its own: nothing is installed in a running container.
RUN python3 -m venv --without-pip /opt/venv
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install --no-deps --only-binary :all: --require-hashes \
        -r "/locks/requirements-${PACKAGES}.txt"
RUN --mount=type=cache,target=/root/.cache/pip \
    pip --python /opt/venv/bin/python install -r "/locks/torch-${TORCH}.txt" \
    && if [ "${PACKAGES}" = all ]; then \
        pip --python /opt/venv/bin/python install --no-deps -r /locks/torchvision.txt \
            --index-url "https://download.pytorch.org/whl/${TORCH}"; \
    fi
# What only serves to compile against packages, to test them, or to run gradio's pages in Node; and
# the bytecode of four hundred models of which the programs load these.
WORKDIR /opt/venv/lib/python3.11/site-packages
RUN rm -rf torch/include torch/share gradio/templates/node \
    && find torch/bin -mindepth 1 ! -name torch_shm_manager -delete \
    && find . -type d \( -name tests -o -name test \) -prune -exec rm -rf {} + \
    && find transformers/models -type d -name __pycache__ -prune -exec rm -rf {} + \
    && python3 -m compileall -q transformers/models/auto transformers/models/clip \
        transformers/models/marian

FROM python
RUN useradd --uid 1000 --user-group --no-create-home --home-dir /tmp painter \
    && install -d -o painter -g painter -m 1777 /data /models
COPY --from=packages /opt/venv /opt/venv
WORKDIR /app
COPY models models
# Where the programs look for Stable Diffusion's weights and the safety checker's.
RUN ln -s /models models/ldm/stable-diffusion-v1 \
    && ln -s /models/safety-checker models/safety-checker
COPY LICENSE NOTICE main.py ./
COPY apps apps
COPY cldm cldm
COPY configs configs
COPY container container
COPY data data
COPY ldm ldm
COPY optimizedSD optimizedSD
COPY scripts scripts
# The root may be read-only: compiled here, written below /data, /models and /tmp alone.
RUN python3 -m compileall -q apps cldm container ldm main.py optimizedSD scripts
ENV HOME=/tmp \
    PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/app \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /data
VOLUME ["/data", "/models"]
# Of the bot and of the pages.
EXPOSE 8000 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 \
    CMD ["python", "/app/container/health.py"]
# As process 1 a program would not hear SIGTERM before it has a handler of its own; tini's child does.
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "python", "/app/container/run.py"]

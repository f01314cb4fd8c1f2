# One image for every worker and for `streamrec` itself, with one of two builds of torch:
#   docker build --target cpu .     PyTorch's build for CPUs
#   docker build --target cuda .    PyPI's build, which brings CUDA; it also runs without a GPU
ARG PYTHON=python:3.11.14-slim-trixie

FROM $PYTHON AS build
WORKDIR /src
# who runs the image may write nothing to where it is installed, and would compile torch with every start
ENV UV_COMPILE_BYTECODE=1 \
    UV_NO_CACHE=1
COPY requirements/build.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt \
    && uv venv /opt/streamrec
COPY requirements/runtime.txt requirements/torch.txt requirements/torch-cpu.txt requirements/

FROM build AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY streamrec streamrec
COPY workers workers
RUN uv build --wheel --no-build-isolation --out-dir /dist

FROM build AS build-cpu
# where torch's build for CPUs is; `--find-links URL` names a mirror
ARG TORCH_CPU="--torch-backend cpu"
RUN uv pip install --python /opt/streamrec/bin/python --require-hashes $TORCH_CPU \
    -r requirements/runtime.txt -r requirements/torch-cpu.txt
COPY --from=wheel /dist /dist
RUN uv pip install --python /opt/streamrec/bin/python --no-deps /dist/*.whl \
    && NUMBA_CACHE_DIR=/opt/streamrec/compiled /opt/streamrec/bin/python -m streamrec.model.warm_up

FROM build AS build-cuda
RUN uv pip install --python /opt/streamrec/bin/python --require-hashes \
    -r requirements/runtime.txt -r requirements/torch.txt
COPY --from=wheel /dist /dist
RUN uv pip install --python /opt/streamrec/bin/python --no-deps /dist/*.whl \
    && NUMBA_CACHE_DIR=/opt/streamrec/compiled /opt/streamrec/bin/python -m streamrec.model.warm_up

FROM $PYTHON AS run
RUN useradd --uid 10001 --create-home --home-dir /var/lib/streamrec streamrec
ENV PATH=/opt/streamrec/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STREAMREC_DATA_DIR=/var/lib/streamrec \
    NUMBA_CACHE_DIR=/tmp/compiled
USER 10001:10001
WORKDIR /var/lib/streamrec
LABEL org.opencontainers.image.title="streamrec" \
      org.opencontainers.image.description="A streaming, event-driven recommender" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 CMD ["python", "-m", "workers.alive"]
# numba reads compiled loops only from where it could write them
ENTRYPOINT ["sh", "-c", "test -d $NUMBA_CACHE_DIR || cp -R /opt/streamrec/compiled $NUMBA_CACHE_DIR; exec streamrec \"$@\"", "streamrec"]
CMD ["--help"]

FROM run AS cuda
COPY --from=build-cuda /opt/streamrec /opt/streamrec

FROM run AS cpu
COPY --from=build-cpu /opt/streamrec /opt/streamrec

# One image for every worker and for `streamrec` itself.
# The pinned torch brings CUDA: the image takes several gigabytes and runs with and without a GPU.

FROM python:3.11.14-slim-trixie AS build
WORKDIR /src
# who runs the image may write nothing to where it is installed, and would compile torch with every start
ENV UV_COMPILE_BYTECODE=1
COPY requirements/build.txt requirements/runtime.txt requirements/torch.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/build.txt
RUN uv venv /opt/streamrec \
    && uv pip install --no-cache --python /opt/streamrec/bin/python --require-hashes \
       -r requirements/runtime.txt -r requirements/torch.txt
COPY pyproject.toml README.md LICENSE ./
COPY streamrec streamrec
COPY workers workers
RUN uv build --wheel --no-build-isolation --out-dir /dist \
    && uv pip install --no-cache --python /opt/streamrec/bin/python --no-deps /dist/*.whl

FROM python:3.11.14-slim-trixie
RUN useradd --uid 10001 --create-home --home-dir /var/lib/streamrec streamrec
COPY --from=build /opt/streamrec /opt/streamrec
ENV PATH=/opt/streamrec/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    STREAMREC_DATA_DIR=/var/lib/streamrec \
    NUMBA_CACHE_DIR=/var/lib/streamrec/compiled
USER streamrec
WORKDIR /var/lib/streamrec
VOLUME /var/lib/streamrec
ENTRYPOINT ["streamrec"]
CMD ["--help"]

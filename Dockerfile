# The receiver in an image. It writes to its working folder, /data, and to /tmp, and nowhere else: run it with a read-only
# root file system. The same image serves (`serve`), works (`work`) and does every other command of `receiver`.
ARG PYTHON=3.13.7-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /src
COPY deploy/requirements.txt deploy/build-requirements.txt deploy/
RUN python -m venv --without-pip /opt/receiver \
    && python -m venv --without-pip /opt/build \
    && pip --python /opt/receiver/bin/python install --no-cache-dir --no-deps --require-hashes -r deploy/requirements.txt \
    && pip --python /opt/build/bin/python install --no-cache-dir --no-deps --require-hashes -r deploy/build-requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY receiver receiver
RUN /opt/build/bin/hatchling build -t wheel -d dist \
    && pip --python /opt/receiver/bin/python install --no-cache-dir --no-deps --no-index dist/*.whl \
    && pip --python /opt/receiver/bin/python check

FROM python:${PYTHON}
ENV PATH=/opt/receiver/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RECEIVER_HOST=0.0.0.0
COPY --from=build /opt/receiver /opt/receiver
RUN install -d -o 10001 -g 10001 /data
WORKDIR /data
VOLUME /data
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# A process that only works (`receiver work`) has no port: switch this off there, as deploy/compose.yaml does.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:%s/healthz' % os.environ.get('RECEIVER_PORT', '8000'), timeout=3)"]
ENTRYPOINT ["receiver"]
CMD ["serve"]

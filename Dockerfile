# The drawing box and the service. Not built where it was written: no container engine ran there.
#
#   docker build -t digitwise .
#   docker run --rm --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 digitwise
FROM python:3.13-slim AS build
COPY pyproject.toml README.md LICENSE /source/
COPY src /source/src
RUN python -m venv /opt/digitwise \
    && /opt/digitwise/bin/pip install --no-cache-dir '/source[serve]'

FROM python:3.13-slim
COPY --from=build /opt/digitwise /opt/digitwise
RUN useradd --system --no-create-home digitwise
USER digitwise
ENV PATH=/opt/digitwise/bin:$PATH PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=3s --start-period=5s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
CMD ["digitwise", "serve", "--host", "0.0.0.0"]

# docs/containers.md describes the image and how to run it.
FROM python:3.12-slim-bookworm AS build
COPY pyproject.toml requirements-extras.lock README.md LICENSE /src/
COPY dicom2fhir /src/dicom2fhir
RUN python -m venv /opt/dicom2fhir \
    && /opt/dicom2fhir/bin/pip install --no-cache-dir --require-hashes --requirement /src/requirements-extras.lock \
    && /opt/dicom2fhir/bin/pip install --no-cache-dir --no-deps /src \
    && /opt/dicom2fhir/bin/pip uninstall --yes pip

FROM python:3.12-slim-bookworm
RUN useradd --system --uid 8104 --home-dir /var/lib/dicom2fhir --create-home --shell /usr/sbin/nologin dicom2fhir \
    && install -d /etc/dicom2fhir
COPY --from=build /opt/dicom2fhir /opt/dicom2fhir
ENV PATH=/opt/dicom2fhir/bin:$PATH
USER dicom2fhir
VOLUME ["/var/lib/dicom2fhir"]
EXPOSE 11112 8112
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8112/readyz', timeout=8)"]
ENTRYPOINT ["dicom2fhir"]
CMD ["serve", "--config", "/etc/dicom2fhir/config.toml"]

# docs/containers.md describes the image and how to run it.
FROM debian:12-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
COPY pyproject.toml requirements-extras.lock README.md LICENSE /src/
COPY dicom2fhir /src/dicom2fhir
# Tests of libraries, and botocore's descriptions of services other than S3, are a sixth of the image. There is no place for
# compiled modules at run time, so they are made here.
RUN python3 -m venv /opt/dicom2fhir \
    && /opt/dicom2fhir/bin/pip install --no-cache-dir --no-compile --require-hashes --requirement /src/requirements-extras.lock \
    && /opt/dicom2fhir/bin/pip install --no-cache-dir --no-compile --no-deps /src \
    && /opt/dicom2fhir/bin/pip uninstall --yes pip setuptools \
    && find /opt/dicom2fhir/lib -type d -name tests -prune -exec rm -r {} + \
    && find /opt/dicom2fhir/lib/python3*/site-packages/botocore/data -mindepth 1 -maxdepth 1 -type d \
        ! -name s3 ! -name 'sso*' ! -name sts -exec rm -r {} + \
    && /opt/dicom2fhir/bin/python -m compileall -q /opt/dicom2fhir/lib
RUN useradd --system --uid 8104 --home-dir /var/lib/dicom2fhir --create-home --shell /usr/sbin/nologin dicom2fhir

# Python of Debian 12 as above, and the libraries that it needs; no shell and no package manager.
FROM gcr.io/distroless/python3-debian12
COPY --from=build /etc/passwd /etc/group /etc/
COPY --from=build --chown=8104:8104 /var/lib/dicom2fhir /var/lib/dicom2fhir
COPY --from=build /opt/dicom2fhir /opt/dicom2fhir
ENV PATH=/opt/dicom2fhir/bin:$PATH
USER dicom2fhir
VOLUME ["/var/lib/dicom2fhir"]
EXPOSE 11112 8112
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8112/readyz', timeout=8)"]
ENTRYPOINT ["dicom2fhir"]
CMD ["serve", "--config", "/etc/dicom2fhir/config.toml"]

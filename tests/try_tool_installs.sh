#!/bin/bash
# Install a wheel by `pipx install` and by `uv tool install`, with its extras, in folders of their own, and run it.
# usage: tests/try_tool_installs.sh WHEEL TOOLS   (TOOLS: the folder with the programs pipx and uv)
set -euo pipefail
wheel=$(realpath "$1") tools=$(realpath "$2")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export PIPX_HOME=$place/pipx PIPX_BIN_DIR=$place/pipx-programs UV_TOOL_DIR=$place/uv UV_TOOL_BIN_DIR=$place/uv-programs
cd "$place"

try() {
    local program=$1/dicom2fhir key=$place/key.pem
    "$program" --version
    "$program" demo >demo.txt
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out "$key" 2>/dev/null
    cat >config.toml <<END
[destinations.main]
url = "https://fhir.example/fhir"
auth = "oauth2"
oauth2 = {client_id = "dicom2fhir", private_key_file = "$key"}
[tracing]
endpoint = "http://127.0.0.1:4318/v1/traces"
END
    # these two say "pip install" and fail where an extra is missing
    "$program" check-config --config config.toml >/dev/null
    "$program" jwks --config config.toml >/dev/null
}

"$tools/pipx" install --quiet "$wheel[dask,oauth,otel,postgres,s3]"
try "$PIPX_BIN_DIR"
"$tools/uv" tool install --quiet "dicom2fhir-bridge[dask,oauth,otel,postgres,s3] @ file://$wheel"
try "$UV_TOOL_BIN_DIR"
echo "pipx and uv tool: installed, run"

"""``/metrics``, for Prometheus."""

from __future__ import annotations

import time

from starlette.responses import Response

from dicom2fhir.ops.metrics import CONTENT_TYPE, Metrics
from dicom2fhir.web.call import Call, Handler


def page(metrics: Metrics) -> Handler:
    """The handler."""

    def answer(call: Call) -> Response:
        return Response(metrics.text(call.store, time.time()), media_type=CONTENT_TYPE)

    return answer

"""Decodes requests of OTLP by the official definitions, and prints one line of JSON a request.

In: a folder with files NUMBER.metrics and NUMBER.logs, as they were sent. A field that the definitions do not have is an error.
"""

import gzip
import json
import pathlib
import sys

from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality


def known(message):
    if len(UnknownFieldSet(message)):
        raise ValueError(f"{message.DESCRIPTOR.full_name} has fields that the definitions do not have")
    for field, value in message.ListFields():
        if field.message_type:
            for one in value if hasattr(value, "__len__") else [value]:
                known(one)


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def metric(one):
    kind = one.WhichOneof("data")
    data = getattr(one, kind)
    about = {"name": one.name, "unit": one.unit, "description": one.description, "kind": kind}
    if kind == "sum":
        about["temporality"] = AggregationTemporality.Name(data.aggregation_temporality)
        about["monotonic"] = data.is_monotonic
    about["points"] = [
        {
            "attributes": attributes(point.attributes),
            "start": point.start_time_unix_nano,
            "time": point.time_unix_nano,
            "value": getattr(point, point.WhichOneof("value")),
        }
        for point in data.data_points
    ]
    return about


def record(one):
    return {
        "time": one.time_unix_nano,
        "observed": one.observed_time_unix_nano,
        "severity": one.severity_number,
        "event": one.event_name,
        "attributes": attributes(one.attributes),
    }


for path in sorted(pathlib.Path(sys.argv[1]).iterdir(), key=lambda path: int(path.stem)):
    body = path.read_bytes()
    body = gzip.decompress(body) if body.startswith(b"\x1f\x8b") else body
    result = {"number": int(path.stem), "resource": {}, "scope": "", "metrics": [], "records": []}
    if path.suffix == ".metrics":
        request = ExportMetricsServiceRequest.FromString(body)
        resources = request.resource_metrics
    else:
        request = ExportLogsServiceRequest.FromString(body)
        resources = request.resource_logs
    known(request)
    for resource in resources:
        result["resource"] = attributes(resource.resource.attributes)
        for scope in resource.scope_metrics if path.suffix == ".metrics" else resource.scope_logs:
            result["scope"] = scope.scope.name
            if path.suffix == ".metrics":
                result["metrics"] += map(metric, scope.metrics)
            else:
                result["records"] += map(record, scope.log_records)
    print(json.dumps(result))

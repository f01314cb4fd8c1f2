"""Prometheus metrics of workers, and their endpoints."""

from streamrec.metrics.endpoint import Endpoint, announced, exported, find_endpoints
from streamrec.metrics.lists import ListMetrics, ServingMetrics
from streamrec.metrics.reader import ReaderMetrics, reader_metrics
from streamrec.metrics.standstill import MAX_REASON, PAUSED, WAITING, Standstill, standstill
from streamrec.metrics.trainer import TrainerMetrics
from streamrec.metrics.worker import MAX_FIELD_NAMES, WorkerMetrics, worker_metrics

__all__ = [
    "MAX_FIELD_NAMES",
    "MAX_REASON",
    "PAUSED",
    "WAITING",
    "Endpoint",
    "ListMetrics",
    "ReaderMetrics",
    "ServingMetrics",
    "Standstill",
    "TrainerMetrics",
    "WorkerMetrics",
    "announced",
    "exported",
    "find_endpoints",
    "reader_metrics",
    "standstill",
    "worker_metrics",
]

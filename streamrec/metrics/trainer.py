"""Metrics of training."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Info

from streamrec.service.tally import TrainingProgress


class TrainerMetrics:
    """Metrics of the trainer in addition to those of every worker.

    Parameters
    ----------
    registry
        Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        def counter(name: str, what: str) -> Counter:
            return Counter(f"streamrec_{name}", what, registry=registry)

        self._counters = {
            "micro_batches": counter("micro_batches", "Training steps."),
            "events": counter("trained_events", "Events that the model was trained on."),
            "tested": counter("prequential_tested", "Events that the serving version was tested on before training."),
            "hits": counter("prequential_hits", "Tested events whose item was in the top 10 of the list."),
            "popular_hits": counter("prequential_popular_hits", "The same for the most popular items of a day."),
            "drift_alarms": counter("drift_alarms", "Detected drifts of the stream."),
            "checkpoint_failures": counter("checkpoint_failures", "Checkpoints that could not be written."),
        }
        self._unsaved = Gauge(
            "streamrec_checkpoint_failing", "1 while the latest checkpoint could not be written.", registry=registry
        )
        self._loss = Gauge("streamrec_training_loss", "Moving average of the loss on new events.", registry=registry)
        self._waiting = Gauge("streamrec_training_waiting_events", "Events that wait for training.", registry=registry)
        self._made = Info("streamrec_made_model", "The latest version.", registry=registry)
        self._learned = Gauge(
            "streamrec_learned_timestamp_seconds",
            "Production time of the newest event that the trainer has learned.",
            registry=registry,
        )
        self._last = TrainingProgress()

    def record_training(self, progress: TrainingProgress, *, waiting: int) -> None:
        """Update the progress of training."""
        for name, counter in self._counters.items():
            value, last = getattr(progress, name), getattr(self._last, name)
            counter.inc(value - last if value >= last else value)  # counters restart after a rollback
        self._loss.set(progress.loss)
        self._waiting.set(waiting)
        self._unsaved.set(bool(progress.unsaved))
        self._learned.set(progress.learned_at_ms / 1_000)
        if progress.version != self._last.version:
            self._made.info({"version": progress.version})
        self._last = progress

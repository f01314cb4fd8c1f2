"""Scraping the workers' metrics."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from streamrec.metrics import PAUSED, WAITING, Endpoint, find_endpoints
from streamrec.monitor.series import Key
from streamrec.settings import Settings

MONITOR = "monitor"
"""The monitor's own endpoint is announced like the others."""

_TIMEOUT_S = 1.0
_CUMULATIVE = ("counter", "histogram", "summary")


@dataclass(slots=True)
class Scraped:
    """Metrics of one process.

    Parameters
    ----------
    endpoint
        The scraped endpoint.
    counters, gauges
        Samples of counters and gauges.
    """

    endpoint: Endpoint
    counters: dict[Key, float] = field(default_factory=dict)
    gauges: dict[Key, float] = field(default_factory=dict)

    def gauge(self, name: str) -> float | None:
        """Return the value of a sample without labels."""
        return self.gauges.get((name, ()))

    def reasons(self, name: str) -> dict[str, float]:
        """Return the values of a metric by the label `reason`."""
        samples = ((dict(pairs), value) for (sample, pairs), value in self.gauges.items() if sample == name)
        return {labels.get("reason", ""): value for labels, value in samples}

    @property
    def standstills(self) -> list[str]:
        """Why the process makes no progress, empty if it does."""
        return [
            f"{state} for {for_s:.0f} s: {because}"
            for state, name in (("paused", PAUSED), ("retrying", WAITING))
            for because, for_s in self.reasons(name).items()
        ]

    def label(self, name: str, label: str) -> str | None:
        """Return the value of a label of the only sample of a metric, `None` if there is none."""
        return next((dict(pairs).get(label) for sample, pairs in self.gauges if sample == name), None)


class Scraper:
    """Scrapes the metrics of all workers, omitting those that do not answer in time.

    Parameters
    ----------
    settings
        Settings with the data directory or the names of targets.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def scrape(self) -> list[Scraped]:
        """Return the metrics of each worker, by name."""
        here = [endpoint for endpoint in find_endpoints(self._settings) if endpoint.worker != MONITOR]
        endpoints = [*here, *await self._targets()]
        answers = await asyncio.gather(*(self._read(endpoint) for endpoint in endpoints))
        return [answer for answer in answers if answer is not None]

    async def _targets(self) -> list[Endpoint]:
        """Resolve the targets' names to all of their addresses: a worker may run in several processes."""
        loop = asyncio.get_running_loop()
        found = []
        for target in filter(None, (part.strip() for part in self._settings.metrics_targets.split(","))):
            host, _, port = target.rpartition(":")
            try:
                addresses = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
            except OSError:
                continue  # an unresolvable name belongs to a worker that is not running
            worker = host.partition(".")[0]  # in a cluster the name includes a domain
            found += [Endpoint(worker, str(address[4][0]), int(port)) for address in addresses]
        return found

    async def _read(self, endpoint: Endpoint) -> Scraped | None:
        try:
            async with self._session.get(f"http://{endpoint.host}:{endpoint.port}/metrics") as answer:
                text = await answer.text()
            return parse(endpoint, text)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None  # it has just ended, or something else listens there


def parse(endpoint: Endpoint, text: str) -> Scraped:
    """Parse a worker's metrics in the Prometheus text format."""
    scraped = Scraped(endpoint)
    for family in text_string_to_metric_families(text):
        if not family.name.startswith(("streamrec_", "process_")):
            continue
        kept = scraped.counters if family.type in _CUMULATIVE else scraped.gauges
        for sample in family.samples:
            kept[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
    return scraped

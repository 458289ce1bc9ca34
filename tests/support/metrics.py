"""Parse /metrics as Prometheus does."""

from prometheus_client.parser import text_string_to_metric_families

TOKEN = "test-metrics-token-of-the-suite-only"

Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]


def parse(text: str) -> Samples:
    """Return {(name, labels): value}. Fail on a duplicate series, as Prometheus does."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return samples


def total(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of the series `name` that have these labels."""
    return sum(value for (of, having), value in samples.items() if of == name and labels.items() <= set(having))

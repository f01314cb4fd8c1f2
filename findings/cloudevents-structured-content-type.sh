#!/usr/bin/env bash
# Guess: a structured-mode CloudEvent from the Python SDK has the Kafka header content-type: application/cloudevents+json,
#   as the Kafka protocol binding requires, so that consumers can recognise it by its headers.
# What happens: cloudevents 1.13.0 writes no content-type header, or that of the data (application/json) if the event
#   has one; cloudevents 2.2.0 writes application/cloudevents+json. Consumers must check for `specversion`.
# Versions: cloudevents 1.13.0 and 2.2.0, Python 3.11.
# Date: 2026-11-29.
# Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md, section 3.3.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip install -q --target "$work/one" 'cloudevents==1.13.0' 2>/dev/null
python3 -m pip install -q --target "$work/two" 'cloudevents==2.2.0' 2>/dev/null

cat > "$work/one.py" <<'PY'
from importlib.metadata import version
from cloudevents.http import CloudEvent
from cloudevents.kafka import to_structured

print("cloudevents", version("cloudevents"))
headers = []
for attributes in ({}, {"datacontenttype": "application/json"}):
    message = to_structured(CloudEvent({"type": "shop.click", "source": "/shop", **attributes}, {"item": "a"}))
    print(attributes, "->", message.headers, message.value)
    headers.append(dict(message.headers))
assert headers == [{}, {"content-type": b"application/json"}], headers
PY
cat > "$work/two.py" <<'PY'
from importlib.metadata import version
from cloudevents.core.bindings.kafka import to_structured_event
from cloudevents.core.v1.event import CloudEvent

print("cloudevents", version("cloudevents"))
attributes = {"type": "shop.click", "source": "/shop", "id": "1", "specversion": "1.0"}
message = to_structured_event(CloudEvent(attributes, {"item": "a"}))
print(message.headers, message.value)
assert dict(message.headers) == {"content-type": b"application/cloudevents+json"}, message.headers
PY
PYTHONPATH="$work/one" python3 "$work/one.py"
PYTHONPATH="$work/two" python3 "$work/two.py"

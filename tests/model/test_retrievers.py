"""Every recall channel passes the checks that the package ships, and so does the example of the documentation."""

from __future__ import annotations

import re
import sys
from importlib import invalidate_caches
from pathlib import Path

import numpy as np
import pytest
from rankers import ranker_of, trained

from streamrec.errors import SettingsError
from streamrec.model.checks import checks
from streamrec.model.ranking.ranker import ModelRanker
from streamrec.model.retrievers.channels import BUILT_IN, channel, channels_in

DOCS = Path(__file__).parents[2] / "docs" / "model.md"


@pytest.fixture
def newest(tmp_path, monkeypatch):
    """Install the example of the documentation, as a package with an entry point."""
    snippets = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    (example,) = (snippet for snippet in snippets if "NewestRetriever" in snippet)
    (tmp_path / "newest_items.py").write_text(example)
    info = tmp_path / "newest_items-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: newest-items\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[streamrec.retrievers]\nnewest = newest_items:NewestRetriever\n")
    monkeypatch.syspath_prepend(tmp_path)
    invalidate_caches()
    channel.cache_clear()
    yield "newest"
    channel.cache_clear()
    sys.modules.pop("newest_items", None)


@pytest.mark.parametrize("check", [each for name in BUILT_IN for each in checks(name)], ids=str)
def test_a_channel_of_this_package(check):
    check()


@pytest.mark.parametrize("number", range(len(checks("newest"))), ids=[str(each) for each in checks("newest")])
def test_a_channel_of_another_package(newest, number):
    checks(newest)[number]()


def test_lists_name_a_channel_of_another_package_as_their_reason(newest, new_trainer):
    interests, records = trained(new_trainer(channels=("popular", newest)))
    ranker = ranker_of(records, hide_seen=False)

    channels = {item.reason.channel for item in ranker.rank(interests[-1:], k=50)[0]}
    assert channels <= {"popular", "newest", "recent"}
    assert "newest" in channels


def test_a_reader_without_a_channel_of_the_version_keeps_the_version_before(newest, new_trainer, monkeypatch):
    _, records = trained(new_trainer(channels=("popular", newest)))
    monkeypatch.setattr(sys, "path", sys.path[1:])
    channel.cache_clear()
    ranker = ModelRanker(hide_seen=False)

    assert "bad-version" in [ranker.apply_update(record) for version in records for record in version]
    assert not ranker.model_version


def test_an_unknown_channel_is_an_error_that_names_the_known_ones():
    with pytest.raises(SettingsError, match=r"STREAMREC_CHANNELS: no .* has the channel 'mdel'; known: .*model"):
        channels_in("popular,mdel")
    assert channels_in("popular,model,popular") == ["popular", "model"]


def test_a_checkpoint_of_format_3_keeps_the_pairs_of_items(new_trainer):
    trainer, restored = new_trainer(), new_trainer("restored")
    trained(trainer)
    tensors, documents = trainer.model.state()
    earlier = {name.replace("channels.neighbour.", "items.covisitation."): value for name, value in tensors.items()}
    assert earlier.keys() != tensors.keys()
    restored.model.load(earlier, documents)

    pairs, kept = (each.model.teachers["neighbour"].state() for each in (trainer, restored))
    assert pairs.keys() == kept.keys()
    assert all(np.array_equal(pairs[name], kept[name]) for name in pairs)
    assert len(pairs["weight"])

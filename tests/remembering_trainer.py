"""A trainer that learns nothing and remembers everything, for tests of what is given to it and when."""

from __future__ import annotations

import msgspec

from streamrec.contracts.model_version import ModelCommand, ModelVersions
from streamrec.contracts.topics import USER_INTERESTS
from streamrec.service.batch import TopicPartition
from streamrec.service.fence import Fences

SOURCE = TopicPartition(USER_INTERESTS, 0)


class RememberingTrainer:
    """Keeps what it was given; a checkpoint is a copy of that, and a version is the number of events it has learned."""

    def __init__(self, saved=None) -> None:
        self.admissions, trained = saved or (b"", [])
        self.trained = list(trained)
        self.behind = []
        self.saved = saved
        self.saving = None
        self.kept = {}
        self.condemned = ""
        self.unsaved = ""
        self.disk_is_full = False
        self.spared = Fences()
        self.refuse_next = False
        self.contains = {}
        self.catalogue = set()
        self.versions = ModelVersions(versions=[], refused=0, rolled_back=0, drifts=0)
        self._told = len(self.trained)

    def train(self, interests, *, behind):
        self.trained += [position for interest in interests for position in interest.new]
        self.behind.append(behind)

    def contain(self, contains):
        self.contains = dict(contains)

    def put_item(self, item):
        self.catalogue.add(item.item_id)

    def forget_catalogue(self):
        self.catalogue.clear()

    def take_update(self, *, whole=False):
        if whole:
            return [b"everything"]
        if self._told == len(self.trained):
            return []
        self._told = len(self.trained)
        if self.refuse_next:
            self.condemned = "refused"
            return []
        return [str(len(self.trained)).encode()]

    def save(self, admissions):
        self.wait_until_saved()
        self.saving = (admissions, list(self.trained))

    def wait_until_saved(self):
        if self.saving:
            self.unsaved = "no space left on device" if self.disk_is_full else ""
        if self.saving and not self.disk_is_full:
            self.saved = self.kept[str(len(self.saving[1]))] = self.saving
        self.saving = None

    def can_go_back_to(self, version):
        self.wait_until_saved()
        return version in self.kept

    def roll_back(self, version, because):
        assert because
        self.wait_until_saved()
        self.condemned, self.refuse_next = "", False
        admissions, trained = self.kept[version] if version else next(iter(self.kept.values()), (b"", []))
        self.trained, self._told = list(trained), -1
        self.versions = msgspec.structs.replace(self.versions, rolled_back=self.versions.rolled_back + 1)
        return admissions

    def spare(self, events):
        self.spared.join(events)


def records(interests):
    return [msgspec.json.encode(interest) for interest in interests]


def command(name):
    return msgspec.json.encode(ModelCommand(roll_back_to=name, asked_at_ms=1))

"""What all segments of a Wal share."""

from dataclasses import dataclass

from engine.backends import Backend
from engine.batch import Size
from engine.durability import GroupCommit
from engine.open_files import OpenFiles


@dataclass(frozen=True, slots=True)
class Services:
    """Handed down from Wal through TopicLog to every Segment."""

    backend: Backend
    commit: GroupCommit
    open_files: OpenFiles
    index_interval: Size

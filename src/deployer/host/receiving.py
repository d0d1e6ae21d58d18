"""
What a release brings to this host, from the first word about its manifest to the last byte of its files.

`have`: do we know the manifest? Perhaps by its digest, else all of its buckets but some: `entries` brings those. Then we say
which blobs are missing, and for each large one what there is to begin with: bytes that a broken link has left, or the chunks of
another file (`chunks` tells more of them). `blobs` brings all that is missing in one stream.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from deployer.errors import GateError, PreflightError
from deployer.host.chunk_lists import BlobBase
from deployer.host.inflow import Inflow, Record, damaged
from deployer.host.manifests import Manifests
from deployer.host.releases import Releases
from deployer.host.store import Store
from deployer.manifest import MARK, Entry, Manifest, key
from deployer.wire import chunks
from deployer.wire.spans import spans, spread

MOST_BASES = 16
"""Files for which a base is offered: each is read whole when its chunks are hashed for the first time."""
Params = Dict[str, Any]


class Receiving:
    """
    One client's upload. *require_space* refuses what does not fit, given bytes and entries; `wire` counts what came.

    `manifest` is the one that was agreed on, None before.
    """

    def __init__(self, root: Path, store: Path, require_space: Callable[[int, int], None]) -> None:
        releases = Releases(root)
        releases.prepare()
        self.store = Store(store)
        self.manifest: Optional[Manifest] = None
        self.wire = 0
        self._manifests = Manifests(releases)
        self._require_space = require_space
        self._wanted: Tuple[str, Sequence[bytes]] = ("", ())
        self._missing: Dict[int, Entry] = {}
        self._bases: Dict[int, Entry] = {}
        self._cuts = False

    def have(self, params: Params) -> Params:
        """Takes `digest`, `marks` (base64) and `chunks` (the client can cut); gives `missing`, or `lacking` buckets."""
        digest, marks = str(params["digest"]), _bytes(params["marks"])
        self._wanted = digest, [marks[at : at + MARK] for at in range(0, len(marks), MARK)]
        self._cuts = bool(params.get("chunks"))
        known = self._manifests.named(digest)
        if known is not None:
            return self._agreed(known)
        return {"lacking": spans(self._lacking(self._manifests.buckets(self._wanted[1])))}

    def entries(self, params: Params) -> Params:
        """Takes the entries of the lacking buckets, or of `all`; gives `missing`, or `lacking` all buckets once more."""
        digest, marks = self._wanted
        sent = checked(params["entries"])
        known = {} if params.get("all") else self._manifests.buckets(marks)
        if not known:
            if sent.digest != digest:
                raise _refused(ValueError("it does not have the digest that was announced"))
            return self._agreed(sent)
        manifest = Manifest([*(entry for mark in marks for entry in known.get(mark, ())), *sent.entries])
        if manifest.digest != digest:
            return {"lacking": spans(range(len(marks))), "all": True}  # two buckets had one mark
        try:
            manifest.check()
        except ValueError as error:
            raise _refused(error) from error
        return self._agreed(manifest)

    def chunks(self, params: Params) -> str:
        """The hashes of the chunks in some `groups` of the base of the blob `index`, base64."""
        index = params.get("index")
        base = self._base(index) if isinstance(index, int) else None
        if base is None:
            raise damaged("there is no base for that file")
        with base:
            try:
                groups = spread(params.get("groups"), len(base.chunks.groups))
            except ValueError as error:
                raise damaged(str(error)) from error
            return b64encode(base.chunks.of_groups(groups)).decode()

    def blobs(self, inflow: Inflow) -> Params:
        """Take the files of one stream in. Gives `again`: those that are not what they should be, made of what was here."""
        again: List[int] = []
        try:
            while inflow.more():
                again += self._take(Record(inflow))
        finally:
            self.wire += inflow.wire
        return {"again": spans(sorted(again))}

    def _take(self, record: Record) -> List[int]:
        index, entry = record.index, self._missing.get(record.index)
        if entry is None:
            raise damaged("a file that nobody asked for")
        if record.start > entry.size:
            raise damaged("more of a file is said to be here than there is")
        base = self._base(index)
        pieces = record.pieces(base)
        try:
            self.store.receive(key(entry), entry.size, pieces, record.start)
        except GateError:
            record.skipped = True
            for _ in pieces:
                pass
            if not (record.ended and record.derived):
                raise
            return [index]
        finally:
            if base is not None:
                base.__exit__()
        del self._missing[index]
        lengths = record.chunks if entry.size >= chunks.FROM else None
        if lengths:
            self.store.chunk_lists.note(entry.sha256, lengths)
        return []

    def _agreed(self, manifest: Manifest) -> Params:
        self.manifest = manifest
        absent = {key(entry) for entry in self.store.missing(manifest)}
        self._missing = {index: entry for index, entry in enumerate(manifest.blobs) if key(entry) in absent}
        size = sum(entry.size for entry in self._missing.values())
        large = [entry for entry in self._missing.values() if entry.size >= chunks.FROM]
        here = sum(min(self.store.partial(key(entry)), entry.size) for entry in large)  # on the disk already
        self._require_space(size - here, len(manifest.entries))
        return {"missing": spans(list(self._missing)), "bytes": size, "offers": self._offers()}

    def _lacking(self, known: Dict[bytes, Tuple[Entry, ...]]) -> List[int]:
        return [index for index, mark in enumerate(self._wanted[1]) if mark not in known]

    def _offers(self) -> List[Params]:
        """What there is to begin with, for each large file: `start`, and `base`, the groups of its base (base64)."""
        offers = []
        for index, entry in self._missing.items():
            if entry.size < chunks.FROM:
                continue
            start, base = self.store.partial(key(entry)), self._find_base(index) if self._cuts else None
            if base is not None:
                with base:
                    offers.append({"index": index, "start": start, "base": b64encode(base.chunks.told()).decode()})
            elif 0 < start <= entry.size:
                offers.append({"index": index, "start": start, "base": ""})
        return offers

    def _find_base(self, index: int) -> Optional[BlobBase]:
        if len(self._bases) >= MOST_BASES:
            return None
        for entry in self._manifests.alike(self._missing[index]):
            if self.store.chunk_lists.there(entry.sha256):
                self._bases[index] = entry
                base = self._base(index)
                if base is not None:
                    return base
                del self._bases[index]
        return None

    def _base(self, index: int) -> Optional[BlobBase]:
        entry = self._bases.get(index)
        file = self.store.open(entry) if entry is not None else None
        if entry is None or file is None:
            return None
        known = self.store.chunk_lists.chunks(entry.sha256, entry.size, file)
        if known is None:
            file.close()
            return None
        return BlobBase(file, known)


def checked(data: Any) -> Manifest:
    """The manifest that a client sent. Raises PreflightError for one that could do harm."""
    try:
        return Manifest.from_json(data)
    except ValueError as error:
        raise _refused(error) from error


def _refused(error: ValueError) -> PreflightError:
    return PreflightError("the manifest was refused", cause=str(error), state="nothing was changed")


def _bytes(text: Any) -> bytes:
    try:
        return b64decode(str(text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise damaged("something that is not base64") from error

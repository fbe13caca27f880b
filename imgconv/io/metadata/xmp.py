"""XMP packets: the values of a few properties are changed, all else stays as it is written.

Source: ISO 16684-1 (XMP part 1), section 7; the names of properties: part 2.
"""

import re
from collections.abc import Mapping

from imgconv.io.metadata.exif import Broken

TIFF = "http://ns.adobe.com/tiff/1.0/"
EXIF = "http://ns.adobe.com/exif/1.0/"
XMP = "http://ns.adobe.com/xap/1.0/"
NOTE = "http://ns.adobe.com/xmp/note/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
REGIONS = "http://www.metadataworkinggroup.com/schemas/regions/"
_LARGEST = 16 << 20
_START_TAG = rb"""<[^\s/>]+(?:\s+[^\s=]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>"""
_ATTRIBUTE = rb"""\s+([^\s=]+)\s*=\s*("[^"]*"|'[^']*')"""

Name = tuple[str, str]  # namespace, local name


def edited(packet: bytes, values: Mapping[Name, str | None]) -> bytes:
    """Return a packet with these properties changed where they are there; None takes one out.

    Raises Broken for what is no well-formed XML, declares a document type (the beginning of all
    bombs: XMP has none), or is above 16 MB.
    """
    if len(packet) > _LARGEST:
        raise Broken("an XMP packet above 16 MB")
    packet = _utf8(packet).rstrip(b"\0")
    pieces, at = [], 0
    for start, stop, text in _Edits(packet, values).found:
        pieces += [packet[at:start], text]
        at = stop
    return b"".join([*pieces, packet[at:]])


def _utf8(packet: bytes) -> bytes:
    if packet.startswith((b"\xfe\xff", b"\xff\xfe")):
        try:
            return packet.decode("utf-16").encode()
        except UnicodeDecodeError as error:
            raise Broken(f"XMP that is not UTF-16: {error}") from None
    return packet.removeprefix(b"\xef\xbb\xbf")


class _Edits:
    """Walks a packet; `found` is (start, stop, text) of every place to change, in order."""

    def __init__(self, packet: bytes, values: Mapping[Name, str | None]) -> None:
        self._packet, self._values = packet, values
        self.found: list[tuple[int, int, bytes]] = []
        self._spaces: dict[str, list[str]] = {}  # prefix → its namespaces, the innermost last
        self._open: list[tuple[int, int, str | None] | None] = []  # elements: those to change
        self._taken = False  # whether an element around this one is taken out
        from xml.parsers import expat

        parser = self._parser = expat.ParserCreate("utf-8", " ")
        parser.StartDoctypeDeclHandler = self._doctype
        parser.StartNamespaceDeclHandler = self._enter_space
        parser.EndNamespaceDeclHandler = lambda prefix: self._spaces[prefix or ""].pop()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        try:
            parser.Parse(packet, True)
        except expat.ExpatError as error:
            raise Broken(f"XMP that is not XML: {error}") from None

    def _doctype(self, *_: object) -> None:
        raise Broken("XMP with a document type")

    def _enter_space(self, prefix: str | None, uri: str) -> None:
        self._spaces.setdefault(prefix or "", []).append(uri)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if self._taken:
            self._open.append(None)
            return
        start = self._parser.CurrentByteIndex
        space, _, local = name.rpartition(" ")
        key = space, local
        wanted = {tuple(one.rpartition(" ")[::2]) for one in attributes} & self._values.keys()
        if key not in self._values and not wanted:
            self._open.append(None)
            return
        tag = re.compile(_START_TAG).match(self._packet, start)
        if tag is None:
            raise Broken("XMP with a tag that cannot be read")
        if key in self._values:
            self._open.append((start, tag.end(), self._values[key]))
            self._taken = True
            return
        self._open.append(None)
        for found in re.compile(_ATTRIBUTE).finditer(self._packet, start, tag.end()):
            prefix, _, local = found[1].decode("utf-8", "replace").rpartition(":")
            spaces = self._spaces.get(prefix) if prefix else None
            if spaces and (spaces[-1], local) in wanted:
                value = self._values[spaces[-1], local]
                if value is None:
                    self.found.append((*found.span(), b""))
                else:
                    self.found.append((found.start(2) + 1, found.end(2) - 1, value.encode()))

    def _end(self, name: str) -> None:
        change = self._open.pop()
        if change is None:
            return
        self._taken = False
        start, inner, value = change
        at = self._parser.CurrentByteIndex
        if self._packet[inner - 2 : inner] == b"/>":  # an empty element
            stop, close = inner, inner
        else:
            stop, close = self._packet.index(b">", at) + 1, at
        if value is None:
            self.found.append((start, stop, b""))
        elif close > inner:
            self.found.append((inner, close, value.encode()))

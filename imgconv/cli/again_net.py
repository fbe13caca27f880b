"""The work of a record of `net features`."""

from typing import Any

from imgconv.bank import kernel_without_files
from imgconv.batch.features import Features, Request
from imgconv.batch.network_provenance import NetworkProvenance
from imgconv.batch.network_settings import NetSettings
from imgconv.batch.origin import Origin
from imgconv.batch.record import ITS_OWN, Named, Record
from imgconv.cli.again import parameters
from imgconv.errors import ImageError, UsageError
from imgconv.images.digest import sha256_of
from imgconv.images.publish import joined, publish


def features_again(record: Record, given: dict[str, Any], origin: Origin) -> "FeaturesAgain":
    """The work of `net features`. Raises UsageError, ImageError, click's exceptions."""
    from imgconv.cli import net_options
    from imgconv.cli.net import features, request_of
    from imgconv.networks.find import with_weights

    named = record.network or Named("")
    values = parameters(features, record, given, named.name)
    settings = NetSettings.of(values | {"output": "maps", "overwrite": True})
    if named.sha256 is None:
        found = net_options.settled(named.name, settings.preprocess, kernel_without_files)
    else:
        _check_file(given["network"], named, "--network")
        found = net_options.settled(given["network"], settings.preprocess)
    path = None
    if record.weights is not None:
        shipped = found.weights if record.weights.name == ITS_OWN else None
        path = given["weights"] or shipped
        _check_file(path, record.weights, "--weights")
    found, source = with_weights(found, path, settings.weights.seed)
    known, patterns = record.weights, values["patterns"]
    provenance = NetworkProvenance(settings, patterns, named, (lambda: known) if known else None)
    request = request_of(found, source, provenance, settings, patterns)
    if record.layer is not None and record.layer not in request.values:
        raise UsageError(f"no layer {record.layer[:40]!r}")
    return FeaturesAgain(request, record, given, origin)


def _check_file(path: str | None, wanted: Named, option: str) -> None:
    """Raise ImageError unless the file at hand has the digest that was recorded."""
    if path is None:
        raise ImageError(f"made with {wanted.name}, expected {option} FILE")
    try:
        got = sha256_of(path)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from None
    if got != wanted.sha256:
        raise ImageError(f"{path}: SHA-256 {got}, expected {wanted.sha256}")


class FeaturesAgain(Features):
    """One output of one image; `content` are its bytes where it is not to be written."""

    def __init__(
        self, request: Request, record: Record, given: dict[str, Any], origin: Origin
    ) -> None:
        super().__init__(request)
        self._record, self._given, self._known = record, given, origin
        self._data: Any = b""
        self.content = b""
        self._saved = False

    def __call__(self, source: str, data: Any) -> Any:
        """Make the output; return its bytes, or b"" where they went to a file."""
        self._data = data
        super().__call__("-" if isinstance(data, bytes) else source, 0)
        if not self._saved:
            raise ImageError(f"its record: no map {self._record.map!r}")
        return self.content

    def stdin(self) -> bytes:
        return bytes(self._data)

    def _origin(self, source: str, data: Any) -> Origin:
        return self._known

    def _wants(self, layer: str | None, number: str | None) -> bool:
        return layer == self._record.layer and (number or None) == self._record.map

    def _save(self, path: str, pieces: Any) -> None:
        self._saved = True
        target = self._given["output"]
        if target in (None, "-"):
            self.content = joined(pieces)
        else:
            publish(target, pieces, self._given["overwrite"])

"""The work of a record of `net features`."""

from typing import Any

from imgconv.cli.again import parameters
from imgconv.errors import ImageError, UsageError
from imgconv.io.digest import sha256_of
from imgconv.io.publish import joined, publish
from imgconv.kernels import kernel_without_files
from imgconv.pipeline.features import Features, Request
from imgconv.pipeline.network_provenance import NetworkProvenance
from imgconv.pipeline.network_settings import NetSettings
from imgconv.pipeline.origin import Origin
from imgconv.pipeline.record import ITS_OWN, Named, Record
from imgconv.pipeline.repeat_settings import RepeatSettings


def features_again(record: Record, settings: RepeatSettings, origin: Origin) -> "FeaturesAgain":
    """The work of `net features`. Raises UsageError, ImageError, click's exceptions."""
    from imgconv.cli import net_options
    from imgconv.cli.commands.net import features, request_of
    from imgconv.nn.find import with_weights

    named = record.network or Named("")
    values = parameters(features, record, settings, named.name)
    wanted = NetSettings.of(values | {"output": "maps", "overwrite": True})
    if named.sha256 is None:
        found = net_options.settled(named.name, wanted.preprocess, kernel_without_files)
    else:
        file = _checked_file(settings.again.network, named, "--network")
        found = net_options.settled(file, wanted.preprocess)
    path = None
    if record.weights is not None:
        shipped = found.weights if record.weights.name == ITS_OWN else None
        path = settings.again.weights or shipped
        _checked_file(path, record.weights, "--weights")
    found, source = with_weights(found, path, wanted.weights.seed)
    known, patterns = record.weights, values["patterns"]
    provenance = NetworkProvenance(wanted, patterns, named, (lambda: known) if known else None)
    request = request_of(found, source, provenance, wanted, patterns)
    if record.layer is not None and record.layer not in request.values:
        raise UsageError(f"no layer {record.layer[:40]!r}")
    return FeaturesAgain(request, record, settings, origin)


def _checked_file(path: str | None, wanted: Named, option: str) -> str:
    """The file at hand. Raises ImageError unless it has the digest that was recorded."""
    if path is None:
        raise ImageError(f"made with {wanted.name}, expected {option} FILE")
    try:
        got = sha256_of(path)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror or error}") from None
    if got != wanted.sha256:
        raise ImageError(f"{path}: SHA-256 {got}, expected {wanted.sha256}")
    return path


class FeaturesAgain(Features):
    """One output of one image; `content` are its bytes where it is not to be written."""

    def __init__(
        self, request: Request, record: Record, settings: RepeatSettings, origin: Origin
    ) -> None:
        super().__init__(request)
        self._record, self._settings, self._known = record, settings, origin
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
        target = self._settings.again.output
        if target in (None, "-"):
            self.content = joined(pieces)
        else:
            publish(target, pieces, self._settings.write.overwrite)

import signal

import pytest

from tests.reliability.support import save_photo

# A shell's background job ignores SIGINT and so would every command that is started here; what
# has a handler here has the system's default there.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_word_of_compiling(monkeypatch):
    """Whether the store is warm changes nothing on stderr."""
    monkeypatch.setenv("IMGCONV_QUIET", "1")


@pytest.fixture
def photo(tmp_path):
    """A folder with photo.png, 64×64."""
    save_photo(tmp_path / "photo.png")
    return tmp_path

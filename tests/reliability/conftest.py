import pytest

from tests.reliability.support import save_photo


@pytest.fixture(autouse=True)
def no_word_of_compiling(monkeypatch):
    """Whether the store is warm changes nothing on stderr."""
    monkeypatch.setenv("IMGCONV_QUIET", "1")


@pytest.fixture
def photo(tmp_path):
    """A folder with photo.png, 64×64."""
    save_photo(tmp_path / "photo.png")
    return tmp_path

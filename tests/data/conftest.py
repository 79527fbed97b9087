import pytest

from pellucid.data import DataConfig, TokenData, prepare
from pellucid.data.generated import Generated

GENERATED_DOCUMENTS = 96


def config_of_generated(n_documents=GENERATED_DOCUMENTS, *, seed=0, **fields):
    corpus = Generated.Config(n_documents=n_documents, seed=seed)
    return DataConfig(corpus=corpus, **{"vocab_size": 320, **fields})


@pytest.fixture
def generated_config():
    return config_of_generated


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("token-cache")


@pytest.fixture(autouse=True)
def _token_cache(monkeypatch, shared_cache):
    monkeypatch.setenv("PELLUCID_CACHE", str(shared_cache))


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    """A cache of this test's own, empty at first."""
    monkeypatch.setenv("PELLUCID_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def generated_data(shared_cache) -> TokenData:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PELLUCID_CACHE", str(shared_cache))
        return prepare(config_of_generated(), progress=False)


@pytest.fixture
def text_folder(tmp_path):
    """Twelve short, different text files."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(12):
        words = " ".join(f"word{number}x{place}" for place in range(40))
        (folder / f"file{number:02d}.txt").write_text(f"{words}\n")
    return folder

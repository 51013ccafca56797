import gzip
from pathlib import Path

import pytest

from winohw.synth import cache as module
from winohw.synth.cache import Cache, cache_folder, digest


def test_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("WINOHW_CACHE_DIR", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert Cache().folder == tmp_path / "mine" / "synth"
    monkeypatch.delenv("WINOHW_CACHE_DIR")
    assert cache_folder().name == "winohw"


def test_text_comes_back(tmp_path):
    cache = Cache(tmp_path / "not" / "yet")
    assert cache.get("key") is None
    text = "cell \\größe " * 1000
    cache.put("key", text)
    assert cache.get("key") == Cache(tmp_path / "not" / "yet").get("key") == text
    assert (cache.folder / "key.gz").stat().st_size < len(text) / 10
    cache.put("key", "new")
    assert cache.get("key") == "new"


@pytest.mark.parametrize(
    "damage",
    [b"", b"text", gzip.compress(b"abc" * 100)[:-9], gzip.compress(b"\xff\xfe")],
    ids=["empty", "text", "truncated", "no text"],
)
def test_damaged_entry_is_none(tmp_path, damage):
    cache = Cache(tmp_path)
    cache.put("key", "text")
    (tmp_path / "key.gz").write_bytes(damage)
    assert cache.get("key") is None


def test_interrupted_put_leaves_the_old_entry(tmp_path, monkeypatch):
    cache = Cache(tmp_path)
    cache.put("key", "old")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cache.put("key", "new")
    assert cache.get("key") == "old"
    assert [path.name for path in Path(tmp_path).iterdir()] == ["key.gz"]


def test_digest_separates_texts():
    assert digest(["ab", "c"]) != digest(["a", "bc"]) != digest(["abc"])
    assert digest(["ab", "c"]) == digest(iter(["ab", "c"]))
    assert digest([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

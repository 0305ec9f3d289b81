import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from quickstudy import data


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def web(tmp_path):
    """A folder and the address that serves it."""
    folder = tmp_path / "web"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QUICKSTUDY_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


def offer(web, name, content):
    folder, address = web
    (folder / name).write_bytes(content)
    return data.RemoteFile(f"{address}/{name}", hashlib.sha256(content).hexdigest(), len(content))


def test_a_data_set_is_fetched_once(web, cache, monkeypatch):
    content = bytes(range(256)) * 1_000
    files = (offer(web, "a.zip", content), offer(web, "b.zip", b"more"))
    monkeypatch.setitem(data.DATA_SETS, "small", data.DataSet("a test", "none", files))
    assert not data.is_fetched("small")
    folder = data.fetch("small")
    assert folder == cache / "small" and data.is_fetched("small")
    assert sorted(path.name for path in folder.iterdir()) == ["a.zip", "b.zip"]
    assert (folder / "a.zip").read_bytes() == content
    (web[0] / "a.zip").unlink()
    data.fetch("small")


def test_an_altered_file_is_refused_and_not_kept(web, tmp_path):
    file = offer(web, "a.zip", b"published")
    (web[0] / "a.zip").write_bytes(b"altered")
    with pytest.raises(OSError, match=r"its SHA-256 is .*, not the published") as caught:
        data.download(file, tmp_path / "here")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "here").iterdir()) == []


def test_an_absent_file_is_one_sentence_and_nothing_kept(web, tmp_path):
    file = offer(web, "a.zip", b"published")
    (web[0] / "a.zip").unlink()
    with pytest.raises(OSError, match=r"could not fetch http.*404"):
        data.download(file, tmp_path / "here")
    assert list((tmp_path / "here").iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), data.replacing(target) as out:
        out.write(b"half of the new")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and target.read_bytes() == b"old"


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"name must be one of \['omniglot'\], not 'omnoglot'"):
        data.fetch("omnoglot")

"""Downloads, from a server on this machine that can do what servers do: break off, ignore ranges,
answer with a login page."""

import contextlib
import dataclasses
import errno
import hashlib
import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from sslens import cards, store
from sslens.cards import Card
from sslens.errors import InputError
from sslens.zoo import cache, download

CONTENT = bytes(range(256)) * 40_000  # 10.24 MB, several chunks


@dataclass
class Server:
    """A file on a server, and what the server does with it."""

    content: bytes = CONTENT
    ranges: bool = True
    etag: str | None = '"one"'
    breaks: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off."""
    status: int = 200
    kind: str = "application/octet-stream"
    length: bool = True
    before: Callable[[], None] = lambda: None
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    state: Server

    def do_GET(self) -> None:
        state = self.state
        wanted = self.headers.get("Range")
        state.asked.append((wanted, self.headers.get("If-Range")))
        state.before()
        if state.status != 200:
            self.send_error(state.status)
            return
        start = 0
        matches = self.headers.get("If-Range") in (None, state.etag)
        if wanted is not None and state.ranges and matches:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(state.content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(state.content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header(
                "Content-Range", f"bytes {start}-{len(state.content) - 1}/{len(state.content)}"
            )
        else:
            self.send_response(200)
        if state.etag:
            self.send_header("ETag", state.etag)
        self.send_header("Content-Type", state.kind)
        body = state.content[start:]
        if state.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: state.breaks.pop(0)] if state.breaks else body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    state = Server()
    serving = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), type("Handler", (Handler,), {"state": state})
    )
    thread = threading.Thread(
        target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    state.url = f"http://127.0.0.1:{serving.server_port}/dir/weights.pth"
    yield state
    serving.shutdown()
    serving.server_close()
    thread.join()


def card(server: Server, **changes: Any) -> Card:
    blank: dict[str, Any] = {"size": None, "sha256": None, "md5_prefix": None}
    return dataclasses.replace(cards.find("mae_vitb16"), **(blank | {"url": server.url} | changes))


def left(of: Card) -> set[str]:
    """The files of a card's folder that have anything to say."""
    folder = cache.locate(of).parent
    return (
        {file.name for file in folder.iterdir() if file.suffix not in (".lock", ".checked")}
        if folder.is_dir()
        else set()
    )


SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


def test_a_file_is_fetched_once_and_checked(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = card(server, size=len(CONTENT), sha256=SHA256)
    assert cache.is_here(asked) is False
    file = download.fetch(asked)
    assert file == store.home() / "checkpoints" / "mae_vitb16" / "weights.pth"
    assert file.read_bytes() == CONTENT
    assert "fetching weights.pth: 11/11 MB" in capsys.readouterr().err
    assert cache.is_here(asked) is True
    assert download.fetch(asked, quiet=True) == file
    assert server.asked == [(None, None)]
    assert left(asked) == {"weights.pth"}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("etag", ['"one"', None, 'W/"one"'])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    server: Server, etag: str | None
) -> None:
    server.breaks, server.etag = [3_000_000, 4_000_000], etag
    file = download.fetch(card(server, sha256=SHA256), quiet=True)
    assert file.read_bytes() == CONTENT
    named = etag if etag == '"one"' else None
    assert server.asked == [(None, None), ("bytes=3000000-", named), ("bytes=7000000-", named)]


def test_a_later_run_goes_on_from_the_part(server: Server) -> None:
    asked = card(server, sha256=SHA256)
    server.breaks = [3_000_000, 0]
    with pytest.raises(
        InputError,
        match=r"broke off after 3,000,000 bytes.*3,000,000 bytes that arrived are kept.*by hand",
    ):
        download.fetch(asked, quiet=True)
    assert left(asked) == {"weights.pth.part", "weights.pth.part.json"}
    server.asked.clear()
    assert download.fetch(asked, quiet=True).read_bytes() == CONTENT
    assert server.asked == [("bytes=3000000-", '"one"')]
    assert left(asked) == {"weights.pth"}


def broken_off(server: Server, asked: Card) -> None:
    server.breaks = [3_000_000, 0]
    with pytest.raises(InputError, match="broke off"):
        download.fetch(asked, quiet=True)
    server.asked.clear()


def test_a_server_without_ranges_starts_again(server: Server) -> None:
    asked = card(server, sha256=SHA256)
    broken_off(server, asked)
    server.ranges = False
    assert download.fetch(asked, quiet=True).read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ['"two"', None])
def test_parts_of_two_files_are_never_joined(server: Server, etag: str | None) -> None:
    """The authors replace the file between two runs: by its ETag, or without one by its length,
    that is seen."""
    server.etag = '"one"' if etag else None
    asked = card(server)
    broken_off(server, asked)
    server.content, server.etag = CONTENT[::-1] + b"longer", etag
    assert download.fetch(asked, quiet=True).read_bytes() == server.content


def test_a_part_that_is_whole_needs_only_its_name(server: Server) -> None:
    asked = card(server, sha256=SHA256)
    broken_off(server, asked)
    part = cache.locate(asked).with_name("weights.pth.part")
    part.write_bytes(CONTENT)
    assert download.fetch(asked, quiet=True).read_bytes() == CONTENT
    assert server.asked == [(f"bytes={len(CONTENT)}-", '"one"')]


def test_a_part_that_is_too_long_or_has_no_note_is_fetched_again(server: Server) -> None:
    asked = card(server, sha256=SHA256)
    broken_off(server, asked)
    part = cache.locate(asked).with_name("weights.pth.part")
    part.write_bytes(CONTENT + b"more")
    assert download.fetch(asked, quiet=True).read_bytes() == CONTENT
    cache.locate(asked).unlink()
    part.write_bytes(b"of unknown origin")
    server.asked.clear()
    assert download.fetch(asked, quiet=True).read_bytes() == CONTENT
    assert server.asked == [(None, None)]


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"sha256": "0" * 64}, f"its sha256 is {SHA256}, and the card's {'0' * 64}"),
        (
            {"sha256_prefix": "00000000"},
            f"its sha256 is {SHA256}, and the card's begins with 00000000",
        ),
        ({"md5_prefix": "000000"}, f"its md5 is {MD5}, and the card's begins with 000000"),
        ({"size": 9}, "the server's file has 10,240,000 bytes, the card says 9"),
    ],
)
def test_another_file_than_the_cards_is_removed(
    server: Server, claims: dict[str, Any], said: str
) -> None:
    asked = card(server, **claims)
    with pytest.raises(InputError) as error:
        download.fetch(asked, quiet=True)
    assert said in str(error.value)
    assert f"put it at {cache.locate(asked)}" in str(error.value)
    assert left(asked) == set()


def test_the_beginning_of_a_hash_is_enough_where_no_more_is_known(server: Server) -> None:
    assert download.fetch(
        card(server, sha256_prefix=SHA256[:8], md5_prefix=MD5[:6]), quiet=True
    ).is_file()


def test_a_file_without_length_that_is_cut_is_found_by_the_cards_size(server: Server) -> None:
    server.length, server.breaks = False, [1000]
    asked = card(server, size=len(CONTENT))
    with pytest.raises(
        InputError, match="has 1,000 bytes, but the file of mae_vitb16 has 10,240,000"
    ):
        download.fetch(asked, quiet=True)
    assert left(asked) == set()


@pytest.mark.parametrize(
    ("status", "said"),
    [(404, "HTTP 404, not found"), (403, "HTTP 403, forbidden"), (500, "HTTP 500")],
)
def test_a_refusal_is_one_sentence(server: Server, status: int, said: str) -> None:
    server.status = status
    asked = card(server)
    with pytest.raises(InputError, match=said) as error:
        download.fetch(asked, quiet=True)
    assert server.url in str(error.value)
    assert "SSLENS_HOME" in str(error.value)
    assert left(asked) == set()


def test_a_login_page_is_no_checkpoint(server: Server) -> None:
    server.kind, server.content = "text/html; charset=utf-8", b"<html>log in</html>"
    asked = card(server)
    with pytest.raises(InputError, match="web page and no file"):
        download.fetch(asked, quiet=True)
    assert left(asked) == set()


def test_no_network(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = dataclasses.replace(card(server), url="http://127.0.0.1:9/weights.pth")
    with pytest.raises(
        InputError, match=r"cannot be reached \(Connection refused\).*give the file's path"
    ):
        download.fetch(nobody, quiet=True)
    nowhere = dataclasses.replace(card(server), url="http://nowhere.invalid/weights.pth")
    with pytest.raises(InputError, match=r"nowhere.invalid/weights.pth cannot be reached \(.+\)"):
        download.fetch(nowhere, quiet=True)
    assert left(nowhere) == set()


def test_a_silent_server(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = threading.Event()
    server.before = lambda: bool(heard.wait(5)) and None
    monkeypatch.setattr(download, "SILENCE", 0.05)
    with pytest.raises(InputError, match=r"after 0 bytes \(timed out\)"):
        download.fetch(card(server), quiet=True)
    heard.set()


def test_a_disk_without_room_is_said_before_anything_is_written(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download.shutil.disk_usage(store.home().parent)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=10_239_999))
    asked = card(server)
    with pytest.raises(
        InputError, match=r"10,240,000 bytes are needed and 10,239,999 are free.*SSLENS_HOME"
    ):
        download.fetch(asked, quiet=True)
    assert left(asked) == set()
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: usage._replace(free=10_240_000))
    assert download.fetch(asked, quiet=True).is_file()


def test_a_disk_that_fills_up_keeps_the_part(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.open

    class Full:
        def __init__(self, file: Any) -> None:
            self.file, self.left = file, 3

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: Any) -> None:
            self.file.close()

        def write(self, chunk: bytes) -> int:
            self.left -= 1
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(chunk))

    def filling(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = real(self, mode, *args, **kwargs)
        return Full(file) if self.suffix == ".part" and mode == "wb" else file

    asked = card(server, sha256=SHA256)
    monkeypatch.setattr(Path, "open", filling)
    with pytest.raises(
        InputError, match=r"full .No space left on device.*bytes that arrived are kept"
    ):
        download.fetch(asked, quiet=True)
    monkeypatch.setattr(Path, "open", real)
    assert left(asked) == {"weights.pth.part", "weights.pth.part.json"}
    assert download.fetch(asked, quiet=True).read_bytes() == CONTENT
    assert server.asked[-1][0] is not None, "went on from the part"


def test_a_folder_that_cannot_be_written(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("SSLENS_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be written.*SSLENS_HOME"):
        download.fetch(card(server), quiet=True)


def test_a_file_put_there_by_hand_is_checked_and_kept(server: Server) -> None:
    asked = card(server, sha256=SHA256)
    file = cache.locate(asked)
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(InputError, match="is not the file of mae_vitb16: its sha256 is"):
        download.fetch(asked, quiet=True)
    assert file.read_bytes() == CONTENT[:-1] + b"x", "what a person put there is not ours to remove"
    file.write_bytes(CONTENT)
    assert download.fetch(asked, quiet=True) == file
    assert server.asked == []


def test_a_checked_file_is_hashed_again_only_when_it_changed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = card(server, sha256=SHA256)
    file = download.fetch(asked, quiet=True)
    real, hashed = hashlib.file_digest, []
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: hashed.append(given) or real(*given))
    download.fetch(asked, quiet=True)
    assert hashed == []
    file.write_bytes(CONTENT + b"x")
    with pytest.raises(InputError, match="sha256"):
        download.fetch(asked, quiet=True)


ONE_OF_SEVERAL = f"""
import dataclasses, hashlib, sys
from sslens import cards
from sslens.zoo import cache, download
card = dataclasses.replace(cards.find("mae_vitb16"), url=sys.argv[1], sha256="{SHA256}")
card = dataclasses.replace(card, size=None, md5_prefix=None)
print(hashlib.sha256(download.fetch(card, quiet=True).read_bytes()).hexdigest())
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="looks into /proc")
def test_of_several_processes_one_fetches(server: Server) -> None:
    there = threading.Event()
    server.before = lambda: bool(there.wait(60)) and None  # until the others are there
    command = [sys.executable, "-c", ONE_OF_SEVERAL, server.url]
    ranks = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    lock = cache.locate(card(server)).with_name(".weights.pth.lock")
    while sum(holds(rank.pid, lock) for rank in ranks) < 3:
        assert all(rank.poll() is None for rank in ranks)
    there.set()
    assert [rank.communicate(timeout=60)[0].strip() for rank in ranks] == [SHA256] * 3
    assert len(server.asked) == 1


def holds(process: int, file: Path) -> bool:
    """Whether a process has a file open."""
    with contextlib.suppress(OSError):
        return any(each.readlink() == file for each in Path(f"/proc/{process}/fd").iterdir())
    return False


def test_what_another_library_fetches_is_not_fetched_here(server: Server) -> None:
    clip = cards.find("clip_vitb16")
    assert cache.is_here(clip) is None
    with pytest.raises(
        InputError, match="fetched by timm: load them as timm:vit_base_patch16_clip"
    ):
        download.fetch(clip)


def test_the_note_beside_a_part_may_be_damaged(server: Server) -> None:
    asked = card(server, sha256=SHA256)
    broken_off(server, asked)
    cache.locate(asked).with_name("weights.pth.part.json").write_text(json.dumps([1]))
    assert download.fetch(asked, quiet=True).read_bytes() == CONTENT
    assert server.asked == [(None, None)]

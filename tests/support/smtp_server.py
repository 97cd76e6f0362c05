"""A small SMTP server on 127.0.0.1: EHLO, STARTTLS, AUTH PLAIN, and replies that a test chooses.

It stands in for a real one with encryption and users, which no package that the tests install brings.
It takes one connection at a time.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from types import TracebackType


class SmtpServer:
    """Runs from `with` to its end.

    Args:
        context: with a certificate: STARTTLS is offered.
        from_start: TLS from the first byte instead.
        login: user and password that it asks for.
        replies: by the first word of a command, sent instead of what would be answered; empty hangs up.

    Attributes:
        mails: (sender, recipients, bytes as they came, whether encrypted).
        commands: every line but those of mails.
    """

    def __init__(
        self,
        context: ssl.SSLContext | None = None,
        from_start: bool = False,
        login: tuple[str, str] | None = None,
        replies: dict[str, str] | None = None,
    ) -> None:
        self.context = context
        self._from_start = from_start
        self.login = login
        self.replies = replies or {}
        self.mails: list[tuple[str, list[str], bytes, bool]] = []
        self.commands: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> SmtpServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing alone does not wake a thread that waits in accept.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(30)
            with contextlib.suppress(OSError):
                if self._from_start and self.context is not None:
                    connection = self.context.wrap_socket(connection, server_side=True)
                with contextlib.closing(_Dialogue(self, connection)) as dialogue:
                    dialogue.run()
            connection.close()


class _Dialogue:
    """One connection."""

    def __init__(self, server: SmtpServer, connection: socket.socket) -> None:
        self._server = server
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._sender = ""
        self._recipients: list[str] = []
        self._known = server.login is None

    def close(self) -> None:
        self._lines.close()
        self._connection.close()

    def run(self) -> None:
        self._say("220 mail.example.org ESMTP")
        while line := self._lines.readline().decode().strip():
            self._server.commands.append(line)
            word = line.split()[0].upper()
            chosen = self._server.replies.get(word)
            if chosen == "":
                return None
            if chosen is not None:
                self._say(chosen)
            elif word == "QUIT":
                return self._say("221 bye")
            else:
                self._answer(word, line)
        return None

    def _answer(self, word: str, line: str) -> None:
        if word == "EHLO":
            self._say(*self._features())
        elif word == "STARTTLS":
            self._say("220 go ahead")
            assert self._server.context is not None
            self._connection = self._server.context.wrap_socket(self._connection, server_side=True)
            self._lines = self._connection.makefile("rb")
        elif word == "AUTH":
            given = base64.b64decode(line.split()[2]).decode().split("\0")[1:]
            self._known = tuple(given) == self._server.login
            self._say("235 welcome" if self._known else "535 no such user or password")
        elif not self._known:
            self._say("530 log in first")
        elif word == "MAIL":
            self._sender, self._recipients = _address(line), []
            self._say("250 ok")
        elif word == "RCPT":
            self._recipients.append(_address(line))
            self._say("250 ok")
        elif word == "DATA":
            self._take()
        else:
            self._say("250 ok")

    def _features(self) -> list[str]:
        encrypted = isinstance(self._connection, ssl.SSLSocket)
        features = ["mail.example.org"]
        if self._server.context is not None and not encrypted:
            features.append("STARTTLS")
        if self._server.login is not None and encrypted:
            features.append("AUTH PLAIN")
        return [f"250-{name}" for name in features] + ["250 8BITMIME"]

    def _take(self) -> None:
        self._say("354 go ahead")
        lines = []
        while (line := self._lines.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b"..") else line)
        encrypted = isinstance(self._connection, ssl.SSLSocket)
        self._server.mails.append((self._sender, self._recipients, b"".join(lines), encrypted))
        self._say("250 taken")

    def _say(self, *lines: str) -> None:
        self._connection.sendall("".join(f"{line}\r\n" for line in lines).encode())


def _address(line: str) -> str:
    return line.partition("<")[2].partition(">")[0]

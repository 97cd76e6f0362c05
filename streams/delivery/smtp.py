"""One mail over SMTP."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
from email.utils import parseaddr
from typing import Any, NoReturn

from pydantic import SecretStr

from ...schemas.alerts.routing import EmailReceiver
from .errors import DeliveryDelayed, DeliveryRefused, ReceiverAway, check_smtp, shown
from .mail import mail_bytes


def send_mail(
    body: dict[str, Any],
    receiver: EmailReceiver,
    password: SecretStr | None,
    timeout_s: float,
    context: ssl.SSLContext,
) -> None:
    """Hand a mail to the receiver's server.

    Args:
        body: of a message that `mail_messages` built.
        receiver: its server, encryption and user.
        password: of the user.
        timeout_s: of each step of the dialogue.
        context: of TLS.

    Raises:
        ReceiverAway: the server does not answer, or not as SMTP, or not with TLS where it must.
        DeliveryDelayed: it may take the mail later.
        DeliveryRefused: it never will, or the user may not send.
    """
    sender, recipient = parseaddr(body["from"])[1], parseaddr(body["recipient"])[1]
    try:
        server = _connected(receiver, timeout_s, context)
        with contextlib.closing(server):
            if receiver.username is not None and password is not None:
                server.login(receiver.username, password.get_secret_value())
            server.sendmail(sender, [recipient], mail_bytes(body))
            # It is taken; what the server makes of a goodbye does not matter.
            with contextlib.suppress(OSError):
                server.quit()
    except smtplib.SMTPRecipientsRefused as error:
        _refused(*error.recipients[recipient])
    except smtplib.SMTPResponseException as error:
        _refused(error.smtp_code, error.smtp_error)
    except smtplib.SMTPNotSupportedError as error:  # STARTTLS, or a way to log in
        raise DeliveryDelayed(shown(str(error))) from error
    except OSError as error:  # of which all errors of smtplib are
        raise ReceiverAway(shown(f"{type(error).__name__}: {error}")) from error
    except ValueError as error:  # an address beyond ASCII, a header that cannot be written
        raise DeliveryRefused(shown(str(error))) from error


def _refused(code: int, answer: bytes | str) -> NoReturn:
    check_smtp(code, answer.decode(errors="replace") if isinstance(answer, bytes) else answer)


def _connected(receiver: EmailReceiver, timeout_s: float, context: ssl.SSLContext) -> smtplib.SMTP:
    if receiver.tls == "tls":
        return smtplib.SMTP_SSL(receiver.host, receiver.port, timeout=timeout_s, context=context)
    server = smtplib.SMTP(receiver.host, receiver.port, timeout=timeout_s)
    if receiver.tls == "starttls":
        try:
            server.starttls(context=context)
        except BaseException:
            server.close()
            raise
    return server

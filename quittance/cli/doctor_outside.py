"""The mail server: reached, encrypted and logged in as notifications does it; no mail is sent."""

import aiosmtplib

from quittance.cli.doctor_checks import Area, Check
from quittance.settings import Reader
from workers.mail.settings import MailSettings
from workers.mail.smtp import connected, is_loopback


async def check_mail() -> list[Check]:
    """Connect, EHLO, STARTTLS where offered, login where a user is set, NOOP; nothing where no mail server is set."""
    area = Area("mail server")
    reader = Reader()
    server = MailSettings.read(reader).server
    if reader.faults or not server.host:
        return []  # the environment's checks say so
    where = f"{server.host}:{server.port}"
    try:
        async with connected(server) as smtp:
            await smtp.noop()
            encrypted = server.tls or smtp.get_transport_info("sslcontext") is not None
    except aiosmtplib.SMTPAuthenticationError as error:
        area.fault(f"{where} refuses the login: {error.code} {error.message}", "mend user and password in SMTP_URL")
    except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
        area.fault(
            f"{where} cannot be used: {type(error).__name__}: {error}",
            "mails wait and go out later; mend SMTP_URL, the network between, or the mail server",
        )
    else:
        area.ok(f"{where} answers{', logged in' if server.user else ''}{', encrypted' if encrypted else ''}")
        if not encrypted and not is_loopback(server.host):
            area.warning(
                f"{where} offers no encryption: mails cross the network in the clear", "use smtps://, or a relay nearby"
            )
    return area.checks

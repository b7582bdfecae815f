"""Checks against other sites' pages, which can make a visitor's browser send requests here."""

import ipaddress
from urllib.parse import urlsplit

from digitwise.errors import DigitwiseError
from digitwise.serving.problems import ProblemError

_READING = ("GET", "HEAD", "OPTIONS")


def parse_origin(text: str) -> str:
    """Normalize an address such as "https://digits.example.com", to compare it with an Origin.

    Raises:
        DigitwiseError: it is not a scheme and a host, with or without a port.
    """
    try:
        parts = urlsplit(text)
        is_origin = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_origin = False
    if not is_origin or parts.username or parts.path.strip("/") or parts.query or parts.fragment:
        raise DigitwiseError(
            f"--allow-origin {text}: not an origin: write it like https://digits.example.com"
        )
    return f"{parts.scheme}://{parts.netloc}".lower()


def is_loopback(name: str) -> bool:
    """Return whether a host name or address can only mean the machine itself."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def check_host(headers: dict[bytes, bytes], allowed: tuple[str, ...]) -> None:
    """Refuse a request whose Host is neither this machine nor an allowed origin's.

    If a page's host name is changed to 127.0.0.1 after the page was loaded (DNS rebinding),
    browsers treat it as the service's own page; only the Host header shows the difference.

    Args:
        headers: of the request, with lower-case names.
        allowed: origins, as `parse_origin` returns them.

    Raises:
        ProblemError: the name is unknown.
    """
    name = _host_name(headers.get(b"host", b"").decode("latin-1").lower())
    own = {urlsplit(origin).hostname for origin in allowed}
    if name and not is_loopback(name) and name not in own:
        raise ProblemError(
            421,
            f"the service is not known as {name[:100]}: open it at its own address, or start "
            "digitwise serve with --allow-origin and the address that people use",
        )


def check_origin(method: str, headers: dict[bytes, bytes], allowed: tuple[str, ...]) -> None:
    """Refuse what a browser sends on behalf of another site's page, such as a form.

    Requests without Sec-Fetch-Site and Origin do not come from a browser and pass.

    Args:
        method: of the request; GET and HEAD pass, because they change nothing.
        headers: with lower-case names.
        allowed: origins in addition to the service's own, as `parse_origin` returns them.

    Raises:
        ProblemError: the request comes from another origin.
    """
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    site = headers.get(b"sec-fetch-site", b"").decode("latin-1").lower()
    if method in _READING or origin in allowed:
        return
    if site:
        is_own = site in ("same-origin", "none")
    else:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        is_own = not origin or origin.partition("://")[2] == host
    if not is_own:
        raise ProblemError(
            403,
            f"requests from pages of {origin[:100] or 'another site'} are refused: start digitwise "
            "serve with --allow-origin and that address if it is the service's own",
        )


def _host_name(host: str) -> str:
    """Extract the name or address from a Host header."""
    if host.startswith("["):  # an IPv6 address
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")

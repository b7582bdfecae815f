"""What a service is told."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from digitwise.errors import DigitwiseError
from digitwise.serving.origins import parse_origin


@dataclass(frozen=True)
class ServiceSettings:
    """How a service reads, and what it lets in.

    Attributes:
        bundle: what to read with.
        token: what a request under /api and /metrics has to bring as `Authorization: Bearer`;
            None: nothing.
        collect: the folder that corrected digits are saved to; None: nowhere.
        is_local: whether only this machine reaches the service, so that requests whose Host header
            has another name are refused.
        origins: additional addresses that people open the page at, such as
            "https://digits.example.com" for a service behind a proxy.
        most_bytes: of a request's body.
        most_pixels: of a picture.
        most_digits: of a picture's answer.
        seconds: that a request may take, its body's arrival included.
        most_requests: under /api at one time; more are told to come back.
        threads: pictures that are worked on at once.
        most_pictures: that are worked on or wait, in memory; more stand in line.
        patience: seconds that they stand there before they are told to come back.
    """

    bundle: str | Path = "pretrained"
    token: str | None = None
    collect: Path | None = None
    is_local: bool = False
    origins: tuple[str, ...] = ()
    most_bytes: int = 10_000_000
    most_pixels: int = 40_000_000
    most_digits: int = 2000
    seconds: float = 20.0
    most_requests: int = 256
    threads: int = max(1, os.cpu_count() or 1)
    most_pictures: int = 4 * threads
    patience: float = 5.0

    def __post_init__(self) -> None:
        """Refuse settings that no client could satisfy.

        Raises:
            DigitwiseError: the token cannot be sent in a header, or an origin is not one.
        """
        if self.token is not None and not re.fullmatch(r"[!-~]+", self.token):
            raise DigitwiseError("--token: must be visible ASCII characters without spaces")
        object.__setattr__(self, "origins", tuple(parse_origin(text) for text in self.origins))

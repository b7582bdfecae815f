"""A Ray cluster, joined for a while and without its chatter."""

import contextlib
import logging
import socket
import sys
from collections.abc import Iterator
from importlib.util import find_spec

from digitwise.errors import DigitwiseError, missing_extra
from digitwise.messages import Shared, environment_defaults, quiet_loggers

LOCAL = "local"
_PATIENCE = 10  # seconds
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the warning of a change that concerns GPUs
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}  # what keeps a cluster to 127.0.0.1
_stdout_to_stderr = Shared(lambda: contextlib.redirect_stdout(sys.stderr))


def check_ray(purpose: str) -> None:
    """Refuses where Ray is not installed.

    Args:
        purpose: what needs it, such as "a sweep".

    Raises:
        DigitwiseError: names the extra.
    """
    if find_spec("ray") is None:
        raise missing_extra(purpose, "cluster")


@contextlib.contextmanager
def connected(address: str) -> Iterator[int]:
    """Joins a Ray cluster; where this process has joined one already, that one is used.

    Args:
        address: "local" starts one on this machine, for as long as it is needed; "auto" joins the
            one that `ray start` began here; else host:port of one's head.

    Yields:
        How many CPUs it has.

    Raises:
        DigitwiseError: no cluster answers at the address.
    """
    is_local = address == LOCAL
    with environment_defaults(_QUIET | (_LOOPBACK if is_local else {})), quiet_loggers("ray"):
        yield from _joined(address, is_local)


def _joined(address: str, is_local: bool) -> Iterator[int]:
    """Join a cluster while the generator is open, and yield its number of CPUs."""
    import ray

    joined = not ray.is_initialized()
    if joined:
        try:
            if address not in (LOCAL, "auto"):
                _knock(address)
            with (
                _no_usage_process() if is_local else contextlib.nullcontext(),
                _escaped_command_line(),
            ):
                ray.init(
                    address,
                    include_dashboard=False if is_local else None,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
        except (OSError, RuntimeError) as error:
            raise DigitwiseError(
                f"--cluster {address}: no Ray cluster answers there: start one with "
                "'ray start --head', or take --cluster local"
            ) from error
    try:
        with _stdout_to_stderr:  # where Ray reports dead workers
            yield max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        if joined:
            ray.shutdown()


@contextlib.contextmanager
def _no_usage_process() -> Iterator[None]:
    """Keep Ray from starting the process that reports usage.

    Without the dashboard, that is all the process does. Even with usage statistics switched off,
    it contacts the metadata servers of three cloud providers.
    """
    from ray._private import services

    start = services.start_api_server
    services.start_api_server = lambda *_, **__: (None, None)
    try:
        yield
    finally:
        services.start_api_server = start


@contextlib.contextmanager
def _escaped_command_line() -> Iterator[None]:
    """Escape bytes that are not UTF-8 in the command line, which Ray records and cannot encode."""
    from ray._private import utils

    command_line = utils.get_entrypoint_name
    utils.get_entrypoint_name = lambda: (
        command_line().encode("utf-8", "backslashreplace").decode("utf-8")
    )
    try:
        yield
    finally:
        utils.get_entrypoint_name = command_line


def _knock(address: str) -> None:
    """Makes sure that something listens at an address, since Ray asks for minutes.

    Raises:
        DigitwiseError: it is no address.
        OSError: nothing answers.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        raise DigitwiseError(f"--cluster {address}: not local, auto or host:port")
    with socket.create_connection((host, int(port)), timeout=_PATIENCE):
        pass

"""Who reads the headers of a backfill: processes of this machine, or the workers of a Dask cluster."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from platform import python_version
from typing import Any, ParamSpec, TypeVar

import dicom2fhir
from dicom2fhir.errors import BridgeError, ConfigError
from dicom2fhir.jobs.backfill_worker import end_with_parent

P = ParamSpec("P")
T = TypeVar("T")

_AHEAD = 2
"""Tasks for each worker besides the one that it does, so that it never waits."""
_CONNECT_S, _WORKERS_S = 10, 30
_LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Readers:
    """Workers that are ready.

    Attributes
    ----------
    workers
        How many tasks they do at the same time.
    gave_up
        Raised by a task that was given up, because each worker that did it ended.
    are_lost
        Whether nobody will do what is submitted.
    version
        That each worker must have, also one that joins later; empty where they run what this process runs.
    """

    executor: Executor
    workers: int
    gave_up: tuple[type[Exception], ...] = ()
    are_lost: Callable[[], bool] = lambda: False
    version: str = ""

    @property
    def most_pending(self) -> int:
        """How many tasks to submit before the first result is awaited."""
        return (1 + _AHEAD) * self.workers

    def submit(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function called by a worker."""
        task = partial(_with_version, self.version, function) if self.version else function
        with _interrupts_held_back():
            return self.executor.submit(task, *args, **kwargs)

    def result(self, future: Future[T]) -> T | None:
        """What a worker returns; None if it was given up.

        Raises
        ------
        CancelledError
            The workers are lost.
        BridgeError
            The worker has another version.
        """
        while not wait((future,), _LOOK_S).done:
            if self.are_lost():
                raise CancelledError
        try:
            return future.result()
        except self.gave_up:
            return None


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Block SIGINT while workers start, which the first task does: Ctrl-C reaches them, too, and would interrupt it."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def local_readers(workers: int) -> Iterator[Readers]:
    """Processes of this machine, which end with this one.

    Raises
    ------
    BridgeError
        One of them ended, probably because of a lack of memory.
    """
    with ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent) as pool:
        try:
            yield Readers(pool, workers)
        except BrokenProcessPool as lost:
            raise BridgeError("A reader process ended unexpectedly; if memory is short, use fewer --workers.") from lost
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def dask_readers(address: str) -> Iterator[Readers]:
    """The workers of a Dask cluster. What a lost worker had to read is read by another, until several were lost.

    Parameters
    ----------
    address
        Of the scheduler: ``tcp://host:8786``.

    Raises
    ------
    ConfigError
        The extra is not installed here.
    BridgeError
        The cluster cannot be used.
    """
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise ConfigError("--dask needs distributed; install it with: pip install 'dicom2fhir-bridge[dask]'") from None
    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BridgeError(f"There is no Dask scheduler at {address}: {error}.") from error
    with client:
        workers = _ready(client, address)
        executor = client.get_executor(pure=False)
        try:
            try:
                yield Readers(executor, workers, (KilledWorker,), lambda: client.status == "closed", _version())
            finally:
                executor.shutdown(wait=False)
        except Exception as error:
            if isinstance(error, CancelledError) or client.status == "closed":
                raise BridgeError("The Dask scheduler ended; run the same command again when it is back.") from error
            raise


def _ready(client: Any, address: str) -> int:
    """Wait for workers; how many tasks they do at the same time."""
    try:
        client.wait_for_workers(1, timeout=_WORKERS_S)
    except TimeoutError as error:
        raise BridgeError(
            f"The Dask scheduler at {address} has no workers; start some with: dask worker {address}"
        ) from error
    try:
        versions = set(client.run(_version).values())
    except Exception as error:  # what a worker cannot load has no class of its own
        raise BridgeError(
            f"The Dask workers cannot load this version of dicom2fhir; install it for them, too: {error}."
        ) from error
    if others := versions - {_version()}:
        raise _has_others(others, _version())
    return sum(client.nthreads().values())


def _has_others(others: Iterable[str], version: str) -> BridgeError:
    return BridgeError(
        f"Dask workers have dicom2fhir {', '.join(sorted(others))}, and this machine has {version}; install the same"
        " everywhere."
    )


def _with_version(version: str, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function, in a worker."""
    if _version() != version:
        raise _has_others([_version()], version)
    return function(*args, **kwargs)


def _version() -> str:
    return f"{dicom2fhir.__version__} with Python {python_version().rpartition('.')[0]}"

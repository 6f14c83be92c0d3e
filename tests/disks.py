"""A disk that is full."""

import resource
from contextlib import contextmanager


@contextmanager
def full_disk(size=1000):
    """No file may grow beyond so many bytes: the system then says so as it says that a disk is full.

    Only around what is tested: what pytest itself writes may be such a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

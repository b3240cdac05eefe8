"""The errors that somebody catches. Each names the field or file, the value and what is allowed."""

from __future__ import annotations


class MedsynthError(Exception):
    """Root of all errors of this package; `exit_code` is what the command line returns for it."""

    exit_code = 1


class ConfigError(MedsynthError, ValueError):
    """The sweep file or a component's settings are wrong. Caught by the command line: exit code 2."""

    exit_code = 2


class AuditError(MedsynthError):
    """The images cannot be used as they are. Caught by the command line: exit code 3."""

    exit_code = 3


class Underpowered(MedsynthError):
    """The test set and repeats cannot show the stated effect. Caught by the command line: exit code 2."""

    exit_code = 2


class BudgetExceeded(MedsynthError):
    """A cap of `budget` was reached; what is finished is valid. Caught by the command line: exit code 4."""

    exit_code = 4


class TrialsFailed(MedsynthError):
    """Some trials failed and what hangs on them could not run. Caught by the command line: exit code 5."""

    exit_code = 5


class DataLeak(AuditError):
    """An image of val or test reached something that may only see train. Stops the sweep."""


class GateRejectedAll(MedsynthError):
    """No pool passed its gates. Caught by the sweep, whose verdict then says so."""


class WeightsMissing(ConfigError):
    """A weights file is not where the config says. Raised before any trial starts."""


class DeviceUnavailable(MedsynthError):
    """A trial asks for a device that this cluster does not have."""


class StoreError(MedsynthError):
    """The store cannot be read or written, or its files do not match their record."""


class SweepLocked(MedsynthError):
    """Another driver leads this sweep (its heartbeat moves)."""


class Fenced(MedsynthError):
    """A newer driver took the lead; this one must stop writing."""


class Diverged(MedsynthError):
    """A fit's loss became NaN or infinite. Raised by generators; recorded, and not tried again with that seed."""


class Stopped(MedsynthError):
    """The sweep asked this work to stop; its last checkpoint is kept. Raised by components, caught by the engine."""

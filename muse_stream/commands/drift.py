"""Drift of tenants and predictors, as the role `calibrate` sees it (`runtime/drift_looks.py`)."""

from muse_stream.runtime.drift_looks import TenantDrift, Windows, drifts, uncounted

__all__ = ["TenantDrift", "Windows", "drifts", "uncounted"]

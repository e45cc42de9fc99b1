"""The world-model audit: what must hold before anyone believes a world's rankings, probe by probe.

Every probe compares imagination with recordings, states beforehand what it takes to pass, and passes only if
its whole interval does. A probe whose recordings are missing, or whose ruler cannot read reality, is not run,
which is not a pass.
"""

from v2w_gym.evaluation.audit.evidence import AuditConfig, Evidence, gather
from v2w_gym.evaluation.audit.finding import Bound, Finding
from v2w_gym.evaluation.audit.probes import audit
from v2w_gym.evaluation.audit.text import format_audit

__all__ = ["AuditConfig", "Bound", "Evidence", "Finding", "audit", "format_audit", "gather"]

"""The tables. All are imported here, so that the migrations see them."""

from apps.models.audit import AuditEvent, AuditHead
from apps.models.cache_epoch import CacheEpoch
from apps.models.client import Client
from apps.models.key import SigningKey
from apps.models.login_attempt import LoginAttempt
from apps.models.session import Session
from apps.models.user import User

__all__ = ["AuditEvent", "AuditHead", "CacheEpoch", "Client", "LoginAttempt", "Session", "SigningKey", "User"]

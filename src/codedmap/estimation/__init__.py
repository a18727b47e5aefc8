"""Estimates of a function from its answers elsewhere, and which answers these contradict."""

from .known import Known as Known

__all__ = ["Known"]

"""The report: tables and figures as one HTML file."""

from sslens.report.page import Draft, Section, write

__all__ = ["Draft", "Section", "write"]

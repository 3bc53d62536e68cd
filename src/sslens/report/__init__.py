"""The report: tables and figures as one HTML file."""

from typing import TYPE_CHECKING

from sslens.find import lazy_names

if TYPE_CHECKING:
    from sslens.report.page import Draft as Draft
    from sslens.report.page import Section as Section
    from sslens.report.page import write as write

__all__ = ["Draft", "Section", "write"]

# the names of files of a report are looked up without what draws it
__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "sslens.report.page"))

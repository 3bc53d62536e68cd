"""The first screen of a report: from results to what the page draws there."""

from sslens.report.front.screen import Answer as Answer
from sslens.report.front.screen import Card as Card
from sslens.report.front.screen import Front as Front
from sslens.report.front.screen import Overview as Overview
from sslens.report.front.screen import Point as Point

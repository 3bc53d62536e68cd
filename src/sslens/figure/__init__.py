"""A figure as data: an analysis states once what is drawn, and the figure is rendered for the
screen (plotly) and for paper (matplotlib).

Both renderings use one arrangement in CSS pixels, one colour scale and one line style a name, so
that they show the same thing.
"""

from sslens.figure.arrangement import NARROW, PAPER, SWITCH, WIDE, stack_panels
from sslens.figure.panels import Figure, Heatmap, Line, Lines, Panel
from sslens.figure.paper import save, to_matplotlib
from sslens.figure.pictures import Outline, Picture, decode_picture, encode_picture
from sslens.figure.press import Press
from sslens.figure.screen import draw_for_screen, to_plotly
from sslens.figure.sheets import Sheet
from sslens.figure.style import COLOURS, CONTROLS, UNDEFINED

__all__ = [
    "COLOURS",
    "CONTROLS",
    "NARROW",
    "PAPER",
    "SWITCH",
    "UNDEFINED",
    "WIDE",
    "Figure",
    "Heatmap",
    "Line",
    "Lines",
    "Outline",
    "Panel",
    "Picture",
    "Press",
    "Sheet",
    "decode_picture",
    "draw_for_screen",
    "encode_picture",
    "save",
    "stack_panels",
    "to_matplotlib",
    "to_plotly",
]

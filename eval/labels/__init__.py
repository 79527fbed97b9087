"""Labels of tokens that are known without anyone labelling them: from lexers, parsers, plug-ins."""

from pellucid.eval.labels.marks import Marks
from pellucid.eval.labels.pieces import texts_of
from pellucid.eval.labels.source import Source, label_stream
from pellucid.eval.labels.table import Label, LabelTable

__all__ = ["Label", "LabelTable", "Marks", "Source", "label_stream", "texts_of"]

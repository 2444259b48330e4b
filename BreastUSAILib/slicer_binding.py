"""What a panel follows, for as long as it follows it: parameters bound to its widgets, and nodes whose events it hears.

Slicer's own `connectGui` does the work. It forgets to return the tag that `disconnectGui` wants, and until Slicer 5.12 `disconnectGui` left an
observer behind, one for each visit of the module, that kept the parameters alive and wrote to the panel for ever
(https://github.com/Slicer/Slicer/pull/8667 and 9063). Here both are put right, also where Slicer does so itself.
"""

from __future__ import annotations

NAME = "SlicerParameterName"  # the property of a widget, in the .ui file, that says which parameter it shows


class Binding:
    """The parameters of a parameter node wrapper, shown by widgets and written by them, until `close`.

    Parameters
    ----------
    parameters : an object of a class that `slicer.parameterNodeWrapper.parameterNodeWrapper` made.
    ui : what `slicer.util.childWidgetVariables` returns.
    """

    def __init__(self, parameters, ui):
        self._parameters = parameters
        self._observers = []
        named = ((widget.property(NAME), widget) for widget in vars(ui).values())
        # An attribute of the object goes before the method of its class: what connecting observes becomes known here.
        parameters.AddObserver = self._observe
        try:
            self._tag = parameters.connectParametersToGui({name: widget for name, widget in named if name})
        finally:
            del parameters.AddObserver

    def _observe(self, event, callback, priority=0.0):
        self._observers.append(self._parameters.parameterNode.AddObserver(event, callback, priority))
        return self._observers[-1]

    def close(self):
        """Neither side follows the other any more."""
        self._parameters.disconnectGui(self._tag)
        for tag in self._observers:
            self._parameters.parameterNode.RemoveObserver(tag)
        self._observers = []


class Following:
    """Nodes of which an event is heard.

    `slicer.util.VTKObservationMixin` keeps all that it ever observed (https://github.com/Slicer/Slicer/issues/6679): images that were removed
    from the scene would stay in memory for as long as the panel lives.

    Parameters
    ----------
    event : its name or number.
    callback : called with node and event.
    """

    def __init__(self, event, callback):
        self._event, self._callback = event, callback
        self._tags = {}

    def follow(self, nodes):
        """Hear these nodes, and no others."""
        for node in [node for node in self._tags if node not in nodes]:
            node.RemoveObserver(self._tags.pop(node))
        for node in nodes:
            if node not in self._tags:
                self._tags[node] = node.AddObserver(self._event, self._callback)

"""What the API's framework brings along: nothing that no route uses."""

from __future__ import annotations

from litestar import Litestar
from litestar.plugins.core import MsgspecDIPlugin

from outrider.interfaces.api.application import Routes


def test_the_framework_brings_the_plugin_of_msgspec_and_no_other() -> None:
    assert len(Litestar._get_default_plugins([])) > 1, "the framework has another way to bring them now"
    (plugin,) = Routes._get_default_plugins([])
    assert isinstance(plugin, MsgspecDIPlugin)

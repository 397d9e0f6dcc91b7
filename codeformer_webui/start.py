"""Everything that is registered with the host besides the script classes."""

from __future__ import annotations

from . import axis, host, picker, restore, route, settings


def register() -> None:
    """Called anew at every reload of the host's page, before which the host has dropped its callbacks."""
    settings.register()
    restore.register()
    host.on_setting_changed(settings.PREFIX + "take_over", restore.register)
    host.on_after_component(picker.note_source)
    host.on_before_ui(axis.register)
    host.on_app_started(route.register)
    host.on_script_unloaded(restore.unregister)

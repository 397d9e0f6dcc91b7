"""Registers the pack with Stable-Diffusion-WebUI, which runs this file at its start and at every reload of its page.

Every script class that this module names is registered by the host, so nothing else is imported by name.
"""

from codeformer_webui import extras, generate, start

start.register()

Panel = generate.Panel
Extras = extras.Extras

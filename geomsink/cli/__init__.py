"""The commands: what they are called, what they read, and how they show what the library found.

Imports anything. Hands on `cli`, the group of all commands.
"""

from __future__ import annotations

from .barycenters import barycenter
from .diagnosis import doctor
from .divergences import demo, divergence
from .fits import fit, sample
from .flows import flow
from .group import cli
from .matchings import match
from .registrations import register
from .sketches import sketch
from .transfers import transfer

for command in (divergence, sketch, match, transfer, barycenter, flow, register, fit, sample, demo, doctor):
    cli.add_command(command)

__all__ = ["cli"]

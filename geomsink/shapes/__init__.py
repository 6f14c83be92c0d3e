"""Point clouds from shapes: mesh and point files in and out, surface sampling, procedural shapes.

NumPy is enough for tables, arrays and most meshes, for writing and for the procedural shapes. ``plyfile`` and
``trimesh`` read .ply and .glb, and ``pip install 'geomsink[shapes]'`` brings them; those of scanners come with
``'geomsink[scans]'``. All are imported when such a file is read, not before.

Imports `atomic`. Hands on what users call; and to generators and commands, how files and meshes are held.
"""

from geomsink.shapes.arrays import read_array as read_array
from geomsink.shapes.arrays import read_members as read_members
from geomsink.shapes.contents import Columns as Columns
from geomsink.shapes.contents import Contents as Contents
from geomsink.shapes.contents import FileWarning
from geomsink.shapes.contents import Part as Part
from geomsink.shapes.contents import rgb as rgb
from geomsink.shapes.contents import share as share
from geomsink.shapes.files import files_in as files_in
from geomsink.shapes.files import load as load
from geomsink.shapes.files import read, read_colors, read_mesh, write
from geomsink.shapes.files import whole as whole
from geomsink.shapes.mesh import Mesh
from geomsink.shapes.mesh import Points as Points
from geomsink.shapes.mesh import Triangles as Triangles
from geomsink.shapes.mesh import check_count as check_count
from geomsink.shapes.mesh import fit_unit_cube as fit_unit_cube
from geomsink.shapes.mesh import generator as generator
from geomsink.shapes.procedural import names, procedural
from geomsink.shapes.sampling import draw as draw
from geomsink.shapes.sampling import sample
from geomsink.shapes.sampling import shape_name as shape_name
from geomsink.shapes.sources import STDIN as STDIN
from geomsink.shapes.sources import is_stream as is_stream
from geomsink.shapes.sources import name_of as name_of

__all__ = ["FileWarning", "Mesh", "names", "procedural", "read", "read_colors", "read_mesh", "sample", "write"]

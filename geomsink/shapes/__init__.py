"""Point clouds from shapes: mesh and point files in and out, surface sampling, procedural shapes.

NumPy is enough for point files, for writing and for the procedural shapes. Mesh files are read by
``plyfile`` and ``trimesh``, which ``pip install 'geomsink[shapes]'`` brings and which are imported
when a mesh file is read, not before.

Imports nothing of the house. Hands on what users call; and to generators, how files and meshes are held.
"""

from geomsink.shapes.files import load as load
from geomsink.shapes.files import read, read_colors, read_mesh, write
from geomsink.shapes.mesh import Mesh
from geomsink.shapes.mesh import Points as Points
from geomsink.shapes.mesh import Triangles as Triangles
from geomsink.shapes.mesh import fit_unit_cube as fit_unit_cube
from geomsink.shapes.procedural import names, procedural
from geomsink.shapes.sampling import sample

__all__ = ["Mesh", "names", "procedural", "read", "read_colors", "read_mesh", "sample", "write"]

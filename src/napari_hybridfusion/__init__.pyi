from .scripting import fuse_layer as fuse_layer
from .scripting import show_result as show_result

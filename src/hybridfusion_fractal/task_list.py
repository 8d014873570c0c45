"""The tasks of this package, of which `fractal-manifest create` makes the manifest."""

from __future__ import annotations

from fractal_task_tools.task_models import ParallelTask

AUTHORS = "The napari-hybridfusion developers"
DOCS_LINK = ""
TASK_LIST = [
    ParallelTask(
        name="Fuse focal stack",
        executable="fuse_focal_stack.py",
        meta={"cpus_per_task": 2, "mem": 8000},
        input_types={"is_3D": True},
        output_types={"is_3D": False},
        category="Image Processing",
        tags=["Focus stacking", "Extended depth of field", "Projection"],
    )
]

"""Pages of HTML in one file: one environment for all templates, and pictures that are part of the page."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from imagecodecs import png_encode
from jinja2 import Environment, PackageLoader, StrictUndefined

from hybridfusion_core.errors import printable
from hybridfusion_core.view.pixels import Picture


def render_page(package: str, template: str, **values: Any) -> str:
    """Fill a template; every value is escaped, because names come from untrusted files.

    Args:
        package: that the template lies in, such as "hybridfusion_core.evaluate".
        template: name of the file.
        **values: what it shows; a name that it uses and does not get is an error.
    """
    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def inline(picture: Picture) -> dict[str, Any]:
    """Return what a page needs to show a picture that is part of it: caption, source, width and height."""
    encoded = base64.b64encode(png_encode(np.ascontiguousarray(picture.pixels), level=9)).decode("ascii")
    return {
        "caption": printable(picture.caption),
        "source": f"data:image/png;base64,{encoded}",
        "width": picture.pixels.shape[1],
        "height": picture.pixels.shape[0],
    }

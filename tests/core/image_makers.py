"""Small image files that several test files need."""

from pathlib import Path

import numpy as np
import tifffile


def multi_file(folder: Path) -> None:
    names, text = ("a.ome.tif", "b.ome.tif"), []
    for index, name in enumerate(names):
        text.append(
            f'<TiffData FirstZ="{index}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:0000000{index}-0000-'
            f"0000-0000-000000000000</UUID></TiffData>"
        )
    for index, name in enumerate(names):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:0000000{index}-0000-0000-0000-000000000000"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYZCT" Type="uint16" SizeX="6" SizeY="5" SizeZ="2" SizeC="1" SizeT="1">'
            f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{"".join(text)}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / name, np.full((5, 6), index + 1, "uint16"), description=xml, metadata=None)

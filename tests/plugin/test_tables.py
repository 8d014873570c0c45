"""A method or a product is one row of a table of the core; the window knows it from there alone."""

import numpy as np
from napari.components import ViewerModel

from hybridfusion_core.fusion.methods import METHODS, Method
from hybridfusion_core.fusion.products import PRODUCTS, Product
from napari_hybridfusion.fuse.form import FuseForm
from napari_hybridfusion.layers.results import product_title
from napari_hybridfusion.result.probe import describe


def test_an_invented_row_is_in_the_form_the_layers_and_the_status_bar(qtbot, monkeypatch):
    monkeypatch.setitem(METHODS, "median", Method("median of the slices", "", project=lambda z: np.median(z, axis=0)))
    monkeypatch.setitem(PRODUCTS, "gloss", Product("gloss", "How it shines.", along_z=True, status="gloss {:.1f}"))
    form = FuseForm(ViewerModel())
    qtbot.addWidget(form.native)
    assert "median" in form.method.choices
    assert "median of the slices" in [form.method.native.itemText(at) for at in range(form.method.native.count())]
    assert form.products["gloss"].text == "gloss"
    form.products["gloss"].value = True
    assert "gloss" in form.choices().products
    form.method.value = "median"
    assert not form.products["gloss"].enabled  # no height without a decision
    assert product_title("gloss_um") == "gloss (µm)"
    assert describe({"gloss_um": 2.25}) == "gloss 2.2 µm"

"""Labels of programs that keep a volume's axes in another order than the image has them."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
from helpers_bundle import AFFINE, SHAPE
from helpers_imaging import affine_of, write_nifti
from helpers_server import write_studies
from monai.data import MetaTensor
from swin_umamba.errors import InputError

from monailabel_app.datastore import SafeDatastore
from monailabel_app.grids import turned_like
from monailabel_app.history import History

CODES = ["".join(c) for order in itertools.permutations(("LR", "PA", "IS")) for c in itertools.product(*order)]


@pytest.mark.parametrize("degrees", [0.0, 17.0])
def test_every_order_of_the_axes_is_turned_back(degrees):
    truth = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    image = MetaTensor(truth[None].astype(float), affine_of("LPS", (1.5, 1.25, 4.0), degrees))
    start = nib.io_orientation(np.linalg.inv(image.affine.numpy()) @ image.affine.numpy())
    assert len(set(CODES)) == 48
    for codes in CODES:
        wanted = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("LPS"), nib.orientations.axcodes2ornt(codes)
        )
        voxels = nib.apply_orientation(truth, wanted)
        affine = image.affine.numpy() @ nib.orientations.inv_ornt_aff(wanted, truth.shape)
        turned = turned_like(MetaTensor(np.ascontiguousarray(voxels)[None], affine), image)
        if np.array_equal(wanted, start):
            assert turned is None
        else:
            np.testing.assert_array_equal(turned[0].numpy(), truth)
            np.testing.assert_array_equal(turned.affine, image.affine)


def test_a_label_is_stored_as_its_image_lies(tmp_path):
    store = SafeDatastore(write_studies(tmp_path / "studies", 1), History(tmp_path / "data"), auto_reload=False)
    labels = (np.arange(np.prod(SHAPE)).reshape(SHAPE) % 3).astype(np.uint8)
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    flip[1, 3] = SHAPE[1] - 1
    sent = write_nifti(tmp_path / "sent.nii.gz", labels[:, ::-1].transpose(2, 1, 0), (AFFINE @ flip)[:, [2, 1, 0, 3]])
    info = [{"name": "liver", "idx": 1}, {"name": "spleen", "idx": 2}]
    store.save_label("case_0", str(sent), "final", {"label_info": info})
    stored = nib.load(store.get_label_uri("case_0", "final"))
    np.testing.assert_array_equal(np.asarray(stored.dataobj), labels)
    np.testing.assert_allclose(stored.affine, AFFINE)
    assert store.label_meaning("case_0")["label_info"] == info
    elsewhere = write_nifti(tmp_path / "sent.nii.gz", labels[:, ::-1], AFFINE @ flip @ np.diag([1, 1, 1.01, 1]))
    with pytest.raises(InputError, match="mm away from the image"):
        store.save_label("case_0", str(elsewhere), "final", {})

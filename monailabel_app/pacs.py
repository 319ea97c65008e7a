"""The data store of a PACS: image series over DICOMweb in, corrected labels as DICOM SEG out.

The server's copies lie in the data directory: series as they came, each as one NIfTI for the viewers, and the labels as
for a folder of files. A label is safe there first and then sent to the PACS; one that could not be sent is sent again
later. Series can be fetched anew, so old ones are removed; labels never are.
"""

from __future__ import annotations

import functools
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import requests
from dicomweb_client import DICOMwebClient
from monai.data import MetaTensor
from monailabel.datastore.dicom import DICOMwebClientX
from monailabel.datastore.local import DataModel, ImageLabelModel
from monailabel.interfaces.exception import ImageNotFoundException
from pydicom.dataset import Dataset
from swin_umamba.dicom.provenance import find_earlier
from swin_umamba.dicom.segmentation import read_segmentation, write_segmentation
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder, replace_file
from swin_umamba.models import ModelSpec
from swin_umamba.outputs import save_label_map

from monailabel_app.cases import map_by_name
from monailabel_app.datastore import SafeDatastore, label_values, read_volume
from monailabel_app.history import History

logger = logging.getLogger(__name__)

FRESH_SECONDS = 10.0  # that an answer about all series counts as new
CACHE_DAYS = 30.0  # after which a series that nobody used is removed
FIELDS = ("00100020", "0020000D", "00080060", "0008103E")
TIMEOUT = 60  # seconds for an answer of the PACS


class PacsDatastore(SafeDatastore):
    """Image series of a DICOMweb server.

    Args:
        url: of its DICOMweb root.
        folder: for copies of series and labels.
        history: keeps what is submitted and tells who changed what.
        spec_of: gives the description of a model by its name, or of the first one for None; segments are named by it.
        search_filter: DICOMweb query of the series that are offered.
        credentials: user and password.
    """

    def __init__(
        self,
        url: str,
        folder: str | os.PathLike,
        history: History,
        spec_of: Callable[[str | None], ModelSpec],
        search_filter: Mapping[str, Any],
        credentials: tuple[str, str] | None = None,
    ) -> None:
        session = requests.Session()
        session.auth = credentials
        self._session = session
        self._client: DICOMwebClient = DICOMwebClientX(url=url, session=session)
        self.url, self._filter, self._spec_of = url, dict(search_filter), spec_of
        self._fresh_until = 0.0
        self._asking = threading.RLock()
        self._series = make_writable_folder(Path(folder) / "series")
        super().__init__(folder, history, auto_reload=False)

    def name(self) -> str:
        """The PACS's address."""
        return self.url

    def refresh(self) -> None:
        """Ask the PACS which series there are, at most every few seconds, and send labels that still wait.

        When it does not answer, what was known stays.
        """
        with self._asking:
            if time.monotonic() < self._fresh_until:
                return
            self._reconcile_datastore()
            self._fresh_until = time.monotonic() + FRESH_SECONDS

    def list_images(self) -> list[str]:
        """Return the UIDs of the series."""
        self.refresh()
        return super().list_images()

    def get_labeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Return the series with a corrected label."""
        self.refresh()
        return super().get_labeled_images(label_tag, labels)

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """Return the series without a corrected label."""
        self.refresh()
        return super().get_unlabeled_images(label_tag, labels)

    def get_image_uri(self, image_id: str) -> str:
        """Return a series as one NIfTI file, fetched and converted when it is not there yet."""
        self._existing(image_id)
        file = Path(self._datastore.image_path()) / f"{image_id}.nii.gz"
        with self._asking:
            folder = self.series_folder(image_id)
            if not file.is_file():
                volume = read_volume(str(folder), "series")
                with replace_file(file) as path:
                    nib.save(nib.Nifti1Image(volume[0].numpy(), volume.affine.numpy()), path)
        for path in (file, folder):
            os.utime(path)  # what is used stays
        return str(file.resolve())

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Return what the PACS says of a series."""
        entry = self._datastore.objects.get(image_id)
        return dict(entry.image.info) if entry else {}

    def series_folder(self, image_id: str) -> Path:
        """Return the folder with the instances of a series, fetched when it is not there yet.

        Raises:
            ImageNotFoundException: if the PACS has no such series.
            InputError: if it does not answer.
        """
        folder = self._series / image_id
        if not folder.is_dir():
            study = self._existing(image_id).image.info["StudyInstanceUID"]
            part = Path(f"{folder}.part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            for number, instance in enumerate(self._ask(lambda: self._client.retrieve_series(study, image_id))):
                instance.save_as(part / f"{number:06d}.dcm", write_like_original=False)
            if not any(part.iterdir()):
                raise ImageNotFoundException(f"series {image_id} has no instances any more")
            os.rename(part, folder)
        return folder

    def add_image(self, image_id: str, image_filename: str, image_info: dict[str, Any]) -> str:
        """Images come from the PACS alone.

        Raises:
            InputError: always.
        """
        raise InputError("images come from the PACS; send the series there")

    def remove_image(self, image_id: str) -> None:
        """Series are removed in the PACS alone.

        Raises:
            InputError: always.
        """
        raise InputError("series are removed in the PACS, not here")

    def save_label(self, image_id: str, label_filename: str, label_tag: str, label_info: dict[str, Any]) -> str:
        """Keep a label, and send a final one to the PACS; one that cannot be sent now is sent later."""
        saved = super().save_label(image_id, label_filename, label_tag, label_info)
        if str(getattr(label_tag, "value", label_tag)) == "final":
            try:
                self._send(image_id)
            except InputError as error:
                logger.warning("a label waits for the PACS: %s", error)
        return saved

    def _send(self, image_id: str) -> None:
        """Write the final label as DICOM SEG, superseding our earlier ones of the series, and store it in the PACS."""
        info = self.get_label_info(image_id, "final")
        spec = self._spec_of(info.get("model"))
        folder = self.series_folder(image_id)
        label = read_volume(self.get_label_uri(image_id, "final"), "label")
        names = label_values(info) or {number: organ for organ, number in spec.labels.items()}
        mapped, strangers = map_by_name(label, names, spec.labels)
        if strangers:
            logger.warning("segments %s are not organs of model %s; the SEG leaves them out", strangers, spec.name)
        study = self.get_image_info(image_id)["StudyInstanceUID"]
        path = Path(self._datastore_path) / "outgoing" / f"{image_id}.dcm"
        reviewer = str(info.get("client_id") or "") or None
        earlier = find_earlier(self._segmentations(study), str(folder), spec)
        dataset = write_segmentation(
            mapped, str(folder), spec, path, algorithm_type="SEMIAUTOMATIC", reviewer=reviewer, supersedes=earlier
        )
        self._ask(lambda: self._client.store_instances([dataset]))
        path.unlink()
        self._datastore.objects[image_id].labels["final"].info["sent"] = str(dataset.SOPInstanceUID)
        self._update_datastore_file()
        self.history.tell("send label", image=image_id, instance=str(dataset.SOPInstanceUID))

    def _segmentations(self, study: str) -> list[Dataset]:
        """Return all segmentations of a study, without their pixels where the PACS can leave them out."""
        found = self._ask(lambda: self._client.search_for_series(study, search_filters={"Modality": "SEG"}))
        series = [str(Dataset.from_json(item).SeriesInstanceUID) for item in found]
        metadata = [self._ask(functools.partial(self._client.retrieve_series_metadata, study, uid)) for uid in series]
        return [Dataset.from_json(item) for instances in metadata for item in instances]

    def _reconcile_datastore(self) -> None:
        """Bring the list up to date with the PACS, if it answers, and with the labels kept here."""
        self._init_from_datastore_file()
        objects = self._datastore.objects
        known: dict[str, dict[str, str]] = {}
        try:
            found = self._ask(lambda: self._client.search_for_series(fields=list(FIELDS), search_filters=self._filter))
        except InputError as error:
            logger.warning("%s; what is known of it stays", error)
            return
        for item in found:
            header = Dataset.from_json(item)
            keys = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
            known[str(header.SeriesInstanceUID)] = {key: str(header.get(key, "")) for key in keys}
        changed = set(objects) != set(known)
        for uid in set(objects) - set(known):
            if not objects[uid].labels:  # a label is kept although its series has left the PACS
                del objects[uid]
        for uid, info in known.items():
            if uid not in objects:
                objects[uid] = ImageLabelModel(image=DataModel(ext=".nii.gz", info=info))
        for tag in ("final", "original"):
            changed |= bool(self._add_non_existing_labels(tag))
        if changed:
            self._update_datastore_file()
        for uid, entry in objects.items():
            label = entry.labels.get("final")
            if label is not None and uid in known and not label.info.get("sent"):
                self._send_again(uid)
        self._remove_old_copies()

    def _send_again(self, image_id: str) -> None:
        try:
            self._send(image_id)
        except InputError as error:
            logger.warning("a label still waits for the PACS: %s", error)

    def _remove_old_copies(self) -> None:
        oldest = time.time() - CACHE_DAYS * 24 * 60 * 60
        for folder in self._series.iterdir():
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
                (Path(self._datastore.image_path()) / f"{folder.name}.nii.gz").unlink(missing_ok=True)

    def take_over_all(self, spec: ModelSpec) -> list[str]:
        """Take our latest segmentations in the PACS as final labels of series that have none here; returns those."""
        found = self._ask(lambda: self._client.search_for_series(search_filters={"Modality": "SEG"}))
        studies = {str(Dataset.from_json(item).StudyInstanceUID) for item in found}
        images = [image for image in self.list_images() if self.get_image_info(image)["StudyInstanceUID"] in studies]
        return [image for image in images if self.take_over(image, spec)]

    def take_over(self, image_id: str, spec: ModelSpec) -> bool:
        """Take our latest segmentation in the PACS as the final label of a series that has none here.

        Returns:
            Whether there was one.
        """
        if self.get_label_uri(image_id, "final"):
            return False
        study, folder = self.get_image_info(image_id)["StudyInstanceUID"], self.series_folder(image_id)
        earlier = find_earlier(self._segmentations(study), str(folder), spec)
        if not earlier:
            return False
        last = earlier[-1]
        uids = (study, str(last.SeriesInstanceUID), str(last.SOPInstanceUID))
        whole = self._ask(lambda: self._client.retrieve_instance(*uids))
        label: MetaTensor = read_segmentation(whole, str(folder), spec.labels)
        path = make_writable_folder(Path(self._datastore_path) / "outgoing") / f"{image_id}.nii.gz"
        save_label_map(path, label)
        info = {
            "label_info": [{"name": organ, "idx": number} for organ, number in spec.labels.items()],
            "client_id": str(whole.get("ContentCreatorName") or "PACS"),
            "sent": uids[2],
        }
        super().save_label(image_id, str(path), "final", info)
        path.unlink()
        return True

    def ask_raw(self, path: str, query: str, accept: str) -> tuple[int, dict[str, str], bytes]:
        """Pass a viewer's question on; returns status, headers and body of the answer.

        Raises:
            InputError: if the PACS cannot be reached.
        """
        target = f"{self.url}/{path}" + (f"?{query}" if query else "")
        session: requests.Session = self._session
        answer = self._ask(lambda: session.get(target, headers={"Accept": accept}, timeout=TIMEOUT))
        kept = {name: answer.headers[name] for name in ("Content-Type",) if name in answer.headers}
        return answer.status_code, kept, answer.content

    def _ask(self, request: Callable[[], Any]) -> Any:
        """Return what the PACS answers.

        Raises:
            InputError: if it cannot be reached or refuses.
        """
        try:
            return request()
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else "?"
            raise InputError(f"the PACS at {self.url} refuses: HTTP {status}") from error
        except (requests.RequestException, OSError) as error:
            raise InputError(f"the PACS at {self.url} does not answer: {type(error).__name__}") from error


def first_spec(served: Callable[[str], Any], names: Sequence[str], name: str | None) -> ModelSpec:
    """Return the description of a model, or of the first one.

    Raises:
        InputError: if there is no model.
    """
    if not names:
        raise InputError("no model is installed, so segments have no names")
    return served(name if name is not None and name in names else names[0]).spec

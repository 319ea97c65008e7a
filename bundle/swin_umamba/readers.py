"""Reading a volume from any format that we take, chosen by what the file is and by nothing else."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
from monai.config import PathLike
from monai.data import ImageReader, ITKReader, NibabelReader
from monai.utils import ensure_tuple

from swin_umamba.errors import InputError
from swin_umamba.photographs import PhotographReader, is_photograph

NIFTI_SUFFIXES = (".nii.gz", ".nii")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
SERIES_KEY = "dicom_series"  # in an image's metadata: the name of its series, which says nothing of the patient
LEGAL_IMAGES = f"{', '.join(NIFTI_SUFFIXES + ITK_SUFFIXES)} or a DICOM series"

logging.getLogger("nibabel.global").setLevel(logging.ERROR)  # it reports harmless header repairs of many files


def suffix_of(path: PathLike) -> str:
    """Return the suffix of a volume's file name in lower case, or "" when it is none of ours."""
    name = Path(path).name.lower()
    return next((suffix for suffix in NIFTI_SUFFIXES + ITK_SUFFIXES if name.endswith(suffix)), "")


class VolumeReader(ImageReader):
    """Read NIfTI with nibabel, NRRD and MetaImage with ITK, photographs with Pillow, anything else as one DICOM series.

    MONAI's automatic choice tries reader after reader until one takes the file, which turns a damaged NIfTI file into
    five tracebacks; here a format has one reader, and what that reader says is the error.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: tuple[str, ...] = ()
        self.reader: ImageReader = NibabelReader()

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Return True: every file is tried."""
        return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """Open one volume.

        Args:
            data: one file, the files of one DICOM series in any order, or the folder that holds them.
            kwargs: for the format's own reader.

        Raises:
            InputError: naming the file and why it cannot be read.
        """
        self.files = _files(tuple(str(file) for file in ensure_tuple(data)))
        self.reader = _reader_of(self.files)
        try:
            image = self.reader.read(self.files if len(self.files) > 1 else self.files[0], **kwargs)
            if isinstance(image, nibabel.Nifti1Pair):
                _check_written_spacing(image, self.files[0])
            return image
        except Exception as error:
            raise self._cannot_read(error) from error

    def get_data(self, img: Any) -> tuple[Any, dict]:
        """Return the array and the metadata of what `read` opened; its errors are those of `read`."""
        try:
            return self.reader.get_data(img)
        except Exception as error:
            raise self._cannot_read(error) from error

    def _cannot_read(self, error: Exception) -> InputError:
        if isinstance(error, InputError):
            return error
        if not Path(self.files[0]).exists():
            return InputError(f"{self.files[0]} does not exist; legal: {LEGAL_IMAGES}")
        lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
        if isinstance(self.reader, ITKReader):  # its reason comes last, after where in its source it was found
            lines = [line for line in lines if not line.startswith("Reason: No such file")][-1:]
        reason = " ".join(lines) or type(error).__name__
        return InputError(f"{self.files[0]} cannot be read: {reason}; legal: {LEGAL_IMAGES}")


def _check_written_spacing(image: nibabel.Nifti1Pair, file: str) -> None:
    """Refuse a spacing that nibabel would mend in silence: 0 becomes 1 mm, below 0 loses its sign."""
    with nibabel.openers.ImageOpener(file) as opened:
        header = type(image).header_class.from_fileobj(opened, check=False)
    sides = [float(side) for side, size in zip(header["pixdim"][1:4], image.shape[:3], strict=False) if size > 1]
    if header["sform_code"] == 0 and not all(side > 0 for side in sides):
        raise InputError(f"{file} has a spacing of {sides}; legal: above 0 mm")


@contextlib.contextmanager
def quiet_about_decoders() -> Iterator[None]:
    """Drop what MONAI says as it makes its own readers, which we do not use: there is no nvImageCodec."""
    logger = logging.getLogger("monai.data.nvimgcodec_pydicom_plugin")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="NvImgCodecPydicomReader")
            yield
    finally:
        logger.setLevel(level)


def _files(named: tuple[str, ...]) -> tuple[str, ...]:
    """Return the files of a volume, which a folder of DICOM files stands for as a whole."""
    if len(named) != 1 or not Path(named[0]).is_dir():
        return named
    from swin_umamba.dicom.series import files_of_folder  # pydicom takes long to import and is often not needed

    return tuple(files_of_folder(named[0]))


def _reader_of(files: tuple[str, ...]) -> ImageReader:
    suffix = suffix_of(files[0]) if len(files) == 1 else ""
    if suffix in NIFTI_SUFFIXES:
        return NibabelReader()
    if suffix in ITK_SUFFIXES:
        return ITKReader()
    if len(files) == 1 and is_photograph(files[0]):
        return PhotographReader()
    from swin_umamba.dicom.reader import DicomSeriesReader  # pydicom takes long to import and is often not needed

    return DicomSeriesReader()

"""DICOM: image series in."""

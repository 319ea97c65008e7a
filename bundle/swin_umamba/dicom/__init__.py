"""DICOM: image series in; segmentations and structure sets out, and in again."""

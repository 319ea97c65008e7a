"""A PACS as the data store: image series over DICOMweb in, labels as DICOM SEG out."""

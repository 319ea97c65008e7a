"""`python -m swin_umamba` prints the bundle's folder, for `--bundle_root` and `--config_file`."""

from __future__ import annotations

from swin_umamba.errors import report_errors_in_one_line
from swin_umamba.installation import bundle_root

if __name__ == "__main__":
    report_errors_in_one_line()
    print(bundle_root())

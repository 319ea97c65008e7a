"""For 3D Slicer behind a token: add this to its start-up file, and set the two values.

The MONAI Label module logs in for everything but one request: *Next Sample* downloads the image by Slicer's own
downloader, which knows no token. This adds the token to the requests of that downloader to this one server.
"""

import urllib.request
from pathlib import Path

SERVER = "https://segmentation.hospital.example"  # as it stands in the module
TOKEN_FILE = Path.home() / "swin_umamba_token"  # readable by you alone


class ServerToken(urllib.request.BaseHandler):
    """Sends the token to the server, and to nobody else."""

    def http_request(self, request: urllib.request.Request) -> urllib.request.Request:
        """Add the header, which does not follow a redirection to another place."""
        if request.full_url.startswith(f"{SERVER.rstrip('/')}/"):
            token = TOKEN_FILE.read_text(encoding="utf-8").strip()
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        return request

    https_request = http_request


urllib.request.install_opener(urllib.request.build_opener(ServerToken()))

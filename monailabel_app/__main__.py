"""Start the server: `python -m monailabel_app --studies FOLDER`, or with a PACS of its own: `--orthanc FOLDER`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import uvicorn
from filelock import FileLock, Timeout
from swin_umamba.errors import InputError
from swin_umamba.files import make_writable_folder

from monailabel_app.monitoring import configure_logging
from monailabel_app.ohif.package import COMMAND, VERSION, default_folder, find_site
from monailabel_app.pacs import options as pacs_options
from monailabel_app.pacs.connection import PacsConnection, is_url
from monailabel_app.pacs.orthanc import orthanc
from monailabel_app.security import ORIGINS_VARIABLE, TOKEN_FILE_VARIABLE, UPLOAD_VARIABLE, Rules, is_loopback
from monailabel_app.settings import TEMPORARY, AppSettings

HERE = Path(__file__).resolve().parent
_RUNNING: list[FileLock] = []  # held until the process ends


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and serve until stopped."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # before the server has its own: what was started is stopped
    with contextlib.ExitStack() as stack:
        try:
            if options.orthanc is not None:
                own = stack.enter_context(orthanc(options.orthanc, options.orthanc_port))
                options.studies = own.url
                os.environ.update(own.as_environment())
                options.data_dir = options.data_dir or str(Path(options.orthanc) / ".swin_umamba")
            _prepare(options)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        _serve(options)
    return 0


def _serve(options: argparse.Namespace) -> None:
    shown = "127.0.0.1" if is_loopback(options.host) else options.host
    scheme = "https" if options.tls_certificate else "http"
    print(
        f"serving {options.studies} on {scheme}://{shown}:{options.port}/ (OHIF at /ohif/); stop with Ctrl+C",
        flush=True,
    )
    folders = [Path(json.loads(os.environ["MONAI_LABEL_APP_CONF"])["data_dir"]) / "ohif", default_folder()]
    if is_url(options.studies) and find_site(folders) is None:
        print(f"OHIF {VERSION}, which corrects and stores labels, is not here; get it by: {COMMAND}", flush=True)
    uvicorn.run(
        "monailabel_app.server:app",
        host=options.host,
        port=options.port,
        log_config=None,
        access_log=False,
        ssl_certfile=options.tls_certificate,
        ssl_keyfile=options.tls_key,
    )


def _prepare(options: argparse.Namespace) -> None:
    """Check the options and hand them to MONAI Label, whose settings are environment variables."""
    os.environ.update(pacs_options.environment_of(options))
    if is_url(options.studies):
        studies = PacsConnection.from_environment(options.studies).url
    elif Path(options.studies).is_dir():
        studies = str(Path(options.studies).resolve())
    else:
        raise InputError(f"studies {options.studies!r}: no such folder")
    conf = {
        "models": os.pathsep.join(options.models or []),
        "data_dir": options.data_dir,
        "device": options.device,
        "patient_pattern": options.patient_pattern,
        "validation_share": options.validation_share,
        "uncertainty_model": options.uncertainty_model,
    }
    conf = {key: str(value) for key, value in conf.items() if value not in (None, "")}
    settings = AppSettings.from_conf(studies, conf)
    conf["data_dir"] = str(settings.data_dir.resolve())
    variables = {
        TOKEN_FILE_VARIABLE: options.token_file,
        ORIGINS_VARIABLE: ",".join(options.cors_origin or []),
        UPLOAD_VARIABLE: str(options.upload_limit),
    }
    os.environ.update({name: value for name, value in variables.items() if value})
    if Rules.from_environment().token is None and not is_loopback(options.host):
        raise InputError(f"host {options.host!r}: beyond this machine a token is needed: --token-file FILE")
    _only_server_on(settings.data_dir)
    temporary = make_writable_folder(settings.data_dir / TEMPORARY)
    os.environ.update(
        TMPDIR=str(temporary),  # uploads on their way are patients' images too
        MONAI_LABEL_APP_DIR=str(HERE),
        MONAI_LABEL_STUDIES=studies,
        MONAI_LABEL_APP_CONF=json.dumps(conf),
        MONAI_LABEL_SERVER_PORT=str(options.port),
        MONAI_LABEL_AUTO_UPDATE_SCORING="false",
        MONAI_LABEL_SESSION_PATH=str(settings.data_dir / "sessions"),
    )
    configure_logging(settings.data_dir)


def _only_server_on(data_dir: Path) -> None:
    try:
        _RUNNING.append(FileLock(data_dir / ".server"))
        _RUNNING[-1].acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"data directory {str(data_dir)!r} is used by a server that runs already") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m monailabel_app", description="Serve models to 3D Slicer and OHIF.")
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--studies", help="folder of NIfTI or NRRD images, or URL of a DICOMweb server")
    images.add_argument("--orthanc", metavar="FOLDER", help="start an Orthanc that keeps DICOM images in this folder")
    parser.add_argument("--models", action="append", help="folder of models; default: models and bundle/models")
    parser.add_argument("--data-dir", help="state and logs; default: .swin_umamba in the folder of images")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; beyond this machine a token is needed"
    )
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument("--token-file", help="file with the token that every request must carry")
    parser.add_argument("--cors-origin", action="append", help="web page that may use the server, besides its own")
    parser.add_argument("--upload-limit", type=int, default=2048, help="largest request in MiB")
    parser.add_argument("--tls-certificate", help="PEM file; with --tls-key the server speaks HTTPS")
    parser.add_argument("--tls-key", help="PEM file")
    parser.add_argument(
        "--patient-pattern", help="regular expression whose first group is the patient in an image's id"
    )
    parser.add_argument("--validation-share", type=float, default=0.2, help="of the patients held out of training")
    parser.add_argument("--orthanc-port", type=int, default=0, help="of that Orthanc; default: a free one")
    pacs_options.add_options(parser)
    parser.add_argument(
        "--uncertainty-model",
        metavar="NAME",
        help="model for the strategy of that name, worked out in the background; none: no model; "
        "default: the first for a folder, none for a PACS",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Service unit, containers and proxy name the same places, ports and users, and options that the server knows."""

from __future__ import annotations

import configparser
import fnmatch
import json
import re
import shlex
import shutil
import subprocess
from pathlib import PurePosixPath
from urllib.parse import urlsplit

import pytest
import yaml
from helpers_bundle import ROOT

from monailabel_app.__main__ import _parser, main

DEPLOY = ROOT / "monailabel_app" / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
UNIT = DEPLOY / "swin-umamba.service"


def unit() -> configparser.SectionProxy:
    """Return the unit's service; of a setting that it has several times, the last one."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names as they are written
    parser.read_string(UNIT.read_text())
    return parser["Service"]


def targets(service: str) -> dict[str, str]:
    """Return where a container has its volumes, and what is there."""
    volumes = [volume.split(":") for volume in COMPOSE["services"][service]["volumes"]]
    return {target: source for source, target, *_ in volumes}


def test_server_finds_in_its_container_what_its_command_names():
    server = COMPOSE["services"]["server"]
    options, places = _parser().parse_args(server["command"]), targets("server")
    assert options.models == [target for target, source in places.items() if source == "../../models"]
    assert places[options.data_dir] in COMPOSE["volumes"]
    (secret,) = server["secrets"]
    assert options.token_file == f"/run/secrets/{secret}"
    assert COMPOSE["secrets"][secret]["file"] == "../../token"
    for file in ("../../models/chaos_mri/model.pt", f"{server['build']['context']}/{server['build']['dockerfile']}"):
        assert (DEPLOY / file).is_file()
    address, outside, inside = server["ports"][0].split(":")
    assert (address, int(outside), int(inside)) == ("127.0.0.1", options.port, options.port)
    assert f"EXPOSE {options.port}" in DOCKERFILE
    assert f"VOLUME {options.data_dir}\n" in DOCKERFILE
    assert f"127.0.0.1:{options.port}/healthz" in server["healthcheck"]["test"][-1]
    caches = re.findall(r"_(?:CACHE_)?DIR=(\S+)|MPLCONFIGDIR=(\S+)", DOCKERFILE)
    assert len(caches) == 2
    assert server["read_only"]
    assert all("".join(cache).startswith(f"{server['tmpfs'][0]}/") for cache in caches)


def test_server_finds_orthanc():
    settings = json.loads((DEPLOY / "orthanc.json").read_text())
    studies = urlsplit(_parser().parse_args(COMPOSE["services"]["server"]["command"]).studies)
    assert studies.hostname in COMPOSE["services"]["server"]["depends_on"]
    assert studies.port == settings["HttpPort"]
    assert f"{studies.path}/" == settings["DicomWeb"]["Root"]
    orthanc, places = COMPOSE["services"][studies.hostname], targets(studies.hostname)
    assert "ports" not in orthanc  # it asks for no password: the server alone reaches it
    assert places[settings["StorageDirectory"]] in COMPOSE["volumes"]
    assert settings["IndexDirectory"] == settings["StorageDirectory"]
    (config,) = (target for target, source in places.items() if source == "./orthanc.json")
    assert f'CMD ["Orthanc", "{config}"]' in orthanc["build"]["dockerfile_inline"]


def test_image_holds_the_program_and_nothing_of_patients():
    ignored = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] not in "#"]
    copied = re.findall(r"^COPY (\S+)", DOCKERFILE, re.MULTILINE)
    assert {"bundle", "configs", "monailabel_app", "requirements.txt"} == set(copied)

    def sent(path: str) -> bool:
        verdict = True
        for pattern in ignored:
            names = [path, *map(str, PurePosixPath(path).parents)]
            if any(fnmatch.fnmatch(name, pattern.lstrip("!").removeprefix("**/")) for name in names):
                verdict = pattern.startswith("!")
        return verdict

    assert all(sent(f"{name}/x.py") or sent(name) for name in copied)
    assert not any(sent(name) for name in ("token", "data/a.nii.gz", "models/a/model.pt", "bundle/models/model.pt"))


def test_service_writes_where_it_may_and_its_options_exist():
    service = unit()
    program, *words = shlex.split(service["ExecStart"])
    assert words[:2] == ["-m", "monailabel_app"]
    options = _parser().parse_args(words[2:])
    name, file = service["LoadCredential"].split(":")
    assert options.token_file == f"${{CREDENTIALS_DIRECTORY}}/{name}"
    root = service["WorkingDirectory"]
    assert program.startswith(f"{root}/venv/bin/")
    assert options.models == [f"{root}/models"]
    state, cache = f"/var/lib/{service['StateDirectory']}/", f"/var/cache/{service['CacheDirectory']}/"
    assert options.studies.startswith(state)
    assert options.data_dir.startswith(state)
    caches = re.findall(r"(?:NUMBA_CACHE_DIR|MPLCONFIGDIR)=(\S+)", UNIT.read_text())
    assert len(caches) == 2
    assert all(place.startswith(cache) for place in caches)
    document = (ROOT / "docs" / "deploy.md").read_text()
    for place in (f"> {file}", f"cd {root}\n", options.studies, f"--home-dir {state.rstrip('/')} {service['User']}"):
        assert place in document, place


def test_what_a_restart_does_not_mend_is_not_restarted(tmp_path, capsys):
    assert main(["--studies", str(tmp_path / "missing")]) == int(unit()["RestartPreventExitStatus"])
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing (Debian: systemd)")
def test_systemd_knows_every_setting(tmp_path):
    text = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text(), flags=re.MULTILINE)
    (tmp_path / UNIT.name).write_text(text)
    asked = ["systemd-analyze", "verify", "--recursive-errors=no", str(tmp_path / UNIT.name)]
    told = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    assert UNIT.name not in told.stderr, told.stderr
    assert told.returncode == 0, told.stderr

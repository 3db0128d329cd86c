"""What looks like a secret is found by name and by content, and what only looks random is not."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import io
import json
import lzma
import random
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from orchestrator.run.submission import secret_files, tokens
from orchestrator.run.submission.secret_files import contents, named_like_a_secret

ROOT = Path(__file__).parents[4]
_SECRET = """
.env.local .envrc prod.env .git-credentials .npmrc .pypirc .boto .s3cfg id_rsa id_ed25519 deploy.pem server.key
service-account.json .config/gcloud/application_default_credentials.json .docker/config.json .cache/huggingface/token
.kaggle/kaggle.json terraform.tfstate kubeconfig .bash_history .env .ENV .env-prod .envs/.local/.django a/b/.env
id_rsa.old id_github .id_rsa.swp server.key.bak deploy.pem~ .netrc .netrc.save .aws/credentials aws_credentials
gcp-credentials.json client_secret_12.apps.googleusercontent.com.json secrets.yaml .streamlit/secrets.toml kaggle.json
prod.tfvars terraform.tfstate.backup .kube/config admin.kubeconfig kubeconfig-prod .zsh_history .python_history
.ssh/config .ssh/id_mine .gnupg/pubring.kbx .ray/auth_token hf_token.txt .dvc/config.local user.keytab wandb_api_key
cookies.txt x.ovpn .vault-token .databrickscfg .modal.toml .Renviron home/.config/gh/hosts.yml .pgpass
passwords.txt mycreds.txt aws-creds.json deploy_rsa github_ed25519 ssh_host_rsa_key id_rsa.gz server.key.tar.gz
.vscode/sftp-config.json sitemanager.xml .vault_pass .htpasswd krb5cc_1000 login.keychain-db my_password.txt
"""
_NONE = """
.env.example .env.template id_rsa.pub id_map.json id_to_label.csv src/id_utils.py tokens.txt token.json tokenizer.json
special_tokens_map.json token_type_ids.npy config.json credentials.py secrets.py keys.py test_api_key.py history.json
training_history.json environment.yml envs.py keyframes.npz .github/workflows/a.yml .gitignore .dvc/config vocab.txt
data/mosi.pkl.dvc experiment.json monkey.jpeg turkey.csv docker/config.json huggingface/tokenizer_config.json
passwords.py sacred.json test_password.py rsa.py id_map.json.gz corpus.tar.gz public_key.txt
"""


@pytest.mark.parametrize(
    "name", [*_SECRET.split(), "kaggle (1).json", "service-account (1).json", "Copy of .netrc", "server copy.key"]
)
def test_a_name_of_a_secret_is_told(name: str) -> None:
    assert named_like_a_secret(name)


@pytest.mark.parametrize("name", _NONE.split())
def test_a_name_of_something_else_is_none(name: str) -> None:
    assert not named_like_a_secret(name)


WORD = "".join(random.Random(1).choices("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789", k=100))
HEX = hashlib.sha1(b"x").hexdigest()
TOKENS = {  # put together here, so that this file has none
    "Hugging Face token": f"token = login(token='hf_{WORD[:34]}')",
    "GitHub token": f'"GITHUB_TOKEN": "ghp_{WORD[:36]}"',
    "GitHub token ": f"github_pat_{WORD[:22]}_{WORD[:59]}",
    "AWS Access Key": f"aws_access_key_id = AKIA{'Q7' * 8}",
    "key of a cloud": f"aws_secret_access_key = {WORD[:40]}",
    "key of a cloud ": f"AIza{WORD[:35]}",
    "key of an experiment tracker": f"export WANDB_API_KEY={HEX}",
    "key of an experiment tracker ": f"wandb.login(key='{HEX}')",
    "key of a language model": f"sk-proj-{WORD[:60]}",
    "key of a language model ": f"openai.api_key = 'sk-{WORD[:48]}'",
    "key of a language model  ": f"model: sk-or-v1-{HEX}{HEX[:24]}",
    "key of a language model   ": f"GROQ=gsk_{WORD[:52]}",
    "name and password": f'"auths": {{"lab.org": {{"auth": "{base64.b64encode(b"me:hunter" + b"22").decode()}"}}}}',
    "name and password ": f"machine api.lab.org login me password {WORD[:12]}",
    "name and password  ": f"curl -H 'Authorization: Bearer {WORD[:40]}' https://lab.org",
    "private key ": "client-key-data: "
    + base64.b64encode(f"-----BEGIN RSA {'PRIVATE'} KEY-----\nMII".encode()).decode(),
    "private key": f"-----BEGIN ENCRYPTED {'PRIVATE'} KEY-----",
    "Private Key": f"-----BEGIN OPENSSH {'PRIVATE'} KEY-----",
    "Private Key ": f'{{"type": "service_account", "private_key": "-----BEGIN {"PRIVATE"} KEY-----\\nMII"}}',
    "token of a messenger": f"https://api.telegram.org/bot1234567890:AA{WORD[:33]}/getMe",
    "Slack Token": f"https://hooks.slack.com/services/T{WORD[:8]}/B{WORD[:8]}/{WORD[:24]}",
    "Azure Storage Account access key": f"AccountKey={WORD[:86]}==;EndpointSuffix=core.windows.net",
    "Basic Auth Credentials": f"pip install --index-url https://me:{WORD[:16]}@pypi.lab.org/simple",
}


def first(path: Path) -> list[str]:
    return [why for _, why in contents([path])]


@pytest.mark.parametrize("kind", TOKENS)
def test_a_token_is_found_with_its_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(f"one\ntwo\n{TOKENS[kind]}\nfour\n")
    assert first(path) == [f"line 3: {kind.strip()}"]


@pytest.mark.slow
def test_a_token_is_found_in_a_notebook_in_a_long_line_and_where_pieces_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    picture = base64.b64encode(random.Random(0).randbytes(700_000)).decode()
    token = TOKENS["Hugging Face token"]
    path.write_text(json.dumps({"cells": [{"outputs": [picture]}, {"source": [token]}]}))
    assert first(path) == ["line 1: Hugging Face token"]
    path.write_text("\n" * (2**18 - 20) + token)
    assert first(path) == [f"line {2**18 - 19}: Hugging Face token"]


def test_a_line_that_says_so_passes_and_so_does_what_stands_for_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        f"{TOKENS['Hugging Face token']}  # pragma: allowlist secret\n"
        "url = 'postgres://user:password@localhost/db'\n"
        "url = f'postgres://{user}:{password}@{host}/db'\n"
        "proxy = 'http://user:$PASS@proxy:3128'\n"
        f"key = 'AKIA{'IOSFODNN7'}EXAMPLE'\n"
    )
    assert first(path) == []


@pytest.mark.slow
def test_what_a_research_folder_is_full_of_is_no_secret(tmp_path: Path) -> None:
    chance = random.Random(0)
    hashes = [hashlib.sha256(chance.randbytes(8)).hexdigest() for _ in range(2000)]
    files = {
        "a.ipynb": json.dumps({"image/png": base64.b64encode(chance.randbytes(2_000_000)).decode()}),
        "b.svg": "data:font/woff2;base64," + base64.b64encode(chance.randbytes(200_000)).decode(),
        "dvc.lock": "".join(f"  md5: {each[:32]}\n  key: {each}\n" for each in hashes),
        "results.json": json.dumps({each[:16]: {"run_id": each[16:24], "token": each[:40]} for each in hashes}),
        "requirements.txt": "".join(f"p{i}==1 --hash=sha256:{each}\n" for i, each in enumerate(hashes))
        + f"wandb @ git+https://github.com/wandb/wandb@{hashes[0][:40]}\nx @ git+ssh://git@github.com/a/b@{hashes[1][:40]}\n",
        "package-lock.json": "".join(
            f'"integrity": "sha512-{base64.b64encode(each.encode()).decode()}"\n' for each in hashes
        ),
        "log.txt": "".join(f"{1_700_000_000 + i}:{each} step {i}\n" for i, each in enumerate(hashes)),
        "signed.txt": "".join(f"x-sk-{each[:40]} task-{each[:40]} disk-{each}\n" for each in hashes),
        "tokens.json": json.dumps(
            [{"token": each[:12], "pad_token": "[PAD]", "sample_token": each[:32]} for each in hashes]
        ),
        "certificate.txt": base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMII").decode(),
        "ids.csv": "".join(f"{each[:8]}-{each[:4]}-{each[4:8]}-{each[8:12]}-{each[:12]},{each}\n" for each in hashes),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "corpus.pkl").write_bytes(chance.randbytes(2_000_000))
    assert list(contents(sorted(tmp_path.iterdir()))) == []


def test_of_what_is_large_only_the_start_is_looked_at(tmp_path: Path) -> None:
    token = TOKENS["Hugging Face token"].encode()
    path = tmp_path / "corpus.pkl"
    path.write_bytes(b"\0" + bytes(100) + token)
    assert first(path)
    path.write_bytes(bytes(2**20) + token)
    assert not first(path)


def packed_in(path: Path, files: dict[str, bytes]) -> None:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        mode: Any = f"w:{path.suffix[1:].removeprefix('tar')}"
        with tarfile.open(path, mode) as archive:
            for name, data in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.gz", "a.bz2", "a.xz"])
def test_what_is_packed_is_looked_at_by_name_and_by_what_is_in_it(tmp_path: Path, name: str) -> None:
    token = TOKENS["Hugging Face token"].encode()
    path = tmp_path / name
    packed_in(path, {"src/a.py": b"x = 1\n", "./home/.ssh/id_rsa": b"x"})
    assert first(path) == ["./home/.ssh/id_rsa in it, its name"]
    packed_in(path, {"corpus.npy": b"\0" + bytes(3 * 2**20) + token, "src/a.py": b"\n" + token})
    assert first(path) == ["src/a.py in it, line 2: Hugging Face token"]
    packed_in(path, {"src/a.py": b"x = 1\n"})
    assert first(path) == []


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_a_packed_text_is_looked_at_and_a_damaged_one_as_far_as_it_goes(tmp_path: Path, pack: Any) -> None:
    path = tmp_path / "config.yaml.gz"
    path.write_bytes(pack(b"a: 1\npassword: hunter" + b"22\n"))
    assert first(path) == ["line 2: the value of password"]
    path.write_bytes(pack(random.Random(0).randbytes(10_000))[:-100])
    assert first(path) == []


@pytest.mark.slow
def test_of_what_inflates_only_the_start_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    packed_in(tmp_path / "a.zip", {f"{number}": bytes(2**20) for number in range(100)} | {".netrc": b"x"})
    assert first(tmp_path / "a.zip") == [".netrc in it, its name"]  # names stand at the end of it
    packed_in(path.with_suffix(".gz"), {"large": bytes(80 * 2**20), ".netrc": b"x"})
    assert first(path) == []


def test_a_text_of_two_bytes_a_letter_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for encoding in ("utf-16", "utf-8-sig"):
        path.write_text(f"one\npassword: {WORD[:12]}\n", encoding=encoding)
        assert first(path) == ["line 2: the value of password"]


def test_no_detector_gets_lost_with_a_release_of_the_scanner() -> None:
    from detect_secrets.settings import get_plugins

    with secret_files._scanner():
        assert len(get_plugins()) == len(secret_files._PLUGINS) + len(tokens.OURS)

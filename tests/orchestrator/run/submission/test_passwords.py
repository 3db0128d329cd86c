"""A password, token or key that a configuration says is told, and what only mentions one is not."""

from __future__ import annotations

import pytest

from orchestrator.run.submission.passwords import first

RANDOM = "q7Rk2ZpX9vLm4TsB8nWc"  # as a program makes them

SAID = """
a.yaml: | password: SESAME | value of password
a.yaml: |   db_password: "correct.horse!" | value of db_password
a.yaml: | password: correcthorsebattery # of the lab | value of password
a.yaml: | wandb: {password: SESAME, entity: lab} | value of password
a.yaml: | - POSTGRES_PASSWORD=s3cret | value of POSTGRES_PASSWORD
a.yaml: | - "POSTGRES_PASSWORD=s3cret" | value of POSTGRES_PASSWORD
a.yml: | token: RANDOM | value of token
a.yml: | token: 3f786850e387550fdab836ed7e6dc881de23001b | value of token
a.yml: | secret: my5ecretv4lue | value of secret
a.yml: | aws.secret_access_key: RANDOM | value of aws.secret_access_key
a.yml: | clientSecret: 'RANDOM' | value of clientSecret
a.toml: | api_key = "RANDOM" | value of api_key
a.ini: | passwd = pw!of.us | value of passwd
a.properties: | spring.datasource.password=SESAME | value of spring.datasource.password
run.sh: | export COMET_API_KEY=RANDOM | value of COMET_API_KEY
run.sh: | COMET_API_KEY=RANDOM python train.py | value of COMET_API_KEY
Dockerfile: | ENV DB_PASSWORD=SESAME | value of DB_PASSWORD
notes.txt: | Password: SESAME | value of Password
notes.md: | api-key => RANDOM | value of api-key
a.xml: | <password>SESAME</password> | value of password
config.json: | {"user": "me", "password": "SESAME"} | value of password
config.json: | "client_secret": "RANDOM" | value of client_secret
a.ipynb: | "password = \\"SESAME\\"\\n", | value of password
a.py: | db_password = "SESAME" | value of db_password
a.py: | os.environ["MY_API_KEY"] = "RANDOM" | value of MY_API_KEY
a.py: | connect(token='RANDOM') | value of token
"""
NONE = """
a.yaml: | password: ${DB_PASSWORD} | password: $DB_PASSWORD1
a.yaml: | password: {{ vault_password1 }} | password: <your-password1>
a.yaml: | password: changeme123 | password: your_password1
a.yaml: | password: "********" | password: null | password: !vault abc123
a.yaml: | password: | password: "" | password: # set it1
a.yaml: | password: *shared1 | password: Enter your password1 | password: |
a.yaml: | token: ~/.ray/auth_token1 | secret: /run/secrets/db1
a.yaml: | secret: db-credentials | secret: lab/data/wandb1 | tokens: 512
a.yaml: | token: ${{ secrets.GITHUB_TOKEN1 }} | token_type: bert1
a.yaml: | token: GITHUB_TOKEN | secret: ENC[AES256_GCM,data:x1y2z3]
a.yaml: | pad_token: "[PAD]" | mask_token: <mask> | image_token: <image_1>
a.yaml: | num_token: 4096 | unk_token: unk | key: value12345
a.yaml: | cache_key: 3f786850e387550fdab836ed7e6dc881de23001b
a.yaml: | password_file: secret123.txt | api_key_env: OPENAI_API_KEY1
a.yaml: | token: https://lab.org/token1 | secret: arn:aws:secretsmanager:eu:123456:secret:x1 | secretName: tls1234567
results.json: | {"sample_token": "3f786850e387550fdab836ed7e6dc881"} | {"token": "the"}
results.json: | {"token": "##ing2"} | "password": "string"
text.csv: | my password: SESAME | token: RANDOM
a.py: | password = getpass() | token = args.token1
a.py: | secret: str | token: str = "" | api_key = os.environ["MY_API_KEY1"]
a.py: | password = config.password1 | token = "special_token"
a.py: | password = "test1" | password = f"{user}1234" | TOKEN = "0123456789abcdef"
a.py: | help="the password: SESAME of old" | token = tokens[0]12345678
run.sh: | TOKEN=$(cat token1) | PASSWORD="$1" | TOKEN=${1:-abc12345678} | --token 4 | TOKENS=12
"""


def cases(table: str) -> list[tuple[str, str]]:
    rows = (line.split(": | ", 1) for line in table.strip().splitlines())
    return [(path, said.replace("RANDOM", RANDOM).replace("SESAME", "hunter" + "22")) for path, said in rows]


@pytest.mark.parametrize(("path", "row"), cases(SAID))
def test_what_a_file_says_is_told_by_its_name(path: str, row: str) -> None:
    line, _, told = row.rpartition(" | ")
    assert first(f"one\n{line}\nthree\n", path) == (2, f"the {told}")
    assert first(f"one\r\n{line}\r\n", path) == (2, f"the {told}")


@pytest.mark.parametrize(("path", "row"), cases(NONE))
def test_references_placeholders_and_code_are_none(path: str, row: str) -> None:
    assert {line: found for line in row.split(" | ") if (found := first(f"{line}\nx: 1\n", path))} == {}


def test_a_comment_lets_a_line_pass_and_not_the_next_one() -> None:
    allowed = f"password: {RANDOM}  # pragma: allowlist secret\n"
    assert first(allowed, "a.yaml") is None
    assert first(allowed + f"password: {RANDOM}\n", "a.yaml") == (2, "the value of password")


def test_a_manifest_of_a_secret_is_told_whatever_its_names_are_and_a_template_is_not() -> None:
    other, secret = "kind: ConfigMap\ndata:\n  mode: x\n---\n", "apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n"
    assert first(f"{other}{secret}stringData:\n  anything: letters\n", "a.yaml") == (9, "the value of stringData")
    assert first(f"{other}{secret}data:\n  anything: {{{{ .Values.x }}}}\n", "a.yaml") is None
    assert first(f"{other}{secret}", "a.yaml") is None

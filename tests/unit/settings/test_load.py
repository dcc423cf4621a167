"""Configurations: right ones, and every way to be wrong, told at once."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from penstock.cli.config import config
from penstock.model.errors import SettingsError
from penstock.settings import Settings, embedded, load
from penstock.settings.reference import reference, undocumented
from penstock.settings.show import MASK, show

FULL = """
[server]
state_dir = "/srv/penstock"
agent_url = "https://gateway.example.org"
log_format = "json"
history = "2 weeks"

[[listen]]
address = "127.0.0.1:8000"

[[listen]]
address = "[::1]:8001"
default_profile = "gpu"
scheduler_address = ":8786"

[door]
pending_timeout = "1 min"

[auth]
type = "basic"
password = "geheim"
admins = ["anna"]
strip_domain = true
unix_names = { "bob@x" = "bert" }

[users]
run_as = "{user}"

[profiles.default.workers.cpu]
cores = 2
max_cores = 8
memory = "4GiB"
max_memory = "16 GB"
env = { API_KEY = "sesam", LANG = "C" }

[profiles.gpu]
description = "One GPU each"
built_in_options = ["env"]

[profiles.gpu.scheduler]
backend = "here"

[profiles.gpu.workers.gpu]
backend = "here"
gpus = 1

[profiles.gpu.workers.cpu]

[profiles.gpu.limits]
max_lifetime = "12h"
idle_timeout = 1800
cluster_max_workers = 10
networks = ["10.0.0.0/8"]

[profiles.gpu.allow]
groups = ["gpu"]

[profiles.gpu.environment]
keep = ["HF_API_TOKEN"]

[profiles.gpu.options.queue]
type = "select"
label = "Queue"
choices = { short = 1, long = 2 }
target = "group.gpu.extras.queue"

[backends.local]
type = "local"

[backends.here]
type = "local"
period = 0.5
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "penstock.toml"
    path.write_text(text)
    return path


def mistakes(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    """The mistakes of a configuration, without the headline."""
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, text), environ or {})
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_a_full_configuration(tmp_path: Path) -> None:
    settings = load(write(tmp_path, FULL), {})
    assert settings.agent_urls == ("https://gateway.example.org",)
    assert settings.server.history == 14 * 86400
    assert settings.listen[1].endpoint == ("::1", 8001)
    assert settings.listen[1].scheduler_endpoint == ("0.0.0.0", 8786)
    assert settings.listen[1].url == "http://[::1]:8001"
    assert settings.database_url == "sqlite:////srv/penstock/penstock.db"
    assert settings.unix_user("anna@example.org") == "anna"
    assert settings.unix_user("bob@x") == "bert"
    cpu = settings.profiles["default"].workers["cpu"]
    assert (cpu.memory, cpu.max_memory) == (4 * 2**30, 16 * 10**9)
    limits = settings.profiles["gpu"].limits.limits()
    assert (limits.max_lifetime, limits.idle_timeout, limits.max_workers) == (43200, 1800, 10)
    assert list(settings.profiles["gpu"].workers) == ["gpu", "cpu"]


def test_nothing_at_all_serves_one_user(tmp_path: Path) -> None:
    for settings in (load(None, {}), load(write(tmp_path, ""), {}), embedded(tmp_path)):
        assert settings.auth.type == "single"
        assert list(settings.profiles) == ["default"]
        assert settings.listen[0].endpoint[0] == "127.0.0.1"
        assert settings.agent_urls == ("http://127.0.0.1:8000",)
    assert settings.server.state_dir == tmp_path


def test_settings_do_not_change() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings().server.log_level = "debug"  # type: ignore[misc]


def test_run_as(tmp_path: Path) -> None:
    assert load(None, {"PENSTOCK_USERS__RUN_AS": "svc"}).unix_user("anna") == "svc"
    assert load(None, {"PENSTOCK_USERS__RUN_AS": "{user}"}).unix_user("anna") == "anna"


def test_who_is_not_root_runs_jobs_as_users_only_where_a_backend_acts_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 4294967)
    users = "[auth]\ntype='basic'\npassword='x'\n[backends.local]\ntype='local'\n"
    assert load(write(tmp_path, users + REST), {}).unix_user("anna") == "anna"
    assert load(write(tmp_path, users), {}).unix_user("anna") == "4294967"


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    environ = {
        "PENSTOCK_SERVER__LOG_LEVEL": "debug",
        "PENSTOCK_DOOR__PENDING": "7",
        "PENSTOCK_AUTH__PASSWORD": "12345",
        "PENSTOCK_AUTH__ADMINS": '["zoë"]',
        "PENSTOCK_PROFILES__GPU__LIMITS__IDLE_TIMEOUT": "5 min",
        "PENSTOCK_LISTEN": "127.0.0.1:1, :2",
        "PENSTOCK_AUTH__STRIP_DOMAIN": "false",
        "PENSTOCK_TAG": "of a job, not a setting",
        "OTHER__THING": "x",
    }
    settings = load(write(tmp_path, FULL), environ)
    assert settings.server.log_level == "debug"
    assert settings.door.pending == 7
    assert settings.auth.shared_password() == "12345"  # type: ignore[union-attr]
    assert settings.auth.admins == ("zoë",)
    assert not settings.auth.strip_domain
    assert settings.profiles["gpu"].limits.idle_timeout == 300
    assert [listen.address for listen in settings.listen] == ["127.0.0.1:1", ":2"]


def test_many_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = """
        [serverr]
        [server]
        log_level = "loud"
        statedir = "/x"
        history = "soon"
        [[listen]]
        address = "nonsense"
        default_profile = "gppu"
        [[listen]]
        tls_cert = "/x"
        [auth]
        type = "basic"
        pasword = "geheim"
        [profiles.gpu.scheduler]
        backend = "slrm"
        cores = -1
        [profiles.gpu.workers.default]
        max_core = 3
        cores = 8
        max_cores = 4
        memory = "lots"
        [profiles.gpu.options.queue]
        type = "select"
        choices = []
        [profiles.gpu.options.n]
        type = "integer"
        default = 7
        max = 5
        [profiles.gpu.options.s]
        type = "strng"
        [profiles.gpu.options.env]
        type = "string"
        [profiles.gpu.options.t]
        type = "string"
        target = "shell"
        [profiles.gpu.options.u]
        type = "string"
        target = "group.defautl.extras.u"
        [profiles.gpu.limits]
        networks = ["10.0.0.0/99"]
        [backends.slurm]
        type = "slurm"
        partition = "cms"
        [backends.slurm.jobs]
        arguments = ["--nice=5", "--arr=0-9"]
        [backends.pbs]
        type = "pbs"
        """
    found = mistakes(tmp_path, text, {"PENSTOCK_DOOR__PENDING": "-3", "PENSTOCK_DOR__X": "1"})
    expected = [
        "auth.pasword: unknown key; did you mean 'password'?",
        "auth: set exactly one of password",
        "backends.pbs.type: must be one of 'local', 'slurm', 'htcondor', ",
        "backends.slurm.jobs.arguments[1]: --array is set by the gateway",
        "backends.slurm.partition: unknown key",
        "door.pending (from PENSTOCK_DOOR__PENDING): must be greater than 0, not '-3'",
        "dor (from PENSTOCK_DOR__X): unknown key; did you mean 'door'?",
        'listen[0].address: must be "host:port"',
        "listen[0].default_profile: there is no profile 'gppu'; did you mean 'gpu'?",
        "listen[1]: tls_cert and tls_key must be set together",
        "profiles.gpu.limits.networks: '10.0.0.0/99' does not appear to be",
        "profiles.gpu.options.env: is a built-in option",
        "profiles.gpu.options.n.default: n must be a whole number of at most 5, not 7",
        "profiles.gpu.options.queue.choices: must not be empty",
        "profiles.gpu.options.s.type: must be one of 'string', 'integer'",
        "profiles.gpu.options.t: 'shell' is not a target; use one of env.<NAME>",
        "profiles.gpu.options.u.target: there is no worker group 'defautl'; did you mean 'default'",
        "profiles.gpu.scheduler.backend: there is no backend 'slrm'; did you mean 'slurm'?",
        "profiles.gpu.scheduler.cores: must be greater than 0, not -1",
        "profiles.gpu.workers.default.max_core: unknown key; did you mean 'max_cores'?",
        "profiles.gpu.workers.default.memory: must be an amount of memory like",
        "profiles.gpu.workers.default: cores (8) must lie between 1 and 4",
        "server.history: must be a duration",
        "server.log_level: must be 'debug', 'info', 'warning' or 'error', not 'loud'",
        "server.statedir: unknown key; did you mean 'state_dir'?",
        "serverr: unknown key; did you mean 'server'?",
    ]
    for start in expected:
        assert [line for line in found if line.startswith(start)], (start, found)
    assert len(found) == len(expected), found
    assert "geheim" not in "".join(found)


REST = """
[backends.s]
type = "slurm"
act_by = "slurmrestd"
rest = { url = "unix:/run/s", token_file = "/etc/token" }
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server\n", "is not valid TOML: "),
        ("[server]\nlog_level = loud\n", "line 2"),
        ("server = 3\n", "server: must be a table"),
        ("listen = 3\n", "listen: must be an array"),
        ("listen = []\n", "listen: must not be empty"),
        ("listen = ['x']\n", 'listen[0].address: must be "host:port"'),
        ("listen = [3]\n", "listen[0]: must be a table"),
        ("profiles = {}\n", "profiles: must not be empty"),
        (
            "[profiles.a.workers.w]\nextras.lifetime='soon'\n",
            "profiles.a.workers.w.extras.lifetime: must be a duration",
        ),
        ("[auth]\npassword = 'x'\n", "auth.type: is required"),
        (
            REST + "[profiles.a.workers.w]\nbackend='s'\nextras.arguments=['--exclusive']\n",
            "profiles.a.workers.w.extras: '--exclusive' cannot be said to slurmrestd",
        ),
        (REST + "[backends.s.jobs]\nworkers_per_job=4\n", "backends.s: workers_per_job cannot be"),
        (
            "[auth]\ntype = 'ldap'\n",
            "auth.type: must be one of 'single', 'basic', 'custom', not 'ldap'",
        ),
        ("[auth]\ntype = 'basic'\npassword = ''\n", "auth: the password is empty"),
        ("[auth]\ntype = 'basic'\npassword_file = '/no/such'\n", "/no/such cannot be read"),
        ("[auth]\ntype = 'basic'\nusers_file = '/no/such'\n", "/no/such cannot be read"),
        ("[auth]\ntype = 'basic'\nusers_file = 'users'\n", "must be an absolute path"),
        ("[auth]\ntype = 'custom'\nclass = 'no class'\n", "auth.class: is not of the right form"),
        ("[[listen]]\naddress = ':1'\n[[listen]]\naddress = ':1'\n", "listen[1].address: the same"),
        ("[profiles.'a b']\n", "profiles.a b: 'a b' cannot be a name"),
        ("[profiles.a.scheduler.env]\n'A=B' = 'x'\n", "profiles.a.scheduler.env: 'A=B' cannot be"),
        ("[profiles.a.options.'x y']\ntype = 'bool'\n", "must be a Python identifier"),
        ("[profiles.a.options.x]\ntype = 'string'\npattern = '('\n", "not a regular expression"),
        (
            "[profiles.a.options.x]\ntype='string'\ndefault='Q'\npattern='[a-z]'\n",
            "text that matches",
        ),
        (
            "[dashboards]\nframe_ancestors = ['a', 1]\n",
            "frame_ancestors[1]: must be a valid string",
        ),
        ("[server]\nagent_url = 'gateway:80'\n", "server.agent_url[0]: is not of the right form"),
        ("[profiles.a.limits]\nidle_timeout = 0\n", "must be longer than 0"),
        ("[profiles.a.workers.w]\nmemory = 4\n", "was a unit forgotten"),
        ("[profiles.a.workers.w]\nmin_memory = '8 GiB'\n", "memory (2 GiB) must lie between 8 GiB"),
        (
            "[profiles.a.options.x]\ntype='string'\ndefault='soon'\ntarget='limits.idle_timeout'\n",
            "profiles.a.options: x cannot set idle_timeout: must be a duration",
        ),
        (
            "[profiles.a.options.x]\ntype='integer'\ntarget='workers.cores'\n",
            "profiles.a.options: x cannot set cores: must be a number greater than 0, not 0",
        ),
    ],
)
def test_one_mistake(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(write(tmp_path, text), {})
    assert words in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"\x00" * 10, b"[[[[", b"a = 1\n" * 5000])
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"p\.toml is not"):
        load(path, {})
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read: No such file"):
        load(tmp_path / "none.toml", {})


def test_shown_configuration_reads_back_without_its_secrets(tmp_path: Path) -> None:
    settings = load(write(tmp_path, FULL), {})
    text = show(settings)
    assert "geheim" not in text
    assert "sesam" not in text
    again = load(write(tmp_path, text.replace(f'password = "{MASK}"', 'password = "geheim"')), {})
    assert again.model_dump(exclude={"profiles"}) == settings.model_dump(exclude={"profiles"})
    assert again.profiles["gpu"] == settings.profiles["gpu"]
    assert again.profiles["default"].workers["cpu"].env == {"API_KEY": MASK, "LANG": "C"}


def test_arguments_of_a_custom_authenticator_are_never_shown(tmp_path: Path) -> None:
    text = "[auth]\ntype = 'custom'\nclass = 'a.b:C'\nkwargs = { url = 'x', key = 'sesam' }\n"
    shown = show(load(write(tmp_path, text), {}))
    assert "sesam" not in shown
    assert 'class = "a.b:C"' in shown


def test_every_setting_is_documented() -> None:
    assert undocumented() == []
    page = Path(__file__).parents[3] / "docs" / "admin" / "settings.md"
    assert page.read_text() == reference(), "run: python -m penstock.settings.reference > " + str(
        page
    )


def test_command_check(tmp_path: Path) -> None:
    run = CliRunner().invoke(config, ["check", "--config", str(write(tmp_path, FULL))])
    assert (run.exit_code, run.output.endswith("is right. Profiles: default, gpu.\n")) == (0, True)
    run = CliRunner().invoke(config, ["check", "--config", str(write(tmp_path, "[a]\n[b]\n"))])
    assert run.exit_code == 1
    assert "has 2 mistakes:\n  a: unknown key" in run.output


def test_command_show(tmp_path: Path) -> None:
    path = write(tmp_path, FULL)
    path.chmod(stat.S_IRUSR)
    run = CliRunner().invoke(
        config, ["show", "--config", str(path)], env={"PENSTOCK_DOOR__PENDING": "9"}
    )
    assert run.exit_code == 0
    assert "pending = 9\n" in run.output
    assert "geheim" not in run.output
    run = CliRunner().invoke(config, ["show"])
    assert 'description = "This machine"' in run.output


def test_a_gateway_for_oneself_bounds_its_clusters(tmp_path):
    most = embedded(tmp_path).profiles["default"].limits.cluster_max_workers
    assert most is not None
    assert most >= 16


def test_a_scheduler_is_no_notebooks_job(tmp_path: Path) -> None:
    path = tmp_path / "penstock.toml"
    path.write_text(
        '[backends.n]\ntype = "notebook"\n[profiles.x.scheduler]\nbackend = "n"\n'
        '[profiles.x.workers.w]\nbackend = "n"\n'
    )
    with pytest.raises(SettingsError) as caught:
        load(path, {})
    assert "profiles.x.scheduler.backend: a scheduler cannot be a notebook's job" in str(
        caught.value
    )

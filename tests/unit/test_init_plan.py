"""What `otelbridge init` decides: secrets of the right alphabets, what is kept, what is refused."""

from __future__ import annotations

import base64
import re
import uuid
from pathlib import Path

import pytest
import yaml

from otelbridge import cli, envfile
from otelbridge.errors import ConfigError, OtelbridgeError
from otelbridge.installation import entries, plan, rotation, snippets
from otelbridge.installation.entries import BY_NAME, VARIABLES

ROOT = Path(__file__).parents[2]
LOCAL = plan.local({})
CLOUD = plan.Choice(
    "existing", "https://cloud.langfuse.com", "https://cloud.langfuse.com", "pk-lf-1", "sk-lf-2",
    "p-17",
)  # fmt: skip
ALPHABETS = {
    "LANGFUSE_INIT_USER_PASSWORD": r"(?=.*[a-zA-Z])(?=.*[0-9])(?=.*-)[A-Za-z0-9-]{32}",
    "NEXTAUTH_SECRET": "[0-9a-f]{64}",
    "SALT": "[0-9a-f]{64}",
    "ENCRYPTION_KEY": "[0-9a-f]{64}",
    "POSTGRES_PASSWORD": "[0-9a-f]{48}",
    "CLICKHOUSE_PASSWORD": "[0-9a-f]{48}",
    "REDIS_AUTH": "[0-9a-f]{48}",
    "OBJECT_STORE_ACCESS_KEY": "[A-Z0-9]{20}",
    "OBJECT_STORE_SECRET_KEY": "[0-9a-f]{48}",
    "GRAFANA_ADMIN_PASSWORD": "[A-Za-z0-9]{32}",
    "LITELLM_MASTER_KEY": "sk-[0-9a-f]{48}",
    "LITELLM_SALT_KEY": "sk-[0-9a-f]{48}",
}


@pytest.fixture
def complete() -> dict[str, str]:
    return plan.make_plan({}, LOCAL).changes


def what(problems: tuple[plan.Problem, ...]) -> list[str]:
    return [problem.variable for problem in problems]


def test_every_secret_has_its_alphabet(complete: dict[str, str]):
    """What goes into addresses is hexadecimal, keys look like those of Langfuse, none is short."""
    for name, pattern in ALPHABETS.items():
        assert re.fullmatch(pattern, complete[name]), name
    for name, prefix in (("LANGFUSE_PUBLIC_KEY", "pk-lf-"), ("LANGFUSE_SECRET_KEY", "sk-lf-")):
        assert complete[name].startswith(prefix)
        assert uuid.UUID(complete[name].removeprefix(prefix)).version == 4
    made = {variable.name for variable in VARIABLES if variable.make is not None}
    assert made == {*ALPHABETS, "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"}


def test_two_plans_share_no_secret(complete: dict[str, str]):
    """Nothing secret is a constant."""
    other = plan.make_plan({}, LOCAL).changes
    same = {name for name in complete if complete[name] == other[name]}
    assert not any(BY_NAME[name].secret for name in same)
    assert len({value for name, value in complete.items() if BY_NAME[name].secret}) == 15


def test_no_value_needs_quotes_anywhere(complete: dict[str, str]):
    """Compose, shells and addresses take every generated value as it stands."""
    for name, value in complete.items():
        assert envfile.quoted(name, value) == value
        assert not entries.weakness(BY_NAME[name], value)


def test_the_header_is_that_of_the_keys(complete: dict[str, str]):
    """`Authorization: Basic` plus this value is what Langfuse takes."""
    plain = base64.b64decode(complete["LANGFUSE_BASIC_AUTH"]).decode()
    assert plain == f"{complete['LANGFUSE_PUBLIC_KEY']}:{complete['LANGFUSE_SECRET_KEY']}"


def test_a_local_langfuse_is_started_and_linked(complete: dict[str, str]):
    """The profile is on, project ids agree, links use the browser's address."""
    assert complete["COMPOSE_PROFILES"] == "langfuse"
    assert complete["LANGFUSE_HOST"] == "http://langfuse-web:3000"
    assert complete["LANGFUSE_PUBLIC_URL"] == "http://localhost:3000"
    assert complete["LANGFUSE_INIT_PROJECT_ID"] == complete["LANGFUSE_PROJECT_ID"]


def test_another_port_of_the_stack_is_the_one_in_links():
    """A file that moves a port gets links to that port."""
    held = {"OTELBRIDGE_COMPOSE_LANGFUSE_PORT": "3300", "OTELBRIDGE_COMPOSE_GRAFANA_PORT": "3301"}
    changes = plan.make_plan(held, plan.local(held)).changes
    assert changes["LANGFUSE_PUBLIC_URL"] == "http://localhost:3300"
    assert changes["OTELBRIDGE_GRAFANA_URL"] == "http://localhost:3301"


def test_an_existing_langfuse_starts_no_local_one():
    """No profile, nothing to make at a first start, and still every secret compose asks for."""
    changes = plan.make_plan({}, CLOUD).changes
    assert "COMPOSE_PROFILES" not in changes
    assert not [name for name in changes if name.startswith("LANGFUSE_INIT_")]
    assert changes["LANGFUSE_PROJECT_ID"] == "p-17"
    compose = ROOT / "docker-compose.yml"
    asked = set(re.findall(r"\$\{(\w+):\?", compose.read_text(encoding="utf-8")))
    assert asked
    assert asked <= set(changes)


def test_the_example_file_has_the_same_names():
    """`.env.example` is the list of what `init` writes, with nothing filled in."""
    example = envfile.parse((ROOT / ".env.example").read_text(encoding="utf-8")).values
    written = {*plan.make_plan({}, plan.local({})).changes}
    assert set(example) - {"OTELBRIDGE_COMPOSE_LOGS"} == written
    assert not any(example.values())


def test_further_profiles_are_added():
    """`--with gateway,logs` starts those too; logs need their switch."""
    changes = plan.make_plan({}, plan.local({}, profiles=("gateway", "logs"))).changes
    assert changes["COMPOSE_PROFILES"] == "langfuse,gateway,logs"
    assert changes["OTELBRIDGE_COMPOSE_LOGS"] == "otlp"


def test_a_complete_file_needs_nothing(complete: dict[str, str]):
    """The second plan is empty."""
    again = plan.make_plan(complete, LOCAL)
    assert (again.changes, again.problems) == ({}, ())


def test_half_a_file_is_completed_around_what_is_there(complete: dict[str, str]):
    """Each single value may be the one that is there; it is kept, the rest is made."""
    for name, value in complete.items():
        made = plan.make_plan({name: value}, LOCAL)
        assert name not in made.changes
        if name != "LANGFUSE_BASIC_AUTH":  # that one fits no other keys
            assert made.problems == ()
            assert {name, *made.changes} == set(complete)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SALT", "mysalt"),
        ("NEXTAUTH_SECRET", "mysecret"),
        ("ENCRYPTION_KEY", "0" * 64),
        ("ENCRYPTION_KEY", "ab" * 31),
        ("ENCRYPTION_KEY", "g1" * 32),
        ("OBJECT_STORE_SECRET_KEY", "miniosecret"),
        ("REDIS_AUTH", "myredissecret"),
        ("CLICKHOUSE_PASSWORD", "clickhouse"),
        ("POSTGRES_PASSWORD", "postgres"),
        ("POSTGRES_PASSWORD", "p@ss:w/rd-p@ss"),
        ("GRAFANA_ADMIN_PASSWORD", "admin"),
        ("LITELLM_MASTER_KEY", "sk-1234"),
        ("LITELLM_SALT_KEY", "<your salt>"),
        ("SALT", "# never change it after the first start"),
        ("LANGFUSE_PUBLIC_URL", "localhost:3000"),
    ],
)
def test_known_defaults_and_unusable_values_are_refused(
    complete: dict[str, str], name: str, value: str
):
    """Named with a remedy and without the value."""
    (problem,) = plan.make_plan({**complete, name: value}, LOCAL).problems
    assert problem.variable == name
    assert problem.fix
    if BY_NAME[name].secret:
        assert value not in problem.what


def test_keys_in_each_others_place_are_seen(complete: dict[str, str]):
    """A common slip with two fields that look alike."""
    held = {**complete, "LANGFUSE_PUBLIC_KEY": "sk-lf-1", "LANGFUSE_SECRET_KEY": "pk-lf-2"}
    del held["LANGFUSE_BASIC_AUTH"]
    (problem,) = plan.make_plan(held, LOCAL).problems
    assert "each other's place" in problem.what


def test_a_header_of_other_keys_is_refused(complete: dict[str, str]):
    """Keys that were changed by hand leave it behind."""
    held = {**complete, "LANGFUSE_SECRET_KEY": "sk-lf-new"}
    assert what(plan.make_plan(held, LOCAL).problems) == ["LANGFUSE_BASIC_AUTH"]


def test_another_project_or_host_than_the_one_given_is_refused():
    """`init` never replaces a value, and says so instead of writing half of both."""
    held = plan.make_plan({}, CLOUD).changes
    problems = plan.make_plan({**held, "LANGFUSE_PROJECT_ID": "p-18"}, CLOUD).problems
    assert what(problems) == ["LANGFUSE_PROJECT_ID"]
    problems = plan.make_plan({**held, "LANGFUSE_HOST": "https://us.cloud.langfuse.com"}, CLOUD)
    assert what(problems.problems) == ["LANGFUSE_HOST"]


def test_an_unknown_project_is_a_note():
    """Offline, the rest works and links do not."""
    offline = plan.Choice("existing", "https://l.test", "https://l.test", "pk-lf-1", "sk-lf-1")
    made = plan.make_plan({}, offline)
    assert "LANGFUSE_PROJECT_ID" not in made.changes
    assert any("LANGFUSE_PROJECT_ID is not known" in note for note in made.notes)


@pytest.mark.parametrize(
    ("url", "inside"),
    [
        ("http://localhost:3000", "http://host.docker.internal:3000"),
        ("http://127.0.0.1", "http://host.docker.internal"),
        ("http://[::1]:3000/base", "http://host.docker.internal:3000/base"),
        ("https://langfuse.example.com", "https://langfuse.example.com"),
    ],
)
def test_a_langfuse_on_this_machine_has_another_name_in_a_container(url: str, inside: str):
    """Loopback in a container is the container."""
    assert plan.container_url(url) == inside
    assert plan.url_from_here({"LANGFUSE_HOST": inside, "LANGFUSE_PUBLIC_URL": url}) == url


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://user:pw@host", "http://a b"])
def test_an_unusable_address_is_refused_without_its_password(url: str):
    """The error names the variable and what is allowed."""
    with pytest.raises(ConfigError, match="LANGFUSE_HOST") as caught:
        plan.normal_url("LANGFUSE_HOST", url)
    assert "pw" not in str(caught.value)


def test_the_path_of_the_otlp_intake_is_no_part_of_the_address():
    """People paste the endpoint."""
    given = "https://cloud.langfuse.com/api/public/otel/v1/traces"
    assert plan.normal_url("LANGFUSE_HOST", given) == "https://cloud.langfuse.com"


# -- rotation --------------------------------------------------------------------------------------
FREE = ("NEXTAUTH_SECRET", "CLICKHOUSE_PASSWORD", "REDIS_AUTH", "OBJECT_STORE_ACCESS_KEY",
        "OBJECT_STORE_SECRET_KEY", "LITELLM_MASTER_KEY")  # fmt: skip
FIXED = ("SALT", "ENCRYPTION_KEY", "LITELLM_SALT_KEY", "POSTGRES_PASSWORD",
         "LANGFUSE_INIT_USER_PASSWORD", "GRAFANA_ADMIN_PASSWORD")  # fmt: skip


@pytest.mark.parametrize("name", FREE)
def test_what_no_store_remembers_is_made_anew(complete: dict[str, str], name: str):
    """Only that value changes."""
    made = rotation.make_rotation(complete, [name], LOCAL, ("otelbridge_postgres",), force=False)
    assert list(made.changes) == [name]
    assert made.changes[name] != complete[name]


@pytest.mark.parametrize("name", FIXED)
def test_what_stored_data_depends_on_is_refused_with_the_reason(
    complete: dict[str, str], name: str
):
    """With `force` it goes, unless the data is there to be seen."""
    refused = rotation.make_rotation(complete, [name], LOCAL, (), force=False)
    assert what(refused.problems) == [name]
    assert refused.changes == {}
    assert "--force" in refused.problems[0].fix
    assert list(rotation.make_rotation(complete, [name], LOCAL, (), force=True).changes) == [name]
    volume = f"otelbridge_{BY_NAME[name].volume}"
    stored = rotation.make_rotation(complete, [name], LOCAL, (volume,), force=True)
    assert stored.changes == {}
    assert volume in stored.problems[0].what


def test_every_secret_is_free_fixed_or_one_of_the_pair():
    """A new variable has to be put into one of them."""
    secret = {variable.name for variable in VARIABLES if variable.secret}
    assert secret == {*FREE, *FIXED, "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY",
                      "LANGFUSE_BASIC_AUTH"}  # fmt: skip


@pytest.mark.parametrize("name", ["LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"])
def test_the_keys_change_together_with_their_header(complete: dict[str, str], name: str):
    """Langfuse does not change the secret of a public key that it knows."""
    made = rotation.make_rotation(complete, [name], LOCAL, ("otelbridge_postgres",), force=False)
    assert sorted(made.changes) == [
        "LANGFUSE_BASIC_AUTH", "LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY",
    ]  # fmt: skip
    assert plan.make_plan({**complete, **made.changes}, LOCAL).problems == ()


def test_keys_of_an_existing_langfuse_are_not_invented():
    """The refusal says where a new pair comes from; a given pair is taken."""
    held = plan.make_plan({}, CLOUD).changes
    nothing = plan.Choice("existing", CLOUD.host, CLOUD.public_url)
    refused = rotation.make_rotation(held, ["LANGFUSE_SECRET_KEY"], nothing, (), force=True)
    assert "project's settings" in refused.problems[0].fix
    new = plan.Choice("existing", CLOUD.host, CLOUD.public_url, "pk-lf-3", "sk-lf-3")
    made = rotation.make_rotation(held, ["LANGFUSE_SECRET_KEY"], new, (), force=False)
    assert made.changes["LANGFUSE_SECRET_KEY"] == "sk-lf-3"
    again = rotation.make_rotation(held, ["LANGFUSE_SECRET_KEY"], CLOUD, (), force=False)
    assert "not a new one" in again.problems[0].what


@pytest.mark.parametrize("name", ["LANGFUSE_HOST", "NO_SUCH_NAME", "", "salt"])
def test_only_secrets_can_be_rotated(name: str):
    """Others are named with the list of those that can."""
    with pytest.raises(OtelbridgeError, match="Secrets: LANGFUSE_PUBLIC_KEY"):
        rotation.check_names([name])


def test_new_secrets_for_old_volumes_are_refused():
    """A lost .env beside a volume that was made with it."""
    changes = plan.make_plan({}, LOCAL).changes
    problems = rotation.volume_problems(changes, ("otelbridge_postgres", "otelbridge_tempo"))
    (problem,) = problems
    assert "otelbridge_postgres" in problem.what
    assert "POSTGRES_PASSWORD" in problem.what
    assert rotation.volume_problems({"REDIS_AUTH": "x"}, ("otelbridge_redis",)) == []


# -- what services get -----------------------------------------------------------------------------
@pytest.mark.parametrize("form", snippets.FORMS)
def test_a_service_gets_no_secret_unless_asked(complete: dict[str, str], form: snippets.Form):
    """In `collector` mode the Collector holds the keys."""
    variables = snippets.service_variables(complete, form, service="checkout")
    shown = snippets.render(variables, complete, form, keys=False)
    for name, value in complete.items():
        if BY_NAME[name].secret:
            assert value not in shown, name
    assert "checkout" in shown
    assert complete["LANGFUSE_PROJECT_ID"] in shown


def test_the_dotenv_form_reads_back(complete: dict[str, str]):
    """Also a name with spaces."""
    variables = snippets.service_variables(
        complete, "dotenv", service="check out #1", keys=True, direct=True
    )
    text = snippets.render(variables, complete, "dotenv", keys=True)
    assert envfile.parse(text).values == variables
    assert variables["OTELBRIDGE_EXPORT"] == "direct"
    assert variables["LANGFUSE_HOST"] == "http://localhost:3000"


def test_the_compose_form_refers_to_the_keys(complete: dict[str, str]):
    """They stay in .env, and a container has the container's address of Langfuse."""
    variables = snippets.service_variables(complete, "compose", service="checkout", keys=True)
    text = snippets.render(variables, complete, "compose", keys=True)
    assert complete["LANGFUSE_SECRET_KEY"] not in text
    environment = yaml.safe_load(text)["services"]["checkout"]["environment"]
    assert environment["LANGFUSE_SECRET_KEY"] == "${LANGFUSE_SECRET_KEY:?run: otelbridge init}"
    assert environment["LANGFUSE_HOST"] == complete["LANGFUSE_HOST"]
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    endpoint = environment["OTEL_EXPORTER_OTLP_ENDPOINT"]
    assert re.fullmatch(r"http://([a-z-]+):4318", endpoint)[1] in services  # type: ignore[index]


def test_the_kubernetes_form_has_the_secret_of_the_collector(complete: dict[str, str]):
    """A ConfigMap for the service; the Secret with what the Collector reads."""
    variables = snippets.service_variables(complete, "kubernetes", service="checkout", keys=True)
    text = snippets.render(variables, complete, "kubernetes", keys=True)
    config, secret = yaml.safe_load_all(text)
    assert config["kind"] == "ConfigMap"
    assert not {"LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY"} & set(config["data"])
    assert secret["kind"] == "Secret"
    assert secret["stringData"]["LANGFUSE_SECRET_KEY"] == complete["LANGFUSE_SECRET_KEY"]
    collector = {
        row["name"]
        for file in (ROOT / "collector/variables").glob("*.yaml")
        for row in yaml.safe_load(file.read_text(encoding="utf-8"))
    }
    assert set(secret["stringData"]) <= collector
    assert snippets.notes(complete, "kubernetes")


# -- the page --------------------------------------------------------------------------------------
PAGE = (ROOT / "docs/init.md").read_text(encoding="utf-8")


def test_the_page_lists_every_variable_with_what_rotation_does():
    """docs/init.md has each name of the table, in its order."""
    table = PAGE.partition("<!-- variables -->")[2]
    rows = re.findall(r"^\| `([A-Z_]+)` \| [^|]+ \| ([^|]+) \|$", table, re.MULTILINE)
    assert [name for name, _ in rows] == [variable.name for variable in VARIABLES]
    words = {
        "free": "yes", "pair": "both keys together", "first": "refused: read at the first start",
        "never": "refused: never changes", "derived": "follows", "setting": "edit the file",
    }  # fmt: skip
    for name, rotation_words in rows:
        assert rotation_words.startswith(words[BY_NAME[name].change]), name


def test_the_commands_of_the_page_exist():
    """Every flag that the page names is one of `otelbridge init`."""
    parser = cli.build_parser(["init"])
    choices = parser._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    known = set(choices["init"]._option_string_actions)
    flags = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", PAGE))
    assert flags <= known
    assert {"--rotate", "--print-env", "--offline"} <= flags

"""Rules from the environment: files of three kinds, text, a switch; mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from otelbridge.errors import ConfigError
from otelbridge.masking.rules import Masking, Pattern, load
from otelbridge.settings import Settings

YAML = """
detectors: {email: hash, ip: mask, phone: off}
patterns:
  - {name: employee, pattern: 'EMP-\\d{6}', action: last4}
allow: ['*@example.org']
keys: {app.note: drop, 'app.customer.*': last4, app.ref: keep}
resource: false
"""
JSON = """{"detectors": {"email": "hash", "ip": "mask", "phone": "off"},
 "patterns": [{"name": "employee", "pattern": "EMP-\\\\d{6}", "action": "last4"}],
 "allow": ["*@example.org"], "resource": false,
 "keys": {"app.note": "drop", "app.customer.*": "last4", "app.ref": "keep"}}"""
TOML = """
allow = ["*@example.org"]
resource = false
detectors = {email = "hash", ip = "mask", phone = "off"}
[[patterns]]
name = "employee"
pattern = 'EMP-\\d{6}'
action = "last4"
[keys]
"app.note" = "drop"
"app.customer.*" = "last4"
"app.ref" = "keep"
"""
SALT = "a salt of this test"


@pytest.mark.parametrize(
    ("ending", "text"), [("yaml", YAML), ("yml", YAML), ("json", JSON), ("toml", TOML)]
)
def test_rules_are_read_from_a_file(tmp_path: Path, ending: str, text: str):
    """The three forms say the same."""
    path = tmp_path / f"rules.{ending}"
    path.write_text(text, encoding="utf-8")
    masking = load("true", str(path), SALT)
    masked = masking.text_masker().mask("a@x.io b@example.org 203.0.113.7 010-1234-5678 EMP-123456")
    assert masked.startswith("[hash:email:")
    assert masked.endswith(" b@example.org [masked:ip] 010-1234-5678 [masked:employee:3456]")
    assert [masking.key_action(k) for k in ("app.note", "app.customer.id", "app.ref", "x")] == [
        *("drop", "last4", "keep"),
        None,
    ]
    assert masking.resource is False


@pytest.mark.parametrize("text", [JSON, YAML, "allow: ['*@example.org']"])
def test_rules_are_read_from_the_variable_itself(text: str):
    """Text that is no path: JSON, YAML of several lines, YAML of one line."""
    assert load("true", text, SALT).allow == ["*@example.org"]


@pytest.mark.parametrize(
    ("switch", "masked"),
    [
        ("true", "[masked:email] [masked:phone] 203.0.113.7"),
        ("email", "[masked:email] 010-1234-5678 203.0.113.7"),
        ("email, ip", "[masked:email] 010-1234-5678 [masked:ip]"),
        ("+ip,!phone", "[masked:email] 010-1234-5678 [masked:ip]"),
    ],
)
def test_the_switch_chooses_kinds(switch: str, masked: str):
    """`true` is the default set; kinds alone are only these; + and ! change the default."""
    text = "a@x.io 010-1234-5678 203.0.113.7"
    assert load(switch).text_masker().mask(text) == masked
    assert load("off").enabled is False


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("emails",), "OTELBRIDGE_MASKING='emails'"),
        (("+ip,email",), "either kinds alone"),
        (("true", "/no/such/rules.yaml"), "No such file"),
        (("true", "rules.ini"), r"\.yaml, \.json or \.toml"),
        (("true", "{broken"), "well-formed JSON"),
        (("true", "allow: [\n"), "well-formed YAML"),
        (("true", "[1]"), "a mapping with detectors"),
        (("true", '{"detector": {}}'), "'detector'"),
        (("true", '{"detectors": {"mail": "mask"}}'), "'mail'"),
        (("true", '{"detectors": {"email": "erase"}}'), "'erase'"),
        (("true", '{"detectors": 5}'), "a list or a mapping"),
        (("true", '{"keys": {"a": "erase"}}'), "'erase'"),
        (("true", '{"keys": []}'), "a mapping of keys"),
        (("true", '{"allow": "x"}'), "a list of texts"),
        (("true", '{"resource": "false"}'), "true or false, without quotes"),
        (("true", '{"patterns": [{"name": "x"}]}'), "name, pattern and action"),
        (("true", '{"patterns": [{"name": "x", "pattern": "("}]}'), "a pattern of re"),
        (("true", '{"patterns": [{"name": "x", "pattern": "a*"}]}'), "needs some text"),
        (("true", '{"patterns": [{"name": "email", "pattern": "a"}]}'), "not a built-in kind"),
        (("true", '{"patterns": [{"name": "x", "pattern": "a", "action": "drop"}]}'), "'drop'"),
        (("true", '{"detectors": {"email": "hash"}}'), "OTELBRIDGE_MASKING_SALT"),
        (("true", '{"keys": {"a": "hash"}}', "short"), "at least 8 characters"),
    ],
)
def test_a_mistake_is_named(arguments: tuple[str, ...], told: str):
    """Before the first span, with what is allowed."""
    with pytest.raises(ConfigError, match=told):
        load(*arguments)


def test_mistakes_in_code_are_named():
    """`Masking(...)` is checked when it is made."""
    with pytest.raises(ConfigError, match="a list of texts"):
        Masking(allow="x@y.z")
    with pytest.raises(ConfigError, match="list or a mapping"):
        Masking(detectors="email")
    with pytest.raises(ConfigError, match="not a built-in kind"):
        Masking(finders={"Wrong Name": lambda _: []})
    assert Masking(patterns=[Pattern("x", "a")]).text_masker().mask("a") == "[masked:x]"


def test_settings_carry_the_variables_and_never_show_the_salt():
    """Three variables; the salt is a secret of its own."""
    given = {
        "OTELBRIDGE_MASKING": "+ip",
        "OTELBRIDGE_MASKING_RULES": "r.yaml",
        "OTELBRIDGE_MASKING_SALT": SALT,
    }
    settings = Settings.from_env(given)
    assert (settings.masking, settings.masking_rules, settings.masking_salt) == (
        "+ip",
        "r.yaml",
        SALT,
    )
    assert SALT not in repr(settings)
    assert SALT not in str(settings.values)
    assert SALT not in repr(Masking(salt=SALT))
    assert Settings.from_env({}).masking == "true"

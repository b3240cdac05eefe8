"""What a sweep file may say, and the message for everything else."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsynth_ray import registry, yamlfile
from medsynth_ray.config import SweepConfig
from medsynth_ray.errors import ConfigError

SWEEPS = sorted((Path(__file__).parents[2] / "sweeps").glob("*.yaml"))
BASE = "name: small\ndata: {adapter: phantom}\ngenerators:\n  gaussian:\n"
BOMB = "name: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture
def write(tmp_path):
    def write_file(text: str | bytes, name: str = "sweep.yaml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write_file


def load(path, *overrides):
    return yamlfile.load(path, overrides, components=False)


def message(path, *overrides) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, *overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E3", 1e3), ("-.5", -0.5), ("3", 3), ("010", 10), ("0x10", 16), ("0o17", 15), ("+1.", 1.0),
        ("no", "no"), ("on", "on"), ("1:30", "1:30"), ("2026-11-20", "2026-11-20"), ("1_000", "1_000"),
        ("true", True), ("False", False), ("~", None), ("null", None), ("", None), ("''", ""), ("|-\n  12", "12"),
        (".inf", float("inf")), ("'1e-4'", "1e-4"), ("-.inf", float("-inf")), ("s3://a/b", "s3://a/b"),
    ],
)  # fmt: skip
def test_a_scalar_means_what_yaml_1_2_says(write, text, value):
    read = yamlfile.load_dict(write(f"a: {text}\n"))["a"]
    assert read == value
    assert type(read) is type(value)


def test_nan_is_a_number(write):
    assert str(yamlfile.load_dict(write("a: .nan"))["a"]) == "nan"


def test_defaults_fill_what_the_file_leaves_out(write):
    config = load(write(BASE))
    assert (config.name, config.confirm.repeats, config.generators["gaussian"].use) == ("small", 8, "gaussian")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("mix:\n  ratois: [0.1]\n", "{file}:6: mix.ratois: unknown key; did you mean 'ratios'?"),
        ("    serch: {}\n", "{file}:5: generators.gaussian.serch: unknown key; did you mean 'search'?"),
        ("sed: 3\n", "{file}:5: sed: unknown key; did you mean 'seed'?"),
        (
            "fit:\n  quality:\n    metric: {use: kid, confg: {}}\n",
            "{file}:7: fit.quality.metric.confg: unknown key; did you mean 'config'?",
        ),
        (
            "    search:\n      space:\n        rank:\n          kind: int_range\n          low: 1\n          hig: 3\n",
            "{file}:10: generators.gaussian.search.space.rank.hig: unknown key; did you mean 'high'?",
        ),
        ("split: {zzz: 1}\n", "{file}:5: split.zzz: unknown key (allowed: given, split_seed, test_share, val_share)"),
    ],
)
def test_an_unknown_key_names_line_and_nearest(write, lines, expected):
    path = write(BASE + lines)
    assert expected.format(file=path) in message(path).splitlines()


@pytest.mark.parametrize(
    ("key", "nearest"), [("resolutoin", "resolution"), ("chanels", "channels"), ("adaptr", "adapter")]
)
def test_an_unknown_key_beside_the_adapters_own_is_found(write, key, nearest):
    path = write(f"name: small\ngenerators: [gaussian]\ndata:\n  adapter: phantom\n  {key}: 3\n")
    assert message(path) == f"{path}:5: data.{key}: unknown key; did you mean {nearest!r}?"


def test_an_unknown_key_of_a_component_has_a_line_too(write):
    path = write(BASE + "    config:\n      componets: 3\n")
    with pytest.raises(ConfigError) as caught:
        yamlfile.load(path)
    assert str(caught.value).startswith(f"{path}:6: generators.gaussian.config.componets: unknown key")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("seed: -1\n", "{file}:5: seed: Input should be greater than or equal to 0, got -1"),
        ("seed: 1\nseed: 2\n", "{file}:6: duplicate key 'seed', first on line 5"),
        ("mix: {repeats: 1, repeats: 2}\n", "{file}:5: duplicate key 'repeats', first on line 5"),
        ("seed: !!python/object/apply:os.system [ls]\n", "{file}:5: tags are not read, got 'tag:yaml.org,2002:python/"),
        ("seed: !!int 3\n", "{file}:5: tags are not read, got 'tag:yaml.org,2002:int'"),
        ("<<: {seed: 3}\n", "{file}:5: merge keys (<<) are not read"),
        ("[seed]: 3\n", "{file}:5: a key must be plain text"),
        ("seed: *other\n", "{file}:5: alias *other stands for nothing"),
        ("seed: &s [*s]\n", "{file}:5: alias *s stands for nothing"),
        ("seed: [1\n", "{file}:6: not valid YAML: expected ',' or ']'"),
        ("a: b: c\n", "{file}:5: not valid YAML: mapping values are not allowed here"),
        ("---\nname: b\n", "{file}:5: a second document begins"),
        ("seed: \x00\n", "{file}: not valid YAML: unacceptable character #x0000"),
        ("description: " + "[" * 40 + "\n", "{file}:5: nested more than 32 levels deep"),
        ("split: {val_share: 0.6, test_share: 0.5}\n", "{file}:5: split: val_share + test_share must be at most 0.95"),
        ("extends: [a.yaml]\n", "{file}:5: extends must be the path of one file, got ['a.yaml']"),
        ("verdict: {effect: .nan}\n", "{file}:5: verdict.effect: Input should be"),
    ],
)  # fmt: skip
def test_what_is_refused_is_told_with_its_line(write, lines, expected):
    path = write(BASE + lines)
    assert expected.format(file=path) in message(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "{file}: the file is empty"),
        ("# only a comment\n", "{file}: the file is empty"),
        ("- name: a\n", "{file}: a sweep file is a mapping of keys, got a list"),
        ("just text", "{file}: a sweep file is a mapping of keys, got a str"),
        (b"name: \xff\xfe", "{file}: not UTF-8 text"),
        ("description: " + "x" * (1 << 20), "{file}: larger than 1048576 bytes"),
        ("generators: [gaussian]\n", "{file}:1: name: is missing"),
    ],
)
def test_a_file_that_is_no_sweep_is_refused(write, content, expected):
    path = write(content)
    assert expected.format(file=path) in message(path)


def test_the_largest_file_allowed_is_read(write):
    text = BASE + "description: "
    assert load(write(text + "x" * ((1 << 20) - len(text)))).name == "small"


def test_a_missing_file_is_named(tmp_path):
    assert (
        message(tmp_path / "no.yaml") == f"cannot read the sweep file {tmp_path / 'no.yaml'}: No such file or directory"
    )


def test_an_alias_bomb_is_refused_before_it_expands(write):
    path = write(BOMB)
    assert message(path) == f"{path}:4: more than 10000 values, aliases counted for what they stand for"


def test_a_moderate_alias_is_read(write):
    config = load(write(BASE + "mix:\n  classifier: &probe {use: probe}\nconfirm:\n  classifier: *probe\n"))
    assert config.confirm.classifier == config.mix.classifier


def test_extends_merges_mappings_and_replaces_lists(write):
    write("name: base\ngenerators: {gaussian: }\nmix: {ratios: [0.1, 0.2], repeats: 5}\nseed: 7\n", "base.yaml")
    config = load(write("extends: base.yaml\nname: child\nmix: {ratios: [0.3]}\ngenerators: {copy_real: }\n"))
    assert (config.name, config.seed, config.mix.ratios, config.mix.repeats) == ("child", 7, (0.3,), 5)
    assert list(config.generators) == ["gaussian", "copy_real"]


def test_null_in_the_child_takes_away_what_the_base_says(write):
    write("name: base\ngenerators: {gaussian: , copy_real: }\nmix: {repeats: 5}\n", "base.yaml")
    config = load(write("extends: base.yaml\ngenerators: {copy_real: null}\nmix: {repeats: null}\n"))
    assert (list(config.generators), config.mix.repeats) == (["gaussian"], 3)


def test_an_error_in_the_base_names_the_base(write):
    base = write("name: base\ngenerators: [gaussian]\nmix:\n  repeat: 3\n", "deep/base.yaml")
    assert message(write("extends: deep/base.yaml\n")) == f"{base}:4: mix.repeat: unknown key; did you mean 'repeats'?"


def test_extends_in_a_circle_is_refused(write):
    write("extends: c.yaml\n", "b.yaml")
    write("extends: a.yaml\n", "c.yaml")
    path = write("extends: b.yaml\n", "a.yaml")
    assert message(path) == "extends goes round in a circle: a.yaml -> b.yaml -> c.yaml -> a.yaml"


def test_a_long_chain_of_extends_is_refused(write):
    for i in range(12):
        write(f"extends: {i + 1}.yaml\n", f"{i}.yaml")
    assert "extends is chained more than 8 files deep" in message(write("extends: 0.yaml\n"))


@pytest.mark.parametrize(
    ("overrides", "place", "value"),
    [
        (["seed=4"], "seed", 4),
        (["seed=4", "seed=5"], "seed", 5),
        (["verdict.effect=1e-3"], "verdict.effect", 1e-3),
        (["mix.ratios=[0.1, 0.75]"], "mix.ratios", (0.1, 0.75)),
        (["mix={repeats: 2}"], "mix.repeats", 2),
        (["confirm.repeats="], "confirm.repeats", 8),
        (["description=a=b"], "description", "a=b"),
        (["store=s3://bucket/x"], "store", "s3://bucket/x"),
        (["store=here"], "store", "here"),
        (["description=$HOME"], "description", "$HOME"),
    ],
)
def test_an_override_wins(write, overrides, place, value):
    found = load(write(BASE + "confirm: {repeats: 9}\n"), *overrides)
    for part in place.split("."):
        found = getattr(found, part)
    assert found == value


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("mix.ratois=[0.1]", "override 'mix.ratois=[0.1]': mix.ratois: unknown key; did you mean 'ratios'?"),
        ("mix.repeats=x", "override 'mix.repeats=x': mix.repeats: Input should be a valid integer"),
        ("mix.ratios=[", "override 'mix.ratios=[':1: not valid YAML"),
        ("seed", "override 'seed': expected key.sub=value"),
        ("mix..repeats=3", "override 'mix..repeats=3': expected key.sub=value"),
        ("=3", "override '=3': expected key.sub=value"),
        ("extends=a.yaml", "override 'extends=a.yaml': extends can only stand in a file"),
    ],
)
def test_a_wrong_override_is_told(write, override, expected):
    assert expected in message(write(BASE), override)


def test_relative_roots_start_at_the_file_that_names_them(write, tmp_path):
    write("name: base\ngenerators: {own: {use: from_folder, config: {root: made}}}\n", "sub/deep/base.yaml")
    path = write("extends: deep/base.yaml\ndata: {root: ../images}\nstore: out\n", "sub/sweep.yaml")
    values = yamlfile.load_dict(path)
    assert values["data"]["root"] == str(tmp_path / "images")
    assert values["generators"]["own"]["config"]["root"] == str(tmp_path / "sub" / "deep" / "made")
    assert values["store"] == "out"


def test_a_root_in_an_override_starts_at_the_current_directory(write, tmp_path, monkeypatch):
    path = write(BASE, "sub/sweep.yaml")
    monkeypatch.chdir(tmp_path)
    assert yamlfile.load_dict(path, ["data.root=images"])["data"]["root"] == str(tmp_path / "images")


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("root", "s3://bucket/images", "s3://bucket/images"),
        ("root", "/data/images", "/data/images"),
        ("weights", "w/net.safetensors", "{folder}/w/net.safetensors"),
        ("weights", "imagenet", "imagenet"),
    ],
)
def test_only_relative_local_paths_are_moved(write, tmp_path, key, text, expected):
    path = write(f"{key}: {text}\n")
    assert yamlfile.load_dict(path)[key] == expected.format(folder=tmp_path)


def test_dump_is_read_back_as_the_same_config(write):
    config = load(write(BASE + "description: 'no: 1e-4 # \"x\"'\nverdict: {effect: 1e-5}\nbudget: {hours: 0.5}\n"))
    text = yamlfile.dump(config)
    assert load(write(text, "again.yaml")) == config
    assert [line.split(":")[0] for line in text.splitlines() if line[0].isalpha()] == list(SweepConfig.model_fields)


@given(text=st.text(alphabet=st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn"])) | st.sampled_from(
    ["1e-4", "no", "~", "null", "1:30", "0o17", "2026-11-20", "<<", "a: b", "#x", "- a", "*a", "&a", "!t", "%a", "---"]
))  # fmt: skip
def test_any_text_survives_dump(tmp_path_factory, text):
    config = SweepConfig.model_validate({"name": "a", "generators": ["gaussian"], "description": text})
    path = tmp_path_factory.mktemp("dump") / "sweep.yaml"
    path.write_text(yamlfile.dump(config), encoding="utf-8")
    assert yamlfile.load_dict(path)["description"] == text


@pytest.fixture(scope="module")
def schema():
    return yamlfile.json_schema()


def problems(schema, values) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    return [error.json_path for error in validator.iter_errors({"name": "a", "generators": ["gaussian"], **values})]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"extends": "base.yaml"},
        {"data": {"adapter": "phantom", "resolution": 32}},
        {"generators": {"gaussian": None}},
        {"generators": {"own": {"use": "gaussian", "sampler": "all_real", "gates": ["dedupe"]}}},
        {"mix": {"mixers": ["add"], "classifier": {"use": "probe"}}},
    ],
)
def test_the_schema_allows_what_the_loader_reads(schema, values):
    assert problems(schema, values) == []


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"mix": {"ratois": [0.1]}}, "$.mix"),
        ({"data": {"adapter": "phantom", "rooot": 3}}, "$.data"),
        ({"generators": {"own": {}}}, "$.generators"),
        ({"generators": {"gaussian": {"config": {"no_such_field": 1}}}}, "$.generators"),
        ({"confirm": {"classifier": "no_such"}}, "$.confirm.classifier"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(schema, values, place):
    assert problems(schema, values) == [place]


def test_the_schema_describes_every_component(schema):
    expected = {f"{role}.{name}" for role in registry.ROLES for name in registry.names(role)}
    assert expected - set(schema["$defs"]) == set()
    assert schema["$defs"]["generators.gaussian"]["additionalProperties"] is False


def test_the_schema_names_a_component_that_cannot_be_imported(monkeypatch):
    def broken(role, name):
        if name == "gaussian":
            raise ConfigError("generators component 'gaussian' from a-plugin cannot be imported: no module 'x'")
        return load_component(role, name)

    load_component = registry.load
    monkeypatch.setattr(registry, "load", broken)
    assert yamlfile.json_schema()["$defs"]["generators.gaussian"]["description"].endswith(
        "from a-plugin cannot be imported: no module 'x'"
    )


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.name)
def test_the_sweeps_of_this_repository_are_read_and_fit_the_schema(schema, path):
    assert yamlfile.load(path).name == path.stem
    validator = jsonschema.Draft202012Validator(schema)
    assert [error.json_path for error in validator.iter_errors(yamlfile.load_dict(path))] == []

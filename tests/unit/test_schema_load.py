"""From manifest files to a frozen Manifest: what the format says a file means."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from vmrun.errors import Diagnostic, Label, ManifestError
from vmrun.schema.known import EXAMPLE_KNOWN, KindInfo, Known, Property
from vmrun.schema.load import LoadedManifest, load_manifest

MINIMAL = """\
manifest = 1
[machine]
board = "riscv_virt"
[memory]
size = "256MiB"
[boot]
kernel = { path = "vmlinux" }
"""
MANIFESTS = Path(__file__).parents[2] / "manifests"


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def load(path: str, *sets: str, known: Known = EXAMPLE_KNOWN, **options) -> LoadedManifest:
    return load_manifest(path, known=known, sets=sets, **{"env": {}, **options})


def codes(path: str, *sets: str, **options) -> list[str]:
    with pytest.raises(ManifestError) as caught:
        load(path, *sets, **options)
    return [f.code for f in caught.value.findings]


def test_minimal_manifest_has_the_formats_defaults(write) -> None:
    manifest = load(write("small.toml", MINIMAL)).manifest
    assert manifest.name == "small"
    assert manifest.machine.accel == "auto"
    assert (manifest.cpu.count, manifest.cpu.max) == (1, None)
    assert manifest.memory.size == 256 << 20
    assert manifest.boot.kernel is not None
    assert manifest.boot.kernel.source == "path"
    assert manifest.run.command is None
    assert manifest.run.timeouts.scale.soft == 1
    assert manifest.disk == {}


def test_manifest_is_frozen(write) -> None:
    manifest = load(write("m.toml", MINIMAL)).manifest
    with pytest.raises(pydantic.ValidationError):
        manifest.memory.size = 1


def test_every_table_of_the_format(write) -> None:
    text = (
        MINIMAL.replace('{ path = "vmlinux" }', '{ debian = "linux-image-riscv64", suite = "trixie" }')
        + """
modules = ["virtio_mmio"]
initrd = { busybox = true }
cmdline = ["panic=-1", "quiet"]
[cpu]
count = 4
sockets = 1
cores = 4
threads = 1
model = "max"
features = ["-zba"]
[disk.root]
path = "root.img"
format = "raw"
mode = "rw"
serial = "root"
[disk.scratch]
size = "1.5MiB"
[console.main]
device = "serial"
log = "console.log"
[device.rng]
kind = "virtio-rng"
[run]
ready = "login:"
command = ["/bin/sh", "-c", "uname -a"]
timeouts = { boot = "1.5s", idle = "60s", total = "5m", scale = { soft = 10, qemu = 2.5 } }
"""
    )
    loaded = load(write("m.toml", text))
    manifest = loaded.manifest
    assert loaded.warnings == ()
    assert manifest.boot.kernel is not None and manifest.boot.kernel.source == "debian"
    assert manifest.boot.initrd is not None and manifest.boot.initrd.source == "busybox"
    assert manifest.disk["scratch"].size == 3 << 19
    assert manifest.disk["scratch"].mode == "overlay"
    assert manifest.run.timeouts.boot == 1_500_000_000
    assert manifest.run.timeouts.total == 300_000_000_000
    assert (manifest.run.timeouts.scale.soft, manifest.run.timeouts.scale.qemu) == (10, 2.5)
    assert manifest.device["rng"].kind == "virtio-rng"
    assert list(manifest.disk) == ["root", "scratch"]


def test_paths_are_from_the_file_that_declares_them(write, tmp_path: Path) -> None:
    write("base/ci.toml", 'manifest = 1\n[disk.root]\npath = "root.img"\n[console.main]\nlog = "c.log"\n')
    path = write("m.toml", 'extends = ["base/ci.toml"]\n' + MINIMAL + '[disk.root]\nmode = "ro"\n')
    manifest = load(path).manifest
    assert manifest.disk["root"].path == str(tmp_path / "base" / "root.img")
    assert manifest.disk["root"].mode == "ro"
    assert manifest.console["main"].log == str(tmp_path / "base" / "c.log")
    assert manifest.boot.kernel is not None and manifest.boot.kernel.path == str(tmp_path / "vmlinux")


def test_paths_of_set_are_from_the_working_folder(write, monkeypatch, tmp_path: Path) -> None:
    path = write("sub/m.toml", MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert load(path, "boot.kernel.path=other").manifest.boot.kernel.path == str(tmp_path / "other")


def test_extends_merges_replaces_and_appends(write) -> None:
    write("a.toml", 'manifest = 1\n[boot]\ncmdline = ["a"]\nmodules = ["one"]\n[cpu]\ncount = 2\n')
    write("b.toml", 'manifest = 1\nextends = ["a.toml"]\n[boot]\n"cmdline+" = ["b"]\nmodules = ["two"]\n')
    text = 'extends = ["b.toml"]\n' + MINIMAL.replace('{ path = "vmlinux" }', '{ debian = "linux", suite = "sid" }')
    path = write("m.toml", text + '"cmdline+" = ["c"]\ninitrd = { busybox = true }\n')
    loaded = load(path)
    assert loaded.manifest.boot.cmdline == ("a", "b", "c")
    assert loaded.manifest.boot.modules == ("two",)
    assert loaded.manifest.cpu.count == 2
    assert [p.name for p in loaded.sources] == ["m.toml", "b.toml", "a.toml"]
    assert all(p.is_absolute() for p in loaded.sources)


def test_a_new_source_replaces_the_inherited_one(write) -> None:
    write("base.toml", MINIMAL.replace('{ path = "vmlinux" }', '{ debian = "linux", suite = "sid", file = "x" }'))
    kernel = load(write("m.toml", 'manifest = 1\nextends = ["base.toml"]\nboot.kernel.path = "mine"\n')).manifest
    assert kernel.boot.kernel is not None
    assert (kernel.boot.kernel.source, kernel.boot.kernel.suite, kernel.boot.kernel.file) == ("path", None, None)
    suite = load(write("n.toml", 'manifest = 1\nextends = ["base.toml"]\nboot.kernel.suite = "trixie"\n')).manifest
    assert suite.boot.kernel is not None
    assert (suite.boot.kernel.debian, suite.boot.kernel.suite) == ("linux", "trixie")


def test_the_same_file_extended_twice_is_read_once(write) -> None:
    write("a.toml", 'manifest = 1\n[boot]\ncmdline = ["a"]\n')
    write("b.toml", 'manifest = 1\nextends = ["a.toml"]\n')
    write("c.toml", 'manifest = 1\nextends = ["a.toml"]\n')
    loaded = load(write("m.toml", 'extends = ["b.toml", "c.toml"]\n' + MINIMAL))
    assert [p.name for p in loaded.sources] == ["m.toml", "b.toml", "a.toml", "c.toml"]
    assert loaded.manifest.boot.cmdline == ("a",)


def test_extends_through_a_loop_and_too_deep(write) -> None:
    write("a.toml", 'manifest = 1\nextends = ["b.toml"]\n')
    write("b.toml", 'manifest = 1\nextends = ["a.toml"]\n')
    assert codes(write("m.toml", 'extends = ["a.toml"]\n' + MINIMAL)) == ["E008"]
    for index in range(20):
        write(f"deep{index}.toml", f'manifest = 1\nextends = ["deep{index + 1}.toml"]\n')
    assert codes(write("n.toml", 'extends = ["deep0.toml"]\n' + MINIMAL)) == ["E009"]


def test_each_file_says_its_format(write) -> None:
    write("base.toml", "[cpu]\ncount = 2\n")
    path = write("m.toml", 'extends = ["base.toml"]\n' + MINIMAL)
    with pytest.raises(ManifestError) as caught:
        load(path)
    assert [(f.code, Path(f.span.file).name if f.span else "") for f in caught.value.findings] == [
        ("E015", "base.toml")
    ]
    assert codes(write("text.toml", MINIMAL.replace("= 1", '= "1"'))) == ["E010"]
    assert codes(write("typo.toml", MINIMAL.replace("manifest =", "manfest ="))) == ["E014"]


def test_profile_changes_the_manifest_and_is_checked_unchosen(write) -> None:
    text = MINIMAL + 'cmdline = ["a"]\n[profile.debug]\n"boot.cmdline+" = ["b"]\ncpu.count = 3\n'
    path = write("m.toml", text)
    assert load(path).manifest.boot.cmdline == ("a",)
    chosen = load(path, profile="debug").manifest
    assert (chosen.boot.cmdline, chosen.cpu.count) == (("a", "b"), 3)
    assert codes(path, profile="debgu") == ["E025"]
    assert codes(write("bad.toml", text + "memory.sise = 1\n")) == ["E014"]
    assert codes(write("own.toml", text + 'extends = ["x"]\n')) == ["E014"]
    assert load(write("later.toml", text + 'machine.board = "q35"\n')).manifest.machine.board == "riscv_virt"
    assert codes(write("later.toml", text + 'machine.board = "q35"\n'), profile="debug") == ["E050"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("memory.size=512MiB", 512 << 20),
        ('memory.size="512MiB"', 512 << 20),
        ("cpu.count=3", 3),
        ("name=two words", None),
        ("boot.cmdline=[1]", None),
    ],
)
def test_set_reads_toml_or_text(write, text: str, value: int | None) -> None:
    path = write("m.toml", MINIMAL)
    if value is None:
        assert codes(path, text) in (["E017"], ["E010"])
        return
    manifest = load(path, text).manifest
    assert value in (manifest.memory.size, manifest.cpu.count)


def test_set_appends_creates_and_wins(write) -> None:
    path = write("m.toml", MINIMAL + 'cmdline = ["a"]\n[profile.p]\ncpu.count = 2\n')
    loaded = load(path, "boot.cmdline+=b", 'boot.cmdline+=["c"]', "cpu.count=5", "disk.new.size=1MiB", profile="p")
    assert loaded.manifest.boot.cmdline == ("a", "b", "c")
    assert loaded.manifest.cpu.count == 5
    assert loaded.manifest.disk["new"].size == 1 << 20


@pytest.mark.parametrize("text", ["", "=", "cpu.count", "cpu..count=1", "a b=1", "manifest=2", "extends=[]", "[x]=1"])
def test_set_that_is_none(write, text: str) -> None:
    assert codes(write("m.toml", MINIMAL), text) == ["E026"]


def test_set_cannot_smuggle_a_second_key(write) -> None:
    path = write("m.toml", MINIMAL)
    assert load(path, 'run.ready=1\nname = "x"').manifest.run.ready == '1\nname = "x"'


def test_findings_in_set_point_at_it(write) -> None:
    with pytest.raises(ManifestError) as caught:
        load(write("m.toml", MINIMAL), "cpu.count=2", "cpu.cores=x")
    span = caught.value.findings[0].span
    assert span is not None
    assert (span.file, span.line, span.column, span.end_column) == ("<--set>", 2, 11, 12)


def test_variables(write) -> None:
    text = (
        """
        vars.kdir = "${env:KDIR:-build}/${sub}"
        vars.sub = "riscv"
        vars.cpus = 3
        cpu.count = "${cpus}"
        boot.kernel.path = "${kdir}/Image"
        boot.cmdline = ["x=${cpus}", "$${cpus}", "$x", "${sub}${sub}"]
        """
        + """
        manifest = 1
        machine.board = "riscv_virt"
        memory.size = "256MiB"
        """
    )
    path = write("m.toml", text)
    loaded = load(path, env={"OTHER": "1"})
    assert loaded.env_read == {"KDIR": None}
    assert loaded.manifest.boot.kernel is not None
    assert loaded.manifest.boot.kernel.path == str(Path(path).parent / "build/riscv/Image")
    assert loaded.manifest.boot.cmdline == ("x=3", "${cpus}", "$x", "riscvriscv")
    assert loaded.manifest.cpu.count == 3
    again = load(path, env={"KDIR": "/abs"})
    assert again.env_read == {"KDIR": "/abs"}
    assert again.manifest.boot.kernel is not None and again.manifest.boot.kernel.path == "/abs/riscv/Image"


def test_only_variables_in_use_or_declared_read_the_environment(write, monkeypatch) -> None:
    monkeypatch.setenv("VMRUN_TEST_HOME", "/x")
    loaded = load_manifest(
        write("m.toml", MINIMAL.replace('"256MiB"', '"${size}"') + '[vars]\nsize = "${env:VMRUN_TEST_SIZE:-1MiB}"\n'),
        known=EXAMPLE_KNOWN,
    )
    assert loaded.env_read == {"VMRUN_TEST_SIZE": None}


@pytest.mark.parametrize(
    ("variables", "code"),
    [
        ('a = "${b}"\nb = "${a}"', "E022"),
        ('a = "${a}"', "E022"),
        ('a = "${nosuch}"', "E021"),
        ('a = "${env:VMRUN_TEST_NOT_THERE}"', "E021"),
        ('a = "${env:9}"', "E023"),
        ('a = "${"', "E023"),
        ("a = [1]", "E010"),
        ('a = ["${a}", "${b}"]', "E010"),
        ("\n".join(f'v{i} = "${{v{i + 1}}}"' for i in range(60)) + '\nv60 = "x"', "E023"),
        ('v0 = "0123456789abcdef"\n' + "\n".join(f'v{i} = "${{v{i - 1}}}${{v{i - 1}}}"' for i in range(1, 30)), "E023"),
    ],
)
def test_variables_that_cannot_be(write, variables: str, code: str) -> None:
    assert code in codes(write("m.toml", MINIMAL + f"[vars]\n{variables}\n"))


def test_device_properties_follow_their_declaration(write, tmp_path: Path) -> None:
    kind = KindInfo(
        "a thing",
        {
            "size": Property("size", minimum=4096, maximum=1 << 20),
            "wait": Property("time", default=5),
            "count": Property("integer", minimum=1, maximum=4, required=True),
            "on": Property("boolean"),
            "file": Property("path"),
            "mode": Property("string", choices=("a", "b")),
        },
    )
    known = Known(("riscv_virt",), {"thing": kind})
    head = MINIMAL + '[device.x]\nkind = "thing"\n'
    text = 'size = "4KiB"\ncount = 2\non = true\nfile = "rel"\nmode = "b"\n'
    assert load(write("m.toml", head + text), known=known).manifest.device["x"].properties == {
        "size": 4096,
        "count": 2,
        "on": True,
        "file": str(tmp_path / "rel"),
        "mode": "b",
        "wait": 5,
    }
    for wrong, code in {
        "": "E015",
        "cuont = 2": "E014",
        "count = true": "E010",
        "count = 5": "E012",
        'count = 1\nsize = "8MiB"': "E012",
        'count = 1\nsize = "8MB"': "E011",
        'count = 1\nwait = "0s"': "E012",
        'count = 1\nmode = "c"': "E016",
        "count = 1\nfile = 3": "E010",
    }.items():
        assert codes(write("w.toml", f"{head}{wrong}\n"), known=known) == [code], wrong


def test_spans_follow_extends(write, tmp_path: Path) -> None:
    write("base.toml", "manifest = 1\n\n[cpu]\ncount = 2\n")
    loaded = load(write("m.toml", 'extends = ["base.toml"]\n' + MINIMAL + '"cmdline+" = [\n  "é", "x",\n]\n'))
    count = loaded.span_of(("cpu", "count"))
    assert count is not None
    assert (count.file, count.line, count.column, count.end_column) == (str(tmp_path / "base.toml"), 4, 9, 10)
    key = loaded.span_of(("cpu", "count"), "key")
    assert key is not None and (key.column, key.end_column) == (1, 6)
    second = loaded.span_of(("boot", "cmdline", "1"))
    assert second is not None
    assert (second.file, second.line, second.column, second.end_column) == (str(tmp_path / "m.toml"), 10, 8, 11)
    absent = loaded.span_of(("cpu", "cores"))
    assert absent is not None and absent.line == 3
    placed = loaded.located(Diagnostic("E100", "x", ("cpu", "count"), labels=(Label("y", key=("memory", "size")),)))
    assert placed.span == count
    assert placed.labels[0].span is not None and placed.labels[0].span.line == 6


def test_files_that_cannot_be_read(write, tmp_path: Path) -> None:
    assert codes(str(tmp_path / "none.toml")) == ["E001"]
    assert codes(str(tmp_path)) == ["E002"]
    assert codes("nul\0byte.toml") == ["E002"]
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    assert codes(str(tmp_path / "latin.toml")) == ["E003"]
    assert codes(write("big.toml", MINIMAL + "#" * (1 << 20))) == ["E006"]
    assert codes(write("deep.toml", MINIMAL + "[x." + ".".join("y" * 50) + "]\n")) == ["E006"]
    assert codes(write("brackets.toml", MINIMAL + "x = " + "[" * 5000 + "]" * 5000)) in (["E006"], ["E004"])
    assert codes(write("digits.toml", MINIMAL + "x = " + "9" * 5000)) in (["E006"], ["E004"])


def test_a_byte_order_mark_and_crlf_are_no_matter(write) -> None:
    assert load(write("m.toml", "\ufeff" + MINIMAL.replace("\n", "\r\n"))).manifest.cpu.count == 1


@pytest.mark.parametrize("example", sorted(MANIFESTS.glob("*.toml")), ids=lambda p: p.name)
def test_example_manifests_load_without_a_finding(example: Path) -> None:
    assert load_manifest(example, known=EXAMPLE_KNOWN, env={}).warnings == ()


def test_riscv_micro_is_the_machine_that_it_promises() -> None:
    manifest = load_manifest(MANIFESTS / "riscv-micro.toml", known=EXAMPLE_KNOWN, env={}).manifest
    assert (manifest.machine.board, manifest.cpu.count, manifest.memory.size) == ("riscv_virt", 2, 256 << 20)
    assert manifest.boot.kernel is not None and manifest.boot.kernel.debian == "linux-image-riscv64"
    assert manifest.boot.initrd is not None and manifest.boot.initrd.busybox
    assert {c.device for c in manifest.console.values()} == {"virtio"}
    assert {d.kind for d in manifest.device.values()} == {"virtio-rng"}
    assert manifest.disk and manifest.run.command


def test_vars_that_are_no_table(write) -> None:
    assert codes(write("m.toml", 'vars = ["${x}"]\n' + MINIMAL)) == ["E010"]
    assert "E010" in codes(write("n.toml", 'vars = "${x}"\n' + MINIMAL))


def test_two_dots_behind_a_link_are_the_systems(write, tmp_path: Path) -> None:
    """`links/../x` is beside the link's target, for what is extended as for every other path."""
    write("base.toml", MINIMAL + "[cpu]\ncount = 1\n")
    write("away/base.toml", MINIMAL + "[cpu]\ncount = 3\n")
    (tmp_path / "away" / "deep").mkdir()
    (tmp_path / "b").symlink_to(tmp_path / "away" / "deep")
    path = write("m.toml", 'manifest = 1\nextends = ["b/../base.toml"]\nboot.kernel = { path = "b/../base.toml" }\n')
    loaded = load(path)
    assert loaded.manifest.cpu.count == 3
    assert loaded.sources[1] == (tmp_path / "away" / "base.toml").resolve()
    kernel = loaded.manifest.boot.kernel
    assert kernel is not None and kernel.path is not None and "count = 3" in Path(kernel.path).read_text()


def test_one_file_by_two_names_is_one_file(write, tmp_path: Path) -> None:
    path = write("m.toml", MINIMAL + '[disk.a]\npath = "x.img"\nmode = "rw"\n[disk.b]\npath = "d/../link.img"\n')
    (tmp_path / "d").mkdir()
    (tmp_path / "x.img").touch()
    (tmp_path / "link.img").symlink_to("x.img")
    assert codes(path) == ["E046"]

"""Studies as people save them, and as they should not be."""

from functools import partial

from attack import Attack, attacked_by

BASE = """\
name: case
earth: {tile_px: 96}
corpora:
  majortom: {like: majortom, tiles: 6, seed: 1}
validation: {share: 0.25, chips: 8}
bench: {train_tiles: 1, test_tiles: 1, patches_per_tile: 12}
pretrain:
  samples: 64
  batch: 16
  grid: [{corpora: [majortom], architectures: [unet], sizes: [xs], seeds: [0]}]
finetune:
  n: [1]
  seeds: [0]
  steps: 2
  tasks: [roads]
  test_patches: 24
  grid: [{corpora: [majortom], architectures: [unet], sizes: [xs]}]
gates: null
"""
CELLS = ["cells", "--study", "study.yaml"]
NESTED = "".join(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]\n" for k in range(1, 10))


def _write(folder, content):
    content = content if isinstance(content, bytes) else content.encode()
    (folder / "study.yaml").write_bytes(content)


def _attack(name, content, message, **options):
    return Attack(name, partial(_write, content=content), CELLS, message, **options)


def _edit(name, old, new, message):
    assert old in BASE
    return _attack(name, BASE.replace(old, new), message)


FOREIGN = "terratorch: {weights: weights.pt}"
GOOD = {"stated": "1 pretraining cells"}
CODE = '__use_yte__: true\n? __import__("pathlib").Path("executed").touch()\n: 1\n'
PICKLE = "name: !!python/object/apply:os.system ['touch executed']"
ATTACKS = [
    _attack("a byte-order mark", b"\xef\xbb\xbf" + BASE.encode(), None, **GOOD),
    _attack("lines of Windows", BASE.replace("\n", "\r\n"), None, **GOOD),
    _attack("a remark in UTF-8", f"# größer 雪\n{BASE}", None, **GOOD),
    _attack(
        "a remark in UTF-8 under an ASCII locale",
        f"# größer\n{BASE}",
        None,
        fresh=True,
        environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        **GOOD,
    ),
    _attack(
        "a merged block",
        BASE.replace("gates: null", "gates: null\nfigures: {<<: {font_pt: 8}}"),
        None,
        **GOOD,
    ),
    _attack(
        "a power of ten without a point",
        BASE.replace("batch: 16", "batch: 16\n  weight_decay: 1e-3"),
        None,
        **GOOD,
    ),
    _attack(
        "Latin-1", "# größer\n".encode("latin-1") + BASE.encode(), "line 1 has the byte 0xf6 ('ö' in Latin-1)"
    ),
    _attack("UTF-16", BASE.encode("utf-16"), "study.yaml is UTF-16 text; save it as UTF-8"),
    _attack("UTF-16 without a mark", BASE.encode("utf-16-le"), "line 1 has a zero byte"),
    _attack("bytes", bytes(range(256)), "study.yaml is not UTF-8 text: line 2 has the byte 0x80"),
    _attack("nothing", "", "study.yaml is empty"),
    _attack("a list", "- 1\n", "study.yaml is no study, but [1]"),
    _attack("a word", "study\n", "study.yaml is no study, but 'study'"),
    Attack("a folder", lambda folder: (folder / "study.yaml").mkdir(), CELLS, "study.yaml is a folder"),
    Attack("no file", lambda _: None, CELLS, "give --study FILE"),
    Attack("a device without end", lambda _: None, ["cells", "--study", "/dev/zero"], "/dev/zero is over"),
    _edit(
        "a key twice",
        "  batch: 16\n",
        "  batch: 16\n  samples: 6400\n",
        "key 'samples' was already given in line 8",
    ),
    _edit(
        "a key twice in a line",
        "tiles: 6, seed: 1",
        "tiles: 6, tiles: 7",
        "'tiles' was already given in line 4",
    ),
    _attack(
        "a block twice", f"{BASE}pretrain:\n  samples: 1\n", "key 'pretrain' was already given in line 7"
    ),
    _attack("an alias of itself", f"a: &a [*a]\n{BASE}", "line 1, column 4: this alias contains itself"),
    _attack("aliases without end", f"a0: &a0 [x, x]\n{NESTED}{BASE}", "write it out"),
    _attack("too deep", f"a: {'[' * 5000}{']' * 5000}\n{BASE}", "it is nested too deeply"),
    _attack("a tab", BASE.replace("  samples", "\tsamples"), "study.yaml is not valid YAML: line 8"),
    _attack("a character of control", f"name: \x07\n{BASE}", "line 1: the character 0x7 is not allowed"),
    _attack("a day that is none", BASE.replace("seed: 1}", "select: {since: 2020-02-31}}"), "not valid YAML"),
    _edit("a number as text", "batch: 16", 'batch: "16"', "pretrain.batch: a number is expected, got '16'"),
    _edit("a truth as number", "batch: 16", "batch: true", "pretrain.batch: a number is expected, got true"),
    _edit(
        "a yes as seed",
        "seeds: [0]\n  steps",
        "seeds: [yes]\n  steps",
        "finetune.seeds.0: a number is expected",
    ),
    _edit("infinity", "batch: 16", "batch: 16\n  weight_decay: .inf", "pretrain.weight_decay"),
    _edit("an infinite rate", "batch: 16", "batch: 16\n  lr: {unet: 1e400}", "pretrain.lr.unet"),
    _edit("no number", "share: 0.25", "share: .nan", "validation.share"),
    _edit("too many samples", "samples: 64", "samples: 1000000000000000000000000000000", "pretrain.samples"),
    _edit("a seed of 40 bits", "seed: 1}", "seed: 1099511627776}", "corpora.majortom.seed"),
    _edit("base eight", "samples: 64", "samples: 0100", "YAML reads 0100 as another number"),
    _edit("base sixty", "samples: 64", "samples: 1:30", "YAML reads 1:30 as another number"),
    _edit(
        "a day as seconds",
        "seed: 1}",
        "select: {since: 1514764800}}",
        "a day is expected, such as 2018-01-01",
    ),
    _edit(
        "a fraction by zero", "seed: 1}", "select: {fraction: 1/0}}", "a fraction is expected, such as 1/16"
    ),
    _edit("an infinite fraction", "seed: 1}", "select: {fraction: .inf}}", "a fraction is expected"),
    _attack("code in a template", CODE + BASE, "study.yaml is a template with code"),
    _attack("code in a tag", BASE.replace("name: case", PICKLE), "could not determine a constructor"),
    _attack(
        "a size that leads out", f"{BASE}external: {{terratorch-../x: {{weights: w.pt}}}}\n", "no size '../x'"
    ),
    _attack(
        "a size like an option", f"{BASE}external: {{terratorch--x: {{weights: w.pt}}}}\n", "no size '-x'"
    ),
    _attack(
        "a size of two lines", f'{BASE}external: {{"terratorch-a\\n": {{weights: w.pt}}}}\n', "no size 'a"
    ),
]
test_studies = attacked_by(ATTACKS)

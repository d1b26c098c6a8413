"""Nothing that a file holds is run: no module unpickles or evaluates, and a pickle is refused."""

import ast
import pickle
import re
from pathlib import Path

import pytest
from damage import assert_refused, rows

from lttlib import Error, models
from lttlib.models import write_card

REPOSITORY = Path(__file__).resolve().parent.parent
MODULES = sorted((REPOSITORY / "lttlib").rglob("*.py"))
MAKEFILE = REPOSITORY / "Makefile"

FORBIDDEN = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"),
    *("joblib.load", "torch.load", "load_model", "allow_pickle"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"),
    *("eval", "exec", "compile", "os.system", "__import__", "shell"),
    *("deserialize", "deserialize_keras_object", "enable_unsafe_deserialization"),
}
UNPACKING = (".extractall", ".extract", "unpack_archive")


def names_of(node):
    """Names that a node of a syntax tree imports or uses, as they stand in the source."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    if isinstance(node, ast.Name | ast.Attribute):
        return [ast.unparse(node)]
    if isinstance(node, ast.keyword) and getattr(node.value, "value", True):
        return [node.arg or ""]
    return []


def forbidden_in(name):
    """What is forbidden of a dotted name: all of it, its first part, or its last."""
    first, _, _ = name.partition(".")
    _, _, last = name.rpartition(".")
    parts = {name, first}
    if not name.startswith("re."):  # re.compile compiles no code
        parts.add(last)
    return FORBIDDEN & parts


def unpacks_without_a_filter(node):
    if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith(UNPACKING):
        return False
    return "filter" not in [keyword.arg for keyword in node.keywords]


def run_by_files(source):
    """Names in a module that let a file run code, and archives that are unpacked unfiltered."""
    hits = set()
    for node in ast.walk(ast.parse(source)):
        if unpacks_without_a_filter(node):
            hits.add(ast.unparse(node))
        for name in names_of(node):
            hits |= forbidden_in(name)
    return hits


def module_id(path):
    return "-".join(path.relative_to(REPOSITORY / "lttlib").with_suffix("").parts)


@pytest.mark.parametrize("module", MODULES, ids=module_id)
def test_module_runs_nothing_that_a_file_holds(module):
    assert not run_by_files(module.read_text(encoding="utf-8"))


def test_modules_of_all_wings_are_searched():
    assert len(MODULES) > 40 and len({module.parent for module in MODULES}) == 9


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from dill import loads",
        "import joblib\njoblib.load(path)",
        "from joblib import load",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, yaml.Loader)",
        "eval(text)",
        "exec(text)",
        "keras.saving.load_model(path)",
        "keras.models.load_model(path, safe_mode=False)",
        "torch.load(path)",
        "subprocess.run(line, shell=True)",
        "os.system(line)",
        "tarfile.open(path).extractall(folder)",
        "keras.activations.deserialize(config)",
        "shutil.unpack_archive(path)",
    ],
)
def test_search_finds_what_would_run_it(source):
    assert run_by_files(source)


class Evil:
    """Unpickled, it makes a file, which `assert_refused` would find in the folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def evil(name):
    """A pickle in place of a file of the workspace."""

    def damage(workspace):
        path = workspace / name
        path.write_bytes(pickle.dumps(Evil(workspace / "pwned")))
        yield path

    return damage


def evil_in_folder(name):
    """A pickle in a model folder, whose card fits it."""

    def damage(workspace):
        for path in evil(f"teacher/{name}")(workspace):
            write_card(path.parent)
            yield path.parent

    return damage


def load_model(workspace, path):
    models.load(path)


COPY = "train or copy the model again"
QUANTIZE = "`ltt quantize` writes one"
DEPLOY = "`ltt deploy` writes one"
# fmt: off
PICKLES = [
    ("weights are a pickle", evil_in_folder("weights.safetensors"), load_model, Error, COPY),
    ("spec is a pickle", evil_in_folder("spec.json"), load_model, Error, COPY),
    ("a pickle beside the weights", evil_in_folder("packed.safetensors"), load_model, Error,
     QUANTIZE),
    ("a pickle deployed", evil_in_folder("model.tflite"), load_model, Error, DEPLOY),
    ("a pickle named as Keras does", evil("model.keras"), load_model, Error, QUANTIZE),
    ("packed is a pickle", evil("packed.safetensors"), load_model, Error, QUANTIZE),
]
# fmt: on


@rows(PICKLES)
def test_pickle_in_place_of_a_model_is_refused(workspace, damage, use, error, cure):
    assert_refused(workspace, damage, use, error, cure)


def test_jupyterlab_keeps_its_token_and_listens_to_this_machine_only():
    words = r"\.(token|password|hashed_password)\b|allow[-_]root|0\.0\.0\.0|disable_check_xsrf"
    off = r"token\s*=\s*(''|\"\"|\\?['\"] *\\?['\"])|" + words
    for planted in (
        "jupyter lab --ServerApp.token=''",
        "--IdentityProvider.token=x",
        "--allow-root",
        "--ip 0.0.0.0",
    ):
        assert re.search(off, planted)
    for path in (MAKEFILE, *MODULES):
        assert not re.search(off, path.read_text(encoding="utf-8")), path.name
    assert "jupyter lab" in MAKEFILE.read_text(encoding="utf-8")

"""Who may import whom, read from the source; and what importing the library brings along."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = "codeformer_core"
WEBUI = "codeformer_webui"
PACKAGES = (CORE, "nodes", WEBUI)
# Broken or absent on many machines, slow to import on the others: only inside the functions that use them.
HEAVY = {"cv2", "facexlib", "torchvision", "basicsr", "numba", "scipy", "skimage", "sklearn", "safetensors", "spandrel"}
HEAVY |= {"av", "ray", "pyarrow", "fsspec"}
HEAVY |= {"lpips", "torchmetrics", "torch_fidelity", "matplotlib", "tensorboard", "yaml"}
HOST = {"comfy", "folder_paths", "comfy_api", "comfy_execution", "comfy_extras", "server", "execution"}
WEBUI_HOST = {"modules", "modules_forge", "backend", "ldm_patched", "launch", "webui"}


@dataclass(frozen=True)
class Import:
    """target: dotted, absolute; relative: written with dots; at_start: run when the module is imported."""

    target: str
    relative: bool
    at_start: bool
    line: int

    @property
    def package(self) -> str:
        return self.target.partition(".")[0]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports_of(path: Path) -> list[Import]:
    """All imports of a file but those for type checkers only."""
    name = module_name(path)
    home = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    found: list[Import] = []

    def visit(node: ast.AST, at_start: bool) -> None:
        if only_for_types(node):
            return
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, False, at_start, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = home[: len(home) - node.level + 1] if node.level else []
            target = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                # `from . import memory` means the module, `from .memory import require` a name in it.
                whole = f"{target}.{alias.name}" if target else alias.name
                is_module = whole in MODULES or not node.module
                found.append(Import(whole if is_module else target, node.level > 0, at_start, node.lineno))
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, at_start and not inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), True)
    return found


def own_targets(name: str, at_start: bool | None = None) -> set[str]:
    """Modules of ours that module `name` imports."""
    return {
        found.target
        for found in imports_of(MODULES[name])
        if found.package in PACKAGES and (at_start is None or found.at_start == at_start)
    }


def in_folder(folder: str) -> list[str]:
    return [name for name in MODULES if name == folder or name.startswith(f"{folder}.")]


def test_the_sources_are_found():
    assert len(in_folder(CORE)) > 25 and len(in_folder("nodes")) > 5
    assert f"{CORE}.imaging.tensors" in own_targets(f"{CORE}.pipeline.restore")
    assert f"{CORE}.faces.types" in own_targets(f"{CORE}.faces.geometry")


# package of the core -> the packages below it that it may import; cli, commands and dictionary stand on top of all
BELOW = {
    "runtime": (),
    "networks": (),
    "degradation": (),
    "imaging": ("runtime",),
    "weights": ("runtime",),
    "faces": ("weights", "networks", "imaging", "runtime"),
    "metrics": ("faces", "weights", "networks", "imaging", "runtime"),
    "models": ("faces", "weights", "networks", "imaging", "runtime"),
    "pipeline": ("models", "faces", "imaging", "runtime"),
    "study": ("pipeline", "models", "faces", "imaging", "runtime", "degradation", "metrics"),
    "training": ("models", "faces", "weights", "networks", "imaging", "runtime", "degradation", "metrics"),
}
# The same within the package that is large enough to have layers of its own.
BELOW_IN_TRAINING = {
    "training.data": ("training.data", "imaging", "runtime", "degradation"),
    "training.losses": ("training.losses", "networks", "metrics", "weights", "faces.identity", "models"),
}
ALLOWED = {package: (package, *below) for package, below in BELOW.items()} | BELOW_IN_TRAINING


@pytest.mark.parametrize("importer", ALLOWED)
def test_layers_import_only_what_lies_below(importer):
    modules = in_folder(f"{CORE}.{importer}")
    assert modules
    allowed = [f"{CORE}.{below}" for below in ALLOWED[importer]]
    for name in modules:
        forbidden = [
            target
            for target in own_targets(name)
            if not any(target == below or target.startswith(f"{below}.") for below in allowed)
        ]
        assert forbidden == [], f"{name} imports {forbidden}"


def test_every_package_of_the_core_has_its_layer():
    packages = {name.split(".")[1] for name, path in MODULES.items() if name.startswith(f"{CORE}.")}
    assert packages == {*BELOW, "cli", "__main__", "commands", "dictionary"}


def test_the_core_knows_neither_nodes_nor_host():
    for name in in_folder(CORE):
        above = {"nodes", WEBUI, "tools", "gradio", "fastapi", *HOST, *WEBUI_HOST}
        foreign = [found for found in imports_of(MODULES[name]) if found.package in above]
        assert foreign == [], name


def test_only_one_file_imports_the_host():
    importers = set()
    for path in [*MODULES.values(), ROOT / "__init__.py", ROOT / "install.py"]:
        if any(found.package in (HOST - {"comfy_api"}) | WEBUI_HOST for found in imports_of(path)):
            importers.add(path.relative_to(ROOT).as_posix())
    assert importers == {"nodes/host.py", "codeformer_webui/host.py"}


def test_what_the_webui_runs_by_itself_is_thin():
    """It runs every file of scripts/ at its start, and imports preload.py before everything else."""
    script, preload = ROOT / "scripts" / "codeformer.py", ROOT / "preload.py"
    assert [path.name for path in (ROOT / "scripts").iterdir() if path.suffix == ".py"] == [script.name]
    assert {found.package for found in imports_of(script)} == {WEBUI}
    assert {found.package for found in imports_of(preload)} <= {"__future__", "argparse"}


def test_without_a_host_the_webui_side_can_be_read():
    """What needs no host is imported by tests, and by nobody's Gradio."""
    for name in ("options", "images", "bodies"):
        foreign = {found.package for found in imports_of(MODULES[f"{WEBUI}.{name}"])}
        assert not foreign & {"gradio", "fastapi", *WEBUI_HOST}
        assert f"{WEBUI}.host" not in own_targets(f"{WEBUI}.{name}")


@pytest.mark.parametrize("package", PACKAGES)
def test_own_modules_are_imported_relatively(package):
    """The pack is loaded from a folder whose name has a hyphen, under a name nobody knows beforehand; the WebUI puts
    that folder on the path, where codeformer_core is beside codeformer_webui."""
    beside = {CORE} if package == WEBUI else set()
    for name in in_folder(package):
        found_here = (found for found in imports_of(MODULES[name]) if found.package not in beside)
        absolute = [found for found in found_here if found.package in PACKAGES and not found.relative]
        assert absolute == [], name


@pytest.mark.parametrize("package", [*PACKAGES, "the root"])
def test_heavy_packages_are_imported_where_they_are_used(package):
    paths = [MODULES[name] for name in in_folder(package)] or [ROOT / "__init__.py", ROOT / "install.py"]
    for path in paths:
        heavy = [found for found in imports_of(path) if found.at_start and found.package in HEAVY]
        assert heavy == [], path


def test_only_the_video_pipeline_knows_how_videos_are_read():
    for name, path in MODULES.items():
        if not name.startswith(f"{CORE}.pipeline.video"):
            assert not any(found.package == "av" for found in imports_of(path)), name


def test_basicsr_is_nobodys():
    for name, path in MODULES.items():
        assert not any(found.package == "basicsr" for found in imports_of(path)), name


def test_there_are_no_cycles():
    """Also counting imports inside functions: a cycle put off is still a cycle."""
    targets = {name: own_targets(name) - {name} for name in MODULES}
    finished: set[str] = set()

    def walk(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join([*way[way.index(name) :], name])
        if name in finished:
            return
        for target in sorted(targets[name] & MODULES.keys()):
            walk(target, (*way, name))
        finished.add(name)

    for name in MODULES:
        walk(name, ())
    assert finished == MODULES.keys()


# What only a front end has: nodes and their wires, widgets, options of a command. pip's own options are no command's.
OF_A_FRONT_END = re.compile(
    r"\b(connect|connected|disconnect|wire|wires|socket|sockets|slider|sliders|widget|in ComfyUI,)\b"
    r"|(?<![\w-])--[a-z]|\bCure\b|\bcure:",
    re.IGNORECASE,
)
PIP = re.compile(r"pip (un)?install[^,;.]*")
ABOVE_THE_CORE = ("commands", "cli", "__main__", "training", "dictionary")
DISPLAY_NAMES = re.compile(r'display_name="([A-Z][^"]+)"')


def spoken(path: Path) -> list[tuple[int, str]]:
    """The string literals of a file but its docstrings, with their lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # A string that stands alone is a comment.
    silent = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        (node.lineno, node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in silent
    ]


def node_names() -> set[str]:
    """Those of two words or more: a word alone may mean something else."""
    schemas = [MODULES[name].read_text(encoding="utf-8") for name in in_folder("nodes")]
    names = {name for schema in schemas for name in DISPLAY_NAMES.findall(schema)}
    hosts = {"Load Upscale Model", "Detect Face Landmarks"}
    return {name for name in names if " " in name} | hosts


def test_the_core_names_no_node_wire_or_option():
    names = node_names()
    assert {"Face Restore", "Load Face Detector", "Crop Faces"} <= names
    found = []
    for module in in_folder(CORE):
        if module == CORE or module.split(".")[1] in ABOVE_THE_CORE:
            continue
        for line, text in spoken(MODULES[module]):
            if OF_A_FRONT_END.search(PIP.sub("", text)) or any(name in text for name in names):
                found.append(f"{module}:{line}: {text}")
    assert found == []


def test_such_words_would_be_found(tmp_path):
    """Guards the test above."""
    path = tmp_path / "one.py"
    path.write_text('"""connect, as a docstring"""\nraise ValueError(f"{1}: connect it, or --overwrite")\n', "utf-8")
    (literal,) = [text for _, text in spoken(path)]
    assert OF_A_FRONT_END.search(literal) and not OF_A_FRONT_END.search(PIP.sub("", "run pip install --upgrade numpy"))
    assert all(OF_A_FRONT_END.search(word) for word in ("--overwrite replaces it", "Cure: x", "the wire", "a slider"))


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_brings_nothing_heavy():
    loaded = run_python(
        "import sys, codeformer_core.pipeline.restore, codeformer_core.models.loading\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    assert loaded == "[]"


def test_the_bare_package_brings_not_even_torch():
    loaded = run_python("import sys, codeformer_core\nprint(sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)))")
    assert loaded == "[]"


def test_public_names_are_found_when_asked_for():
    code = (
        "import codeformer_core as cf\n"
        "print(all(hasattr(cf, name) for name in dir(cf)) and len(dir(cf)))\n"
        "try:\n    cf.no_such_name\nexcept AttributeError as error:\n    print(error)"
    )
    public = public_names()
    assert run_python(code).splitlines() == [
        str(len(public)),
        "module 'codeformer_core' has no attribute 'no_such_name'",
    ]


def public_names() -> set[str]:
    """Those that type checkers are told of."""
    tree = ast.parse(MODULES[CORE].read_text(encoding="utf-8"))
    (typed,) = [node for node in tree.body if only_for_types(node)]
    return {alias.name for node in ast.walk(typed) if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_front_ends_use_public_names_only():
    """What one needs beyond these belongs on the list."""
    public = public_names()
    for name in (*in_folder("nodes"), *in_folder(WEBUI)):
        tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith(f"{CORE}."), f"{name}:{node.lineno} imports {node.module}"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "core":
                assert node.attr in public, f"{name}:{node.lineno} uses core.{node.attr}"
